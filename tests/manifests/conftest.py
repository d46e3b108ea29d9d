import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra.local.assembly import MANIFESTS, ROOT
from tests.manifests.crd import Schema, schemas
from tests.manifests.rendering import FOLDERS, Object, rendered

SECRETS = {
    "enterprise-agents": set(
        re.findall(r"^#   ([A-Z0-9_]+) ", (MANIFESTS / "configmap.yaml").read_text(), re.MULTILINE)
    ),
    "enterprise-agents-tls": {"tls.crt", "tls.key"},
}
"""The keys of the Secrets, which are made outside of this repository, as the manifests tell of them."""

PARTS_KEYS = {
    key
    for row in re.findall(r"^\| (`[A-Z_`, ]+`) \|", (ROOT / "docs" / "infrastructure.md").read_text(), re.MULTILINE)
    for key in re.findall(r"`([A-Z_]+)`", row)
}
"""The keys of the Secret `enterprise-agents` that the parts of infra/kubernetes read, as their document tells."""
EVERY_SECRET = {**SECRETS, "enterprise-agents": SECRETS["enterprise-agents"] | PARTS_KEYS}


def _beside_the_checkout() -> Iterator[Path]:
    """Yield where Knative's CRDs may lie: beside this checkout, or, from a work tree, beside the main one."""
    yield ROOT.parent / "shared" / "knative-crds"
    pointer = ROOT / ".git"
    if pointer.is_file():
        common = Path(pointer.read_text().removeprefix("gitdir:").strip())
        yield common.parents[2].parent / "shared" / "knative-crds"


@pytest.fixture(scope="session")
def found_crds() -> dict[tuple[str, str], Schema] | None:
    """The schemas of Knative's resources by (apiVersion, kind), where they are at hand."""
    return next((schemas(folder) for folder in _beside_the_checkout() if folder.is_dir()), None)


@pytest.fixture(scope="session")
def crds(found_crds: dict[tuple[str, str], Schema] | None) -> dict[tuple[str, str], Schema]:
    """The schemas of Knative's resources by (apiVersion, kind)."""
    if found_crds is None:
        pytest.skip("Knative's CRDs are not beside this repository (../shared/knative-crds)")
    return found_crds


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


@pytest.fixture(params=list(FOLDERS))
def documents(request: pytest.FixtureRequest) -> list[Object]:
    """What each kustomization renders, one after the other; a copy that the test may change."""
    return rendered(request.param)


@pytest.fixture
def base() -> list[Object]:
    """What the base renders; a copy that the test may change."""
    return rendered("base")


def files_on_disk() -> set[Path]:
    return {path for path in MANIFESTS.rglob("*.yaml") if path.name != "kustomization.yaml"}
