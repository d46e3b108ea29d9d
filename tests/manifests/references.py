"""Whether what the objects of one kustomization name exists, and whether they agree with each other."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from infra.local.durations import parse_duration
from tests.manifests.rendering import Object, containers, group, pod_template, title

PART_OF = ("app.kubernetes.io/part-of", "enterprise-agent-platform")
NAME = "app.kubernetes.io/name"
IMAGE = "enterprise-agent-platform"
NAMESPACE = "enterprise-agents"
_CLUSTER_SCOPED = frozenset({"ClusterSecretStore", "Namespace"})

Key = tuple[str, str, str]


def broken(documents: list[Object], secrets: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what does not agree; `secrets` are the keys of each Secret, which no manifest holds."""
    checks = (_alone, _labelled, _accounts, _destinations, _deliveries, _selectors, _images)
    return [*_variables(documents, secrets), *(reason for check in checks for reason in check(documents))]


def _key(document: Object) -> Key:
    return group(document), document["kind"], document["metadata"]["name"]


def _alone(documents: list[Object]) -> Iterator[str]:
    for key, count in Counter(_key(document) for document in documents).items():
        if count > 1:
            yield f"{key[1]}/{key[2]}: there are {count}"


def _labelled(documents: list[Object]) -> Iterator[str]:
    for document in documents:
        metadata = document["metadata"]
        if metadata.get("labels", {}).get(PART_OF[0]) != PART_OF[1]:
            yield f"{title(document)}: label {PART_OF[0]} is missing"
        if (metadata.get("namespace") == NAMESPACE) == (document["kind"] in _CLUSTER_SCOPED):
            yield f"{title(document)}: is not in the namespace {NAMESPACE}"
        template = pod_template(document)
        if template is not None:
            labels = template.get("metadata", {}).get("labels", {})
            if labels.get(PART_OF[0]) != PART_OF[1] or not labels.get(NAME):
                yield f"{title(document)}: its pods have no label {NAME}, or none {PART_OF[0]}"


def _accounts(documents: list[Object]) -> Iterator[str]:
    accounts = {d["metadata"]["name"]: d for d in documents if d["kind"] == "ServiceAccount"}
    used: Counter[str] = Counter()
    for document in documents:
        template = pod_template(document)
        if template is None:
            continue
        name = template["spec"].get("serviceAccountName", "default")
        used[name] += 1
        if name not in accounts:
            yield f"{title(document)}: there is no ServiceAccount {name}"
        if template["spec"].get("automountServiceAccountToken") is not False:
            yield f"{title(document)}: its pods get a token of the cluster's"
    for name, account in accounts.items():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{name}: gives its pods a token of the cluster's"
        if used[name] != 1:
            yield f"ServiceAccount/{name}: is used by {used[name]} workloads"


def _variables(documents: list[Object], secrets: Mapping[str, Iterable[str]]) -> Iterator[str]:
    maps = {d["metadata"]["name"]: set(d.get("data", {})) for d in documents if d["kind"] == "ConfigMap"}
    known = {"configMapKeyRef": maps, "secretKeyRef": {name: set(keys) for name, keys in secrets.items()}}
    for document in documents:
        for container in containers(document):
            for source in container.get("envFrom", ()):
                name = source.get("configMapRef", {}).get("name")
                if name not in maps:
                    yield f"{title(document)}: there is no ConfigMap {name}"
            for variable in container.get("env", ()):
                for origin, ref in variable.get("valueFrom", {}).items():
                    if origin in known and ref["key"] not in known[origin].get(ref["name"], ()):
                        yield f"{title(document)}: {variable['name']}: {ref['name']} has no key {ref['key']}"
        for volume in (pod_template(document) or {"spec": {}})["spec"].get("volumes", ()):
            if volume.get("configMap", {}).get("name", "enterprise-agents") not in maps:
                yield f"{title(document)}: there is no ConfigMap {volume['configMap']['name']}"
        for used in _secrets_mounted(document):
            if used not in secrets:
                yield f"{title(document)}: nobody tells of a Secret {used}"


