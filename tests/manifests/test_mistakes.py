"""Each check finds what it is there for: a mistake in one object of the base, made in a copy."""

from typing import Any

import pytest

from tests.manifests.conftest import SECRETS
from tests.manifests.references import broken
from tests.manifests.rendering import Object, named
from tests.manifests.schemas import KUBERNETES, Schemas, invalid
from tests.manifests.webhooks import refused

Way = tuple[str | int, ...]
GONE = object()
POD: Way = ("spec", "template", "spec")
ONE: Way = (*POD, "containers", 0)
DELIVERY: Way = ("spec", "delivery")
TRIGGER = "Trigger/inference-requested-heavy"


def mistaken(documents: list[Object], name: str, way: Way, value: object) -> Object:
    """Put a value in its place, or take away what is there, and return the object."""
    document: Any = named(documents, name)
    parent = document
    for step in way[:-1]:
        parent = parent[step]
    if value is GONE:
        del parent[way[-1]]
    else:
        parent[way[-1]] = value
    return dict(document)


@pytest.mark.parametrize(
    ("name", "way", "value", "message"),
    [
        ("Service/chat", (*POD, "timeout"), 1, "unknown field timeout"),
        ("Service/chat", (*POD, "timeoutSeconds"), "600", "integer is expected"),
        ("Service/chat", (*POD, "containers"), GONE, "containers is missing"),
        ("Service/chat", (*ONE, "livenesProbe"), {}, "unknown field livenes"),
        ("Service/chat", ("metadata", "labels", "x"), 1, "string is expected"),
        ("Service/chat", ("metadata", "name"), "Chat", "does not match"),
        ("Service/chat", ("spec", "template", "metadata", "annotations", "x"), True, "string is expected"),
        (TRIGGER, ("spec", "filter", "attribute"), {}, "unknown field attribute"),
        (TRIGGER, (*DELIVERY, "retries"), 3, "unknown field retries"),
        (TRIGGER, ("spec", "subscriber", "ref", "Name"), "x", "unknown field Name"),
        ("PingSource/sweep", ("spec", "interval"), "10s", "unknown field interval"),
        ("ContainerSource/relay", (*ONE, "cmd"), [], "'cmd' was unexpected"),
        ("ContainerSource/relay", ("apiVersion",), "sources.knative.dev/v9", "no such kind"),
        ("Broker/default", (*DELIVERY, "retry"), "10", "integer is expected"),
        ("EventPolicy/relay-to-broker", ("spec", "form"), [], "unknown field form"),
    ],
)
def test_knatives_schemas_find(
    base: list[Object], crds: Schemas, name: str, way: Way, value: object, message: str
) -> None:
    assert any(message in reason for reason in invalid(mistaken(base, name, way, value), crds))


@pytest.mark.parametrize(
    ("name", "way", "value", "message"),
    [
        ("Job/migrate-release", (*ONE, "cmd"), [], "'cmd' was unexpected"),
        ("Job/migrate-release", ("spec", "backoffLimit"), "3", "not of type 'integer'"),
        ("Job/migrate-release", ("metadata", "name"), "migrate_release", "does not match"),
        ("ServiceAccount/chat", ("automount",), False, "'automount' was unexpected"),
        ("ConfigMap/enterprise-agents", ("data", "CHUNK_SIZE_TOKENS"), 512, "is not of type 'string'"),
        ("NetworkPolicy/names", ("spec", "egress", 0, "to", 0, "selector"), {}, "'selector' was unexpected"),
        ("PodDisruptionBudget/relay", ("apiVersion",), "policy/v1beta1", "Couldn't find schema"),
        ("Namespace/enterprise-agents", ("metadata", "label"), {}, "'label' was unexpected"),
    ],
)
def test_kubernetes_schemas_find(base: list[Object], name: str, way: Way, value: object, message: str) -> None:
    found = invalid(mistaken(base, name, way, value), None)
    assert any(message in reason for reason in found), found


def test_both_releases_of_kubernetes_are_asked(base: list[Object]) -> None:
    # Of a release between the two.
    found = invalid(
        mistaken(base, "Job/migrate-release", ("spec", "successPolicy"), {"rules": [{"succeededCount": 1}]}), None
    )
    assert len(found) == 1
    assert KUBERNETES[0] in found[0]


