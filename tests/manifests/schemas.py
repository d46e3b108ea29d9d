"""Whether an object is valid by the schemas: Kubernetes' own, and Knative's, in which an unknown field is an error."""

from collections.abc import Iterator, Mapping

import kubernetes_validate

from tests.manifests.crd import Schema, errors
from tests.manifests.operators import kinds
from tests.manifests.rendering import Object, group, title

Schemas = Mapping[tuple[str, str], Schema]

KUBERNETES = ("1.28", "1.37")
"""The oldest release that is supported, and the newest one that is known here."""

# What apiextensions adds to every custom resource, whatever its schema says.
COMMON: dict[str, Schema] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"},
            "namespace": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}
OPERATORS = kinds(COMMON)
# Knative's schemas leave these open ("preserve unknown fields"); this is what it reads there.
DELIVERY = {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"}


def is_knative(document: Object) -> bool:
    """Return whether Knative defines the object's kind."""
    return group(document).endswith("knative.dev")


def invalid(document: Object, crds: Schemas | None) -> list[str]:
    """Return what is wrong with an object by its schema; Knative's are left out where there are none at hand."""
    if (known := OPERATORS.get((document["apiVersion"], document["kind"]))) is not None:
        return list(errors(document, known, title(document)))
    if not is_knative(document):
        return list(_invalid_for_kubernetes(document))
    return [] if crds is None else list(_invalid_for_knative(document, crds))


def _invalid_for_kubernetes(document: Object) -> Iterator[str]:
    yield from errors(document["metadata"], COMMON["metadata"], f"{title(document)}.metadata")
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{title(document)}: {error.message}"
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(step) for step in error.path)
            yield f"{title(document)}: {where}: {error.message} (Kubernetes {version})"


def _invalid_for_knative(document: Object, crds: Schemas) -> Iterator[str]:
    known = crds.get((document["apiVersion"], document["kind"]))
    if known is None:
        yield f"{title(document)}: Knative has no such kind in {document['apiVersion']}"
        return
    yield from errors(document, {**known, "properties": {**known["properties"], **COMMON}}, title(document))
    spec = document.get("spec", {})
    yield from (
        f"{title(document)}.delivery: unknown field {name}" for name in set(spec.get("delivery", {})) - DELIVERY
    )
    if document["kind"] == "ContainerSource":
        # A pod's template, as Kubernetes knows it: what becomes of it is a Deployment.
        yield from _invalid_for_kubernetes(_deployment(document))
    if document["kind"] == "JobSink" and "job" in spec:
        yield from _invalid_for_kubernetes({**spec["job"], **_job(document)})


def _job(sink: Object) -> Object:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": sink["metadata"]["name"]}}


def _deployment(source: Object) -> Object:
    labels = source["spec"]["template"].get("metadata", {}).get("labels", {})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": source["metadata"]["name"]},
        "spec": {"selector": {"matchLabels": labels}, "template": source["spec"]["template"]},
    }
