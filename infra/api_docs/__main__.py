"""Writes the documents of all events and operations into docs/: `python -m infra.api_docs` (make api-docs)."""

import json
import logging
import sys
import tomllib
from typing import Any

from infra.api_docs import asyncapi, openapi
from infra.api_docs.catalogue import Wiring
from infra.api_docs.page import page
from infra.local.assembly import ROOT


def version() -> str:
    """Return the platform's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told: str = project["version"]
    return told


def documents() -> dict[str, str]:
    """Return each document's text by its path below the repository's root."""
    wiring = Wiring.read()
    return {
        "docs/asyncapi.json": _text(asyncapi.document(version(), wiring)),
        "docs/openapi.json": _text(openapi.merge(version(), openapi.served(wiring.manifests))),
        "docs/events.md": page(wiring),
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the documents, and say which have changed."""
    # Event functions serve no document, and log that they were asked for one.
    logging.disable(logging.CRITICAL)
    for name, text in documents().items():
        path = ROOT / name
        changed = not path.exists() or path.read_text(encoding="utf-8") != text
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}: {'written' if changed else 'as it was'}\n")


if __name__ == "__main__":
    main()