SCALE: Way = ("spec", "template", "metadata", "annotations")


@pytest.mark.parametrize(
    ("name", "way", "value", "message"),
    [
        ("Service/chat", ("metadata", "name"), "1chat", "begins with a letter"),
        ("Service/chat", ("metadata", "labels", "networking.knative.dev/visibility"), "private", "cluster-local"),
        ("Service/chat", ("spec", "template", "metadata", "name"), "v2", "begins with its Service's"),
        ("Service/chat", (*SCALE, "autoscaling.knative.dev/minScale"), "1", "unknown annotation"),
        ("Service/chat", (*SCALE, "autoscaling.knative.dev/min-scale"), "21", "below min-scale"),
        ("Service/chat", (*SCALE, "autoscaling.knative.dev/min-scale"), "one", "whole number"),
        ("Service/chat", (*SCALE, "autoscaling.knative.dev/initial-scale"), "0", "initial-scale 0"),
        ("Service/chat", (*SCALE, "serving.knative.dev/creator"), "me", "unknown annotation"),
        ("Service/chat", (*POD, "timeoutSeconds"), 601, "1 to 600"),
        ("Service/chat", (*POD, "responseStartTimeoutSeconds"), 601, "at most timeoutSeconds"),
        ("Service/chat", (*POD, "idleTimeoutSeconds"), 601, "at most timeoutSeconds"),
        ("Service/chat", (*POD, "containerConcurrency"), 1001, "0 to 1000"),
        ("Service/chat", (*POD, "nodeSelector"), {"gpu": "a100"}, "nodeSelector needs a feature"),
        ("Service/chat", (*POD, "securityContext"), {"fsGroup": 1}, "securityContext needs a feature"),
        ("Service/chat", (*POD, "terminationGracePeriodSeconds"), 60, "needs a feature"),
        ("Service/chat", (*POD, "volumes"), [{"name": "a", "emptyDir": {}}], "is not mounted"),
        ("Service/chat", (*POD, "volumes"), [{"name": "a", "persistentVolumeClaim": {}}], "is off by default"),
        ("Service/chat", (*POD, "containers"), [{"name": "a"}, {"name": "b"}], "one container"),
        ("Service/chat", (*ONE, "name"), "queue-proxy", "reserved name"),
        ("Service/chat", (*ONE, "lifecycle"), {}, "lifecycle"),
        ("Service/chat", (*ONE, "ports"), [{"containerPort": 8012}], "8012 is queue-proxy's"),
        ("Service/chat", (*ONE, "ports"), [{"containerPort": 8080, "name": "http"}], "h2c or http1"),
        ("Service/chat", (*ONE, "ports"), [{"containerPort": 1}, {"containerPort": 2}], "more than one port"),
        ("Service/chat", (*ONE, "env", 0, "name"), "PORT", "PORT is reserved"),
        ("Service/chat", (*ONE, "env", 0, "valueFrom"), {"fieldRef": {}}, "fieldRef is off"),
        ("Service/chat", (*ONE, "volumeMounts"), [{"name": "a", "mountPath": "/tmp/"}], "/tmp is a reserved path"),  # noqa: S108
        ("Service/chat", (*ONE, "volumeMounts"), [{"name": "a", "mountPath": "/x"}], "no volume a"),
        ("Service/chat", (*ONE, "readinessProbe", "httpGet", "port"), 8022, "readinessProbe asks queue-proxy"),
        ("Service/chat", (*ONE, "livenessProbe", "httpGet", "port"), 9090, "livenessProbe asks queue-proxy"),
        ("Service/chat", (*ONE, "readinessProbe", "timeoutSeconds"), 3, "need periodSeconds"),
        ("Service/chat", (*ONE, "securityContext", "runAsUser"), GONE, "number of a user"),
        ("Service/chat", (*ONE, "securityContext", "runAsUser"), 0, "number of a user"),
        ("Service/chat", (*ONE, "securityContext", "allowPrivilegeEscalation"), True, "allowPrivilegeEscalation"),
        ("Job/migrate-release", (*ONE, "securityContext", "capabilities", "add"), ["NET_RAW"], "capabilities"),
        ("Job/migrate-release", (*ONE, "securityContext", "seccompProfile"), GONE, "seccompProfile"),
        ("Job/migrate-release", (*POD, "hostNetwork"), True, "hostNetwork"),
        ("Job/migrate-release", (*POD, "volumes"), [{"name": "a", "hostPath": {"path": "/"}}], "hostPath"),
        ("Service/chat", ("spec", "traffic"), [{"percent": 90, "latestRevision": True}], "100 percent"),
        ("Service/chat", ("spec", "traffic"), [{"percent": 100, "tag": "1.0", "latestRevision": True}], "tags"),
        ("Service/chat", ("spec", "traffic"), [{"percent": 100, "latestRevision": True, "revisionName": "x"}], "or to"),
        (TRIGGER, ("spec", "broker"), "", "broker is missing"),
        (TRIGGER, ("spec", "filter", "attributes", "tenant-id"), "x", "no attribute's name"),
        (TRIGGER, ("spec", "subscriber"), {"uri": "/x"}, "absolute uri"),
        (TRIGGER, (*DELIVERY, "timeout"), "610s", "ISO 8601"),
        (TRIGGER, (*DELIVERY, "backoffDelay"), "PT0S", "above zero"),
        (TRIGGER, (*DELIVERY, "backoffPolicy"), "random", "linear or exponential"),
        (TRIGGER, (*DELIVERY, "retry"), -1, "negative"),
        (TRIGGER, (*DELIVERY, "deadLetterSink", "ref", "name"), GONE, "deadLetterSink.ref"),
        ("Broker/default", ("metadata", "annotations"), {}, "broker.class is missing"),
        (
            "Broker/default",
            ("metadata", "annotations", "eventing.knative.dev/broker.class"),
            "Kafka",
            "names its config",
        ),
        ("Broker/default", ("spec", "config"), {"name": "x"}, "config is named"),
        ("PingSource/sweep", ("spec", "schedule"), "61 * * * *", "minute"),
        ("PingSource/sweep", ("spec", "data"), "{", "not of their contentType"),
        ("PingSource/sweep", ("spec", "dataBase64"), "e30=", "exclude each other"),
        ("ContainerSource/relay", (*ONE, "name"), GONE, "name and an image"),
        ("ContainerSource/relay", ("spec", "sink"), {}, "sink has a ref"),
        ("EventPolicy/relay-to-broker", ("spec", "from"), [{}], "from is a ref or a sub"),
        ("EventPolicy/relay-to-broker", ("spec", "to"), [{}], "to is a ref or a selector"),
    ],
)
def test_webhooks_refuse(base: list[Object], name: str, way: Way, value: object, message: str) -> None:
    found = refused(mistaken(base, name, way, value))
    assert any(message in reason for reason in found), found


