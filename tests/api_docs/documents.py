"""The documents under docs/, and what they say of a message."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from infra.local.assembly import ROOT

Json = dict[str, Any]
DOCS = ROOT / "docs"


@cache
def asyncapi() -> Json:
    document: Json = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))
    return document


@cache
def openapi() -> Json:
    document: Json = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    return document


def messages(channel: str) -> dict[str, Json]:
    """Return the messages of a channel by their names."""
    found = asyncapi()["channels"][channel]["messages"].values()
    return {message["name"]: message for message in found}


def wrong(value: object, schema: Json) -> list[str]:
    """Return what stands against a value, by a schema of the AsyncAPI document."""
    return wrong_in(asyncapi(), value, schema)


def wrong_in(document: Json, value: object, schema: Json) -> list[str]:
    """Return what stands against a value, by a schema of a document; formats are held too."""
    whole = {**schema, "components": document["components"]}
    validator = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]
