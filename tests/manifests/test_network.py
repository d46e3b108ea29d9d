"""NetworkPolicies let every workload reach what its variables name, and nobody else in than Knative and Prometheus."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra.local.assembly import MANIFESTS, ROOT
from infra.local.manifests import load
from tests.manifests.network import OUTSIDE, Peer, passes, pods
from tests.manifests.rendering import Object, kustomize, named

REACHED_BY = {
    "DATABASE_URL": (5432, 6432),
    "RELAY_DATABASE_URL": (5432,),
    "MIGRATION_DATABASE_URL": (5432,),
    "REDIS_URL": (6379, 26379),
    "OIDC_ISSUER_URL": (443, 8443),
    "LITELLM_BASE_URL": (4000, 8080, 11434),
    "OTLP_ENDPOINT": (4317,),
    "DATAREF_ALLOWED_ORIGINS": (443, 8443),
    "S3_ENDPOINT_URL": (443, 8443),
}
"""The variables that name an address, and the ports that they may name, or to which a Service of theirs leads."""

LOADED = load(MANIFESTS)
FUNCTIONS = set(LOADED.services)
WORKLOADS = {
    "every function": FUNCTIONS,
    "HTTP functions": {name for name, service in LOADED.services.items() if not service.cluster_local},
    "inference": {"inference-light", "inference-standard", "inference-heavy"},
    "`alembic`": {"migrate"},
}
DNS = Peer("kube-system", (("k8s-app", "kube-dns"),))
NODE_DNS = (Peer("kube-system", (("k8s-app", "node-local-dns"),)), Peer(address="169.254.20.10"))
"""NodeLocal DNSCache: its pods, and the address that it has on every node."""
BROKER = Peer("knative-eventing", (("eventing.knative.dev/brokerRole", "ingress"),))
ACTIVATOR = Peer("knative-serving", (("app", "activator"),))
GATEWAY = Peer("kourier-system", (("app", "3scale-kourier-gateway"),))
PROMETHEUS = Peer("monitoring", (("app.kubernetes.io/name", "prometheus"),))
STRANGER = Peer("default")
NEIGHBOUR = Peer("enterprise-agents", (("app.kubernetes.io/part-of", "enterprise-agent-platform"),))


def readers() -> Iterator[tuple[str, str]]:
    """Yield each variable that names an address with each workload that reads it, as docs/configuration.md tells."""
    for line in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for variable in re.findall(r"`([A-Z0-9_]+)`", cells[0]):
            if variable in REACHED_BY:
                for reader in cells[-1].split(", "):
                    # A command is no workload, but for the one that the Job runs.
                    workloads = WORKLOADS.get(reader, set() if reader.startswith("`") else {reader})
                    yield from ((variable, name) for name in workloads)


READERS = sorted(set(readers()))


def test_the_documents_tell_who_reads_each_address(base: list[Object]) -> None:
    assert {variable for variable, _ in READERS} == set(REACHED_BY)
    assert {name for _, name in READERS} == set(pods(base))


@pytest.mark.parametrize(("variable", "name"), READERS)
def test_a_workload_reaches_what_its_variables_name(base: list[Object], variable: str, name: str) -> None:
    for port in REACHED_BY[variable]:
        for peer in (OUTSIDE, NEIGHBOUR, Peer("elsewhere")):
            assert passes(base, "egress", pods(base)[name], peer, port), (variable, port, peer)


def test_a_workload_reaches_nothing_else(base: list[Object]) -> None:
    allowed = {port for ports in REACHED_BY.values() for port in ports}
    for name, labels in pods(base).items():
        reached = {port for port in (*allowed, 22, 80, 9000) if passes(base, "egress", labels, OUTSIDE, port)}
        wanted = {port for variable, reader in READERS if reader == name for port in REACHED_BY[variable]}
        assert reached == wanted | {6432}, name
        assert passes(base, "egress", labels, DNS, 53, "UDP")
        for peer in (Peer("default", DNS.labels), Peer("kube-system", (("k8s-app", "other"),)), OUTSIDE):
            assert not passes(base, "egress", labels, peer, 53, "UDP")
        assert passes(base, "egress", labels, BROKER, 8443) == (name == "relay" or 8443 in wanted)


@pytest.mark.parametrize("peer", [DNS, *NODE_DNS])
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_everybody_learns_names_with_and_without_a_cache_on_each_node(
    base: list[Object], peer: Peer, protocol: str
) -> None:
    for name, labels in pods(base).items():
        assert passes(base, "egress", labels, peer, 53, protocol), name
        assert not passes(base, "egress", labels, peer, 54, protocol), name


def test_functions_are_reached_through_the_queue_proxy_alone(base: list[Object]) -> None:
    for name, labels in pods(base).items():
        served = name in FUNCTIONS
        for port in (8012, 8013, 8112):
            assert passes(base, "ingress", labels, ACTIVATOR, port) == served
            assert passes(base, "ingress", labels, GATEWAY, port) == served
        for port in (8022, 9090):
            assert passes(base, "ingress", labels, ACTIVATOR, port) == served
            assert not passes(base, "ingress", labels, GATEWAY, port)
        for port in (8080, 9090, 9091):
            assert passes(base, "ingress", labels, PROMETHEUS, port) == served
        for peer in (STRANGER, NEIGHBOUR, OUTSIDE):
            assert not any(passes(base, "ingress", labels, peer, port) for port in (8012, 8013, 8022, 8080, 9090))
        assert not passes(base, "ingress", labels, ACTIVATOR, 8080)


def test_another_gateway_is_named_by_a_patch(base: list[Object]) -> None:
    [origin] = named(base, "NetworkPolicy/from-gateway")["spec"]["ingress"][0]["from"]
    origin["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = "istio-system"
    labels = pods(base)["chat"]
    assert passes(base, "ingress", labels, Peer("istio-system"), 8012)
    assert not passes(base, "ingress", labels, GATEWAY, 8012)


def patched(folder: Path, policy: str) -> list[Object]:
    """Return the base with the patch of a policy that docs/deployment.md gives."""
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    [patch] = [
        block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if f"name: {policy}" in block.split("}")[0]
    ]
    own = {"resources": [os.path.relpath(MANIFESTS, folder.resolve())], **yaml.safe_load(patch)}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return kustomize(folder)


def test_names_elsewhere_are_learnt_by_the_patch_of_the_document(tmp_path: Path) -> None:
    documents = patched(tmp_path, "names")
    labels = pods(documents)["sweeper"]
    assert passes(documents, "egress", labels, DNS, 53, "UDP")
    assert passes(documents, "egress", labels, Peer(address="10.96.0.10"), 53, "UDP")
    assert passes(documents, "egress", labels, Peer("openshift-dns"), 5353, "UDP")


def test_a_store_in_the_cluster_is_reached_by_the_patch_of_the_document(tmp_path: Path) -> None:
    documents = patched(tmp_path, "to-https")
    labels = pods(documents)
    for port in (443, 8443, 8080, 9000):
        assert passes(documents, "egress", labels["ingestion-worker"], Peer("minio"), port)
        assert not passes(documents, "egress", labels["sweeper"], Peer("minio"), port)


@pytest.mark.parametrize("policy", ["nothing-else", "to-models", "to-https", "to-broker", "to-postgresql", "names"])
def test_without_a_policy_a_check_fails(base: list[Object], policy: str) -> None:
    documents = [document for document in base if document["metadata"]["name"] != policy]
    labels = pods(base)
    seen = (
        passes(documents, "ingress", labels["relay"], STRANGER, 8080),
        passes(documents, "egress", labels["chat"], OUTSIDE, 4000),
        passes(documents, "egress", labels["chat"], OUTSIDE, 443),
        passes(documents, "egress", labels["relay"], BROKER, 8080),
        passes(documents, "egress", labels["migrate"], OUTSIDE, 5432),
        passes(documents, "egress", labels["health"], DNS, 53, "UDP"),
    )
    usual = (False, True, True, True, True, True)
    assert seen != usual