def job_sink(base: list[Object]) -> Object:
    """Return a JobSink that runs what the migration runs."""
    job = {"metadata": {}, "spec": named(base, "Job/migrate-release")["spec"]}
    name = {"apiVersion": "sinks.knative.dev/v1alpha1", "kind": "JobSink", "metadata": {"name": "x"}}
    return {**name, "spec": {"job": job}}


JOB: Way = ("spec", "job", "spec", "template", "spec")


@pytest.mark.parametrize(
    ("way", "value", "message"),
    [
        ((*JOB, "containers", 0, "cmd"), [], "'cmd' was unexpected"),
        ((*JOB, "restartPolicy"), "Always", "Never or OnFailure"),
        ((*JOB, "containers", 0, "image"), GONE, "name and an image"),
        ((*JOB, "containers", 0, "securityContext"), {}, "number of a user"),
        (("spec", "job"), GONE, "job is missing"),
        (("spec", "jobs"), {}, "unknown field jobs"),
    ],
)
def test_mistakes_of_job_sinks_are_found(
    base: list[Object], crds: Schemas, way: Way, value: object, message: str
) -> None:
    sink = job_sink(base)
    assert [*refused(sink), *invalid(sink, crds)] == []
    wrong = mistaken([sink], "JobSink/x", way, value)
    found = [*refused(wrong), *invalid(wrong, crds)]
    assert any(message in reason for reason in found), found


