"""What this file system is made of, as a CycloneDX 1.6 document on standard output.

Run in the image's build by the interpreter whose packages are listed: its distributions, Python itself, and Debian's packages.
Only the standard library is used, so that nothing is installed to say what is installed.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import uuid
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPECIFICATION = "1.6"
MAX_LICENCE_CHARS = 100
"""Some packages have the licence's whole text where its name belongs."""
LICENCE = "License :: "

Component = dict[str, Any]


def document(name: str, root: Path = Path("/")) -> dict[str, Any]:
    """Return the document; the same contents make the same one, so that it has no time."""
    system = _pairs((root / "etc/os-release").read_text(encoding="utf-8"), "=")
    components = [
        *sorted((_python(found) for found in distributions()), key=lambda component: component["purl"]),
        _component("application", "python", platform.python_version(), "generic"),
        {
            "type": "operating-system",
            "bom-ref": "operating-system",
            "name": system.get("ID", "linux"),
            "version": system.get("VERSION_ID", ""),
        },
        *_debian(root / "var/lib/dpkg/status", system),
    ]
    told = json.dumps(components, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, told)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {"type": "container", "bom-ref": name, "name": name},
        },
        "components": components,
    }


def _component(kind: str, name: str, version: str, ecosystem: str, qualifiers: str = "") -> Component:
    """Return a component under its package URL (https://github.com/package-url/purl-spec)."""
    purl = f"pkg:{ecosystem}/{quote(name)}@{quote(version, safe='.+-~')}{qualifiers}"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _python(found: Distribution) -> Component:
    name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    component = _component("library", name, found.version, "pypi")
    if licences := _licences(found):
        component["licenses"] = licences
    return component


def _licences(found: Distribution) -> list[dict[str, Any]]:
    """Return what a distribution says of its licence, in the form that says most of those it uses."""
    told = found.metadata
    if expression := told["License-Expression"]:
        return [{"expression": expression}]
    names = [
        classifier.rpartition(" :: ")[2]
        for classifier in told.get_all("Classifier", [])
        if classifier.startswith(LICENCE)
    ]
    text = (told["License"] or "").strip()
    if not names and text:
        names = [text.splitlines()[0][:MAX_LICENCE_CHARS]]
    return [{"license": {"name": name}} for name in names]


def _debian(status: Path, system: Mapping[str, str]) -> Iterator[Component]:
    """Return the installed packages of a Debian system, none on another."""
    if not status.is_file():
        return
    distro = f"{system.get('ID', 'debian')}-{system.get('VERSION_ID', '')}"
    for paragraph in status.read_text(encoding="utf-8").split("\n\n"):
        fields = _pairs(paragraph, ":")
        if fields.get("Status", "").endswith(" installed"):
            qualifiers = f"?arch={fields['Architecture']}&distro={distro}"
            yield _component(
                "library", fields["Package"], fields["Version"], f"deb/{system.get('ID', 'debian')}", qualifiers
            )


def _pairs(text: str, separator: str) -> dict[str, str]:
    """Return the fields of lines such as `NAME="value"` or `Name: value`; lines that go on are left out."""
    lines = (line.partition(separator) for line in text.splitlines() if line and not line[0].isspace())
    return {name: value.strip().strip('"') for name, _, value in lines}


if __name__ == "__main__":
    json.dump(document("enterprise-agent-platform"), sys.stdout, indent=1)
