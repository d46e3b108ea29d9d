"""What NetworkPolicies let pass: allowed is what any policy allows, and everything for pods that none selects."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tests.manifests.references import pod_labels, selects
from tests.manifests.rendering import Object, pod_template

Labels = Mapping[str, str]
NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """The other end: a pod by its labels and its namespace's, or, with neither, an address that is no pod's."""

    namespace: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    address: str = "203.0.113.7"


OUTSIDE = Peer()


def pods(documents: list[Object]) -> dict[str, dict[str, str]]:
    """Return the labels of every workload's pods by the name they bear."""
    found = [pod_labels(document) for document in documents if pod_template(document) is not None]
    return {labels["app.kubernetes.io/name"]: labels for labels in found}


def passes(documents: list[Object], direction: str, pod: Labels, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Return whether a pod may be reached by a peer (`ingress`), or reach it (`egress`), at a port."""
    about = [
        document["spec"]
        for document in documents
        if document["kind"] == "NetworkPolicy"
        and direction.capitalize() in document["spec"]["policyTypes"]
        and selects(document["spec"]["podSelector"], pod)
    ]
    side = {"ingress": "from", "egress": "to"}[direction]
    rules = [rule for spec in about for rule in spec.get(direction, ())]
    return not about or any(
        _port(rule, port, protocol) and (side not in rule or any(_matches(peer, one) for one in rule[side]))
        for rule in rules
    )


def _port(rule: Object, port: int, protocol: str) -> bool:
    return "ports" not in rule or any(
        one["port"] == port and one.get("protocol", "TCP") == protocol for one in rule["ports"]
    )


def _matches(peer: Peer, allowed: Object) -> bool:
    if peer.namespace is None or "ipBlock" in allowed:
        return peer.namespace is None and "ipBlock" in allowed and _within(peer.address, allowed["ipBlock"])
    if "namespaceSelector" in allowed:
        if not selects(allowed["namespaceSelector"], {NAMESPACE: peer.namespace}):
            return False
    elif peer.namespace != "enterprise-agents":
        return False
    return selects(allowed.get("podSelector", {}), dict(peer.labels))


def _within(address: str, block: Object) -> bool:
    own = ip_address(address)
    return own in ip_network(block["cidr"]) and not any(own in ip_network(cidr) for cidr in block.get("except", ()))