def _secrets_mounted(document: Object) -> Iterator[str]:
    for volume in (pod_template(document) or {"spec": {}})["spec"].get("volumes", ()):
        if "secret" in volume:
            yield volume["secret"]["secretName"]
    if document["kind"] == "DomainMapping" and "tls" in document["spec"]:
        yield document["spec"]["tls"]["secretName"]


def _refs(value: object, where: str = "") -> Iterator[tuple[str, Object]]:
    """Yield every reference by apiVersion, kind and name that stands below a value, with the way to it."""
    if isinstance(value, dict):
        if where.endswith("ref") and {"kind", "name"} <= value.keys():
            yield where, value
        for name, item in value.items():
            yield from _refs(item, f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _refs(item, where)


def _destinations(documents: list[Object]) -> Iterator[str]:
    there = {_key(document) for document in documents}
    for document in documents:
        if not group(document).endswith("knative.dev"):
            continue
        for where, ref in _refs(document["spec"], "spec"):
            before, slash, _ = str(ref.get("apiVersion", "")).partition("/")
            if (before if slash else "", ref["kind"], ref["name"]) not in there:
                yield f"{title(document)}: {where}: there is no {ref['kind']} {ref['name']}"
        if (
            document["kind"] == "Trigger"
            and ("eventing.knative.dev", "Broker", document["spec"]["broker"]) not in there
        ):
            yield f"{title(document)}: there is no Broker {document['spec']['broker']}"


def _deliveries(documents: list[Object]) -> Iterator[str]:
    services = {d["metadata"]["name"]: d for d in documents if _key(d)[:2] == ("serving.knative.dev", "Service")}
    for trigger in (document for document in documents if document["kind"] == "Trigger"):
        delivery = trigger["spec"].get("delivery", {})
        if "deadLetterSink" not in delivery:
            yield f"{title(trigger)}: what cannot be delivered is dropped"
        if not delivery.get("retry"):
            yield f"{title(trigger)}: is never tried again"
        ref = trigger["spec"]["subscriber"].get("ref", {})
        if ref.get("kind") == "Service" and ref["name"] in services:
            longest = services[ref["name"]]["spec"]["template"]["spec"]["timeoutSeconds"]
            if parse_duration(delivery.get("timeout", "PT0.2S")) < longest:
                yield f"{title(trigger)}: the broker delivers again while {ref['name']} may still be at it"


def _selectors(documents: list[Object]) -> Iterator[str]:
    pods = [pod_labels(document) for document in documents if pod_template(document) is not None]
    for document in documents:
        spec = document.get("spec") or {}
        selector = {"PodDisruptionBudget": "selector", "NetworkPolicy": "podSelector"}.get(document["kind"])
        if selector and not any(selects(spec.get(selector, {}), labels) for labels in pods):
            yield f"{title(document)}: selects no pod"
        for required in (e for s in ([spec[selector]] if selector else ()) for e in s.get("matchExpressions", ())):
            known = {labels.get(required["key"]) for labels in pods}
            yield from (
                f"{title(document)}: there is no {required['key']} {value}"
                for value in required.get("values", ())
                if value not in known
            )


def _images(documents: list[Object]) -> Iterator[str]:
    of_the_platform = re.compile(rf"(.*/)?{IMAGE}(:[\w.-]+)?(@sha256:[0-9a-f]{{64}})?")
    images = {
        container["image"]
        for document in documents
        for container in containers(document)
        if of_the_platform.fullmatch(container["image"])
    }
    if len(images) != 1:
        yield f"the platform's image has {len(images)} names: {sorted(images)}"


def pod_labels(document: Object) -> dict[str, str]:
    """Return the labels that an object's pods have in a cluster; those that Knative adds included."""
    template = pod_template(document)
    assert template is not None
    labels = dict(template.get("metadata", {}).get("labels", {}))
    if group(document) == "serving.knative.dev":
        labels["serving.knative.dev/service"] = document["metadata"]["name"]
    return labels


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector takes an object with these labels; an empty one takes all."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", ()))


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", ())
    match expression["operator"]:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in values
        case "NotIn":
            return value not in values
    raise NotImplementedError(expression)