def mapping(host: str) -> Object:
    ref = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "chat"}
    named = {"apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping", "metadata": {"name": host}}
    return {**named, "spec": {"ref": ref}}


@pytest.mark.parametrize("host", ["chat", "chat.agents.svc.cluster.local", "chat_1.example.com", "*.example.com"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    assert refused(mapping("chat.example.com")) == []
    assert any("host outside" in reason for reason in refused(mapping(host)))


@pytest.mark.parametrize(
    ("name", "way", "value", "message"),
    [
        ("Service/chat", ("metadata", "labels"), {}, "label app.kubernetes.io/part-of is missing"),
        ("Service/chat", ("metadata", "namespace"), "default", "not in the namespace"),
        ("Service/chat", ("metadata", "name"), "identity", "Service/identity: there are 2"),
        ("Service/chat", ("spec", "template", "metadata", "labels"), {}, "its pods have no label"),
        ("Service/chat", (*POD, "serviceAccountName"), "chatt", "no ServiceAccount chatt"),
        ("Service/chat", (*POD, "serviceAccountName"), "relay", "relay: is used by 2"),
        ("Service/chat", (*POD, "serviceAccountName"), GONE, "no ServiceAccount default"),
        ("Service/chat", (*POD, "automountServiceAccountToken"), True, "token of the cluster's"),
        ("ServiceAccount/chat", ("automountServiceAccountToken",), GONE, "token of the cluster's"),
        ("Service/chat", (*ONE, "envFrom", 0, "configMapRef", "name"), "x", "no ConfigMap x"),
        ("Service/chat", (*ONE, "env", 2, "valueFrom", "secretKeyRef", "key"), "DB_URL", "has no key DB_URL"),
        ("Service/chat", (*ONE, "env", 2, "valueFrom", "secretKeyRef", "name"), "x", "x has no key"),
        ("Service/chat", (*ONE, "image"), "registry/enterprise-agent-platform:1", "has 2 names"),
        (TRIGGER, ("spec", "broker"), "other", "no Broker other"),
        (TRIGGER, ("spec", "subscriber", "ref", "name"), "x", "no Service x"),
        (TRIGGER, ("spec", "subscriber", "ref", "apiVersion"), "v1", "no Service inference-heavy"),
        (TRIGGER, (*DELIVERY, "deadLetterSink"), GONE, "is dropped"),
        (TRIGGER, (*DELIVERY, "deadLetterSink", "ref", "name"), "x", "no Service x"),
        (TRIGGER, (*DELIVERY, "retry"), GONE, "never tried again"),
        (TRIGGER, (*DELIVERY, "timeout"), "PT599S", "may still be at it"),
        (TRIGGER, (*DELIVERY, "timeout"), GONE, "may still be at it"),
        ("PingSource/sweep", ("spec", "sink", "ref", "kind"), "Channel", "no Channel sweeper"),
        ("ContainerSource/relay", ("spec", "sink", "ref", "name"), "x", "no Broker x"),
        ("EventPolicy/relay-to-broker", ("spec", "from", 0, "ref", "name"), "x", "no ContainerSource x"),
        ("PodDisruptionBudget/relay", ("spec", "selector", "matchLabels"), {"app": "relay"}, "selects no pod"),
        ("NetworkPolicy/to-broker", ("spec", "podSelector", "matchLabels"), {"app": "relay"}, "selects no pod"),
        (
            "NetworkPolicy/to-models",
            ("spec", "podSelector", "matchExpressions", 0, "values", 0),
            "chatt",
            "no app.kubernetes.io/name chatt",
        ),
    ],
)
def test_references_are_found_broken(base: list[Object], name: str, way: Way, value: object, message: str) -> None:
    mistaken(base, name, way, value)
    found = broken(base, SECRETS)
    assert any(message in reason for reason in found), found


def test_a_certificate_that_nobody_tells_of_is_found(base: list[Object]) -> None:
    host = mapping("chat.example.com")
    host["spec"]["tls"] = {"secretName": "x"}
    assert any("nobody tells of a Secret x" in reason for reason in broken([*base, host], SECRETS))
