import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.assembly import MANIFESTS, ROOT
from tests.manifests.crd import Schema, schemas

CRDS = ROOT.parent / "shared" / "knative-crds"

Object = dict[str, Any]


@pytest.fixture(scope="session")
def crds() -> dict[tuple[str, str], Schema]:
    """The schemas of Knative's resources by (apiVersion, kind)."""
    if not CRDS.is_dir():
        pytest.skip("Knative's CRDs are not beside this repository (../shared/knative-crds)")
    return schemas(CRDS)


@pytest.fixture(scope="session")
def objects() -> dict[str, Object]:
    """Every object of the base by `kind/name`, read from the files that the kustomization lists."""
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    documents = [
        document for name in listed for document in yaml.safe_load_all((MANIFESTS / name).read_text()) if document
    ]
    found = {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="session")
def rendered() -> list[Object]:
    """What `kubectl kustomize` makes of the base."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(MANIFESTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def files_on_disk() -> set[Path]:
    return {path for path in MANIFESTS.rglob("*.yaml") if path.name != "kustomization.yaml"}
