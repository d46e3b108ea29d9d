"""Every object is valid by Knative's own schemas, in which an unknown field is an error."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.manifests.conftest import Object
from tests.manifests.crd import Schema, errors

Schemas = dict[tuple[str, str], Schema]
# What apiextensions adds to every custom resource, whatever its schema says.
COMMON = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
            "namespace": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}
# Both schemas leave these open ("preserve unknown fields"); this is what Knative reads there.
DELIVERY = {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"}


def invalid(document: Object, crds: Schemas) -> list[str]:
    schema = crds[document["apiVersion"], document["kind"]]
    strict = {**schema, "properties": {**schema["properties"], **COMMON}}
    found = list(errors(document, strict, document["kind"]))
    return found + list(invalid_where_open(document, crds))


def invalid_where_open(document: Object, crds: Schemas) -> Iterator[str]:
    spec = document.get("spec", {})
    yield from (f"delivery: unknown field {name}" for name in set(spec.get("delivery", {})) - DELIVERY)
    if document["kind"] == "ContainerSource":
        service = crds["serving.knative.dev/v1", "Service"]
        template = service["properties"]["spec"]["properties"]["template"]
        yield from errors(spec["template"], template, "ContainerSource.spec.template")


def custom(documents: list[Object]) -> list[Object]:
    return [document for document in documents if ".knative.dev/" in document["apiVersion"]]


def test_every_object_of_the_base_is_valid(objects: dict[str, Object], crds: Schemas) -> None:
    checked = custom(list(objects.values()))
    assert {name: found for name in checked_names(checked) if (found := invalid(objects[name], crds))} == {}
    kinds = {document["kind"] for document in checked}
    assert kinds == {"Service", "Broker", "Trigger", "PingSource", "ContainerSource"}


def checked_names(documents: list[Object]) -> list[str]:
    return [f"{document['kind']}/{document['metadata']['name']}" for document in documents]


def test_what_kustomize_renders_is_valid(rendered: list[Object], crds: Schemas) -> None:
    for document in custom(rendered):
        assert invalid(document, crds) == []


@pytest.mark.parametrize(
    ("name", "way", "value", "message"),
    [
        ("Service/chat", ("spec", "template", "spec", "timeout"), 1, "unknown field timeout"),
        ("Service/chat", ("spec", "template", "spec", "timeoutSeconds"), "600", "integer is expected"),
        ("Service/chat", ("spec", "template", "spec", "containers"), None, "containers is missing"),
        ("Service/chat", ("spec", "template", "spec", "containers", 0, "livenesProbe"), {}, "unknown field livenes"),
        ("Service/chat", ("metadata", "labels", "x"), 1, "string is expected"),
        ("Service/chat", ("spec", "template", "metadata", "annotations", "x"), True, "string is expected"),
        ("Trigger/inference-requested-heavy", ("spec", "filter", "attribute"), {}, "unknown field attribute"),
        ("Trigger/inference-requested-heavy", ("spec", "delivery", "retries"), 3, "unknown field retries"),
        ("Trigger/inference-requested-heavy", ("spec", "subscriber", "ref", "Name"), "x", "unknown field Name"),
        ("PingSource/sweep", ("spec", "interval"), "10s", "unknown field interval"),
        ("ContainerSource/relay", ("spec", "template", "spec", "containers", 0, "cmd"), [], "unknown field cmd"),
        ("Broker/default", ("spec", "delivery", "retry"), "10", "integer is expected"),
    ],
)
def test_a_mistake_is_found(
    objects: dict[str, Object], crds: Schemas, name: str, way: tuple[str | int, ...], value: object, message: str
) -> None:
    document: Any = copy.deepcopy(objects[name])
    parent = document
    for step in way[:-1]:
        parent = parent[step]
    if value is None:
        del parent[way[-1]]
    else:
        parent[way[-1]] = value
    assert any(message in error for error in invalid(document, crds))
