"""What the kustomizations of infra/kubernetes render."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from infra.local.assembly import MANIFESTS, ROOT
from tests.manifests.rendering import Object, kustomize

KUBERNETES = ROOT / "infra" / "kubernetes"
FOLDERS = sorted(path.parent.relative_to(KUBERNETES).as_posix() for path in KUBERNETES.rglob("kustomization.yaml"))
PARTS = {"vllm/tier", "vllm/light", "vllm/standard", "vllm/heavy"}
"""Of which another one is made; they are not applied by themselves."""
NAMESPACE = "enterprise-agents"


@cache
def _text(folder: Path) -> str:
    return yaml.safe_dump_all(kustomize(folder))


def rendered(name: str) -> list[Object]:
    """Return a copy of one's own of what a folder of infra/kubernetes renders."""
    return list(yaml.safe_load_all(_text(KUBERNETES / name)))


def base() -> list[Object]:
    """Return a copy of one's own of what knative/base renders."""
    return list(yaml.safe_load_all(_text(MANIFESTS)))


def of_kind(documents: list[Object], *kinds: str) -> dict[str, Object]:
    """Return the objects of some kinds by their names."""
    return {document["metadata"]["name"]: document for document in documents if document["kind"] in kinds}


def volumes(pod: Object) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what a pod's volumes are made of."""
    for volume in pod["spec"].get("volumes", ()):
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in sources:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "persistentVolumeClaim" in source:
                yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]


def secret_keys(pod: Object) -> Iterator[tuple[str, str, bool]]:
    """Yield Secret, key and whether it may be missing, of all that a pod takes from Secrets."""
    for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
        for variable in container.get("env", ()):
            if ref := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield ref["name"], ref["key"], ref.get("optional", False)
    for volume in pod["spec"].get("volumes", ()):
        for source in volume.get("projected", {}).get("sources", ()):
            for item in source.get("secret", {}).get("items", ()):
                yield source["secret"]["name"], item["key"], False
