"""What a cluster refuses although the schemas allow it: the rules of Knative's admission webhooks, and of Pod Security.

They are those of a default installation (config-features, config-defaults, config-autoscaler as they come).
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator

from infra.local.cron import Schedule
from infra.local.durations import parse_duration
from tests.manifests.rendering import Object, containers, pod_template, title

MAX_TIMEOUT_SECONDS = 600
MAX_CONCURRENCY = 1000
QUEUE_PROXY_PORTS = frozenset({8008, 8012, 8013, 8022, 8112, 9090, 9091})
RESERVED_VARIABLES = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
RESERVED_PATHS = frozenset({"/", "/dev", "/dev/log", "/tmp", "/var", "/var/log"})  # noqa: S108 - names, not files
POD_FIELDS = frozenset(
    {
        "automountServiceAccountToken",
        "containerConcurrency",
        "containers",
        "enableServiceLinks",
        "idleTimeoutSeconds",
        "imagePullSecrets",
        "responseStartTimeoutSeconds",
        "serviceAccountName",
        "timeoutSeconds",
        "volumes",
    }
)
"""What a Revision's pod may say; nodeSelector, affinity, tolerations, securityContext, ... need a feature that is off."""
VOLUMES = frozenset({"configMap", "secret", "projected", "emptyDir"})
AUTOSCALING = frozenset(
    {
        "activation-scale",
        "class",
        "initial-scale",
        "max-scale",
        "metric",
        "min-scale",
        "panic-threshold-percentage",
        "panic-window-percentage",
        "scale-down-delay",
        "scale-to-zero-pod-retention-period",
        "target",
        "target-burst-capacity",
        "target-utilization-percentage",
        "window",
    }
)
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
HOST = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_AUTOSCALING = "autoscaling.knative.dev/"
_VISIBILITY = "networking.knative.dev/visibility"
_BROKER_CLASS = "eventing.knative.dev/broker.class"


def refused(document: Object) -> list[str]:
    """Return why a cluster would refuse an object, or the pods that come of it."""
    rules = RULES.get(f"{str(document['apiVersion']).partition('/')[0]}/{document['kind']}")
    found = [] if rules is None else list(rules(document))
    return [f"{title(document)}: {reason}" for reason in (*found, *_restricted(document))]


def _service(document: Object) -> Iterator[str]:
    metadata, spec = document["metadata"], document["spec"]
    if not DNS_1035.fullmatch(metadata["name"]):
        yield "a Service's name begins with a letter and is a DNS label"
    if metadata.get("labels", {}).get(_VISIBILITY, "cluster-local") != "cluster-local":
        yield f"{_VISIBILITY} must be cluster-local, or not be set"
    template = spec["template"]
    if "name" in template.get("metadata", {}) and not template["metadata"]["name"].startswith(f"{metadata['name']}-"):
        yield "a Revision's name begins with its Service's"
    yield from _scale(template.get("metadata", {}).get("annotations", {}))
    yield from _revision(template["spec"])
    yield from _traffic(spec.get("traffic", []))


def _scale(annotations: dict[str, str]) -> Iterator[str]:
    scale = {
        name.removeprefix(_AUTOSCALING): text for name, text in annotations.items() if name.startswith(_AUTOSCALING)
    }
    yield from (f"unknown annotation {_AUTOSCALING}{name}" for name in sorted(scale.keys() - AUTOSCALING))
    yield from (f"unknown annotation {name}" for name in annotations if name.startswith("serving.knative.dev/"))
    bounds = []
    for name in ("min-scale", "max-scale"):
        if not scale.get(name, "0").isdigit():
            yield f"{name} must be a whole number"
            return
        bounds.append(int(scale.get(name, "0")))
    if 0 < bounds[1] < bounds[0]:
        yield "max-scale is below min-scale"
    if scale.get("initial-scale") == "0":
        yield "initial-scale 0 needs allow-zero-initial-scale"


def _revision(spec: Object) -> Iterator[str]:
    yield from (f"{name} needs a feature that is off by default" for name in sorted(spec.keys() - POD_FIELDS))
    if not 0 <= spec.get("containerConcurrency", 0) <= MAX_CONCURRENCY:
        yield f"containerConcurrency must be 0 to {MAX_CONCURRENCY}"
    timeout = spec.get("timeoutSeconds", 300)
    if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        yield f"timeoutSeconds must be 1 to {MAX_TIMEOUT_SECONDS}"
    for name in ("responseStartTimeoutSeconds", "idleTimeoutSeconds"):
        if not 0 <= spec.get(name, 0) <= timeout:
            yield f"{name} must be at most timeoutSeconds"
    if len(spec["containers"]) != 1:
        yield "one container is expected: more need a port and no probes beside it"
    mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", ())}
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
    yield from (f"volume {name} is not mounted" for name in sorted(volumes.keys() - mounted))
    for name, volume in volumes.items():
        yield from (f"volume {name}: {kind} is off by default" for kind in sorted(volume.keys() - {"name"} - VOLUMES))
    for container in spec["containers"]:
        yield from _container(container, volumes)


def _container(container: Object, volumes: dict[str, Object]) -> Iterator[str]:
    if container.get("name") == "queue-proxy":
        yield "queue-proxy is a reserved name"
    if "lifecycle" in container:
        yield "lifecycle is not allowed"
    ports = container.get("ports", [])
    if len(ports) > 1:
        yield "more than one port"
    for port in ports:
        if port.get("containerPort") in QUEUE_PROXY_PORTS:
            yield f"port {port['containerPort']} is queue-proxy's"
        if (
            port.get("name", "") not in {"", "h2c", "http1"}
            or port.get("protocol", "TCP") != "TCP"
            or "hostPort" in port
        ):
            yield "a port is named h2c or http1, is TCP, and not the host's"
    for variable in container.get("env", ()):
        if variable["name"] in RESERVED_VARIABLES:
            yield f"variable {variable['name']} is reserved"
        for origin in sorted(variable.get("valueFrom", {}).keys() - {"configMapKeyRef", "secretKeyRef"}):
            yield f"variable {variable['name']}: {origin} is off by default"
    yield from _mounts(container, volumes)
    yield from _probes(container)


def _mounts(container: Object, volumes: dict[str, Object]) -> Iterator[str]:
    for mount in container.get("volumeMounts", ()):
        path = posixpath.normpath(mount["mountPath"])
        if path in RESERVED_PATHS or not path.startswith("/"):
            yield f"{path} is a reserved path, or relative"
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
        elif "emptyDir" not in volumes[mount["name"]] and not mount.get("readOnly"):
            yield f"volume {mount['name']} must be mounted readOnly"


def _probes(container: Object) -> Iterator[str]:
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        probe = container.get(name, {})
        for action in ("httpGet", "tcpSocket", "grpc"):
            if probe.get(action, {}).get("port") in QUEUE_PROXY_PORTS:
                yield f"{name} asks queue-proxy"
    readiness = container.get("readinessProbe", {})
    if not readiness.get("periodSeconds") and {"failureThreshold", "timeoutSeconds"} & readiness.keys():
        yield "readinessProbe: failureThreshold and timeoutSeconds need periodSeconds"


def _traffic(traffic: list[Object]) -> Iterator[str]:
    if not traffic:
        return
    if sum(target.get("percent", 0) for target in traffic) != 100:
        yield "traffic does not add up to 100 percent"
    tags = [target["tag"] for target in traffic if "tag" in target]
    if len(set(tags)) < len(tags) or not all(DNS_1035.fullmatch(tag) for tag in tags):
        yield "tags are DNS labels, each given once"
    for target in traffic:
        if bool(target.get("revisionName")) == bool(target.get("latestRevision", not target.get("revisionName"))):
            yield "traffic goes to a revisionName or to the latestRevision"


def _trigger(document: Object) -> Iterator[str]:
    spec = document["spec"]
    if not spec.get("broker"):
        yield "broker is missing"
    for name in spec.get("filter", {}).get("attributes", {}):
        if not ATTRIBUTE.fullmatch(name):
            yield f"{name} is no attribute's name"
    yield from _destination(spec.get("subscriber", {}), "subscriber")
    yield from _delivery(spec.get("delivery", {}))


def _broker(document: Object) -> Iterator[str]:
    kind = document["metadata"].get("annotations", {}).get(_BROKER_CLASS)
    if not kind:
        yield f"{_BROKER_CLASS} is missing: the cluster's default would decide, and it can never be changed"
    config = document["spec"].get("config")
    if kind == "Kafka" and not config:
        yield "a Broker of class Kafka names its config"
    if config and not {"apiVersion", "kind", "name", "namespace"} <= config.keys():
        yield "config is named with apiVersion, kind, name and namespace"
    yield from _delivery(document["spec"].get("delivery", {}))


def _delivery(delivery: Object) -> Iterator[str]:
    if delivery.get("retry", 0) < 0:
        yield "delivery.retry is negative"
    if delivery.get("backoffPolicy", "linear") not in {"linear", "exponential"}:
        yield "delivery.backoffPolicy is linear or exponential"
    for name in ("backoffDelay", "timeout"):
        if name in delivery:
            try:
                positive = parse_duration(delivery[name]) > 0
            except ValueError:
                positive = False
            if not positive:
                yield f"delivery.{name} is an ISO 8601 duration above zero"
    if "deadLetterSink" in delivery:
        yield from _destination(delivery["deadLetterSink"], "deadLetterSink")


def _destination(destination: Object, name: str) -> Iterator[str]:
    ref = destination.get("ref")
    if ref is None:
        if not str(destination.get("uri", "")).startswith(("http://", "https://")):
            yield f"{name} has a ref or an absolute uri"
    elif not {"apiVersion", "kind", "name"} <= ref.keys():
        yield f"{name}.ref is named with apiVersion, kind and name"


def _ping(document: Object) -> Iterator[str]:
    spec = document["spec"]
    try:
        Schedule.parse(spec.get("schedule", ""))
    except ValueError as error:
        yield str(error)
    if "data" in spec and "dataBase64" in spec:
        yield "data and dataBase64 exclude each other"
    if spec.get("contentType") == "application/json":
        try:
            json.loads(spec.get("data", "{}"))
        except ValueError:
            yield "data are not of their contentType"
    yield from _destination(spec.get("sink", {}), "sink")


def _source(document: Object) -> Iterator[str]:
    yield from _destination(document["spec"].get("sink", {}), "sink")
    for container in containers(document):
        if not container.get("name") or not container.get("image"):
            yield "a container has a name and an image"


def _job_sink(document: Object) -> Iterator[str]:
    job = document["spec"].get("job")
    if job is None:
        yield "job is missing"
        return
    if job["spec"]["template"]["spec"].get("restartPolicy") not in {"Never", "OnFailure"}:
        yield "a Job's pods restart Never or OnFailure"
    for container in containers(document):
        if not container.get("name") or not container.get("image"):
            yield "a container has a name and an image"


def _domain(document: Object) -> Iterator[str]:
    name = document["metadata"]["name"]
    if not HOST.fullmatch(name) or name.endswith(".svc.cluster.local"):
        yield "a DomainMapping's name is a host outside of the cluster"
    ref = document["spec"]["ref"]
    if not {"apiVersion", "kind", "name"} <= ref.keys():
        yield "ref is named with apiVersion, kind and name"


def _policy(document: Object) -> Iterator[str]:
    for origin in document["spec"].get("from", ()):
        if len(origin.keys() & {"ref", "sub"}) != 1:
            yield "from is a ref or a sub"
        if "ref" in origin and not {"apiVersion", "kind", "name"} <= origin["ref"].keys():
            yield "from.ref is named with apiVersion, kind and name"
    for target in document["spec"].get("to", ()):
        if len(target.keys() & {"ref", "selector"}) != 1:
            yield "to is a ref or a selector"


RULES: dict[str, Callable[[Object], Iterator[str]]] = {
    "serving.knative.dev/Service": _service,
    "serving.knative.dev/DomainMapping": _domain,
    "eventing.knative.dev/Trigger": _trigger,
    "eventing.knative.dev/Broker": _broker,
    "eventing.knative.dev/EventPolicy": _policy,
    "sinks.knative.dev/JobSink": _job_sink,
    "sources.knative.dev/PingSource": _ping,
    "sources.knative.dev/ContainerSource": _source,
}


def _restricted(document: Object) -> Iterator[str]:
    """Yield what Pod Security's level `restricted` does not allow, and runAsNonRoot without a number to check."""
    template = pod_template(document)
    if template is None:
        return
    shared = template["spec"].get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if template["spec"].get(name):
            yield f"{name} is not restricted"
    if any("hostPath" in volume for volume in template["spec"].get("volumes", ())):
        yield "hostPath is not restricted"
    for container in containers(document):
        own = {**shared, **container.get("securityContext", {})}
        if own.get("runAsNonRoot") is not True or not own.get("runAsUser"):
            yield "runAsNonRoot is true, and runAsUser the number of a user who is not root"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield "allowPrivilegeEscalation is false"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
            yield "all capabilities are dropped"
        if own.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            yield "seccompProfile is RuntimeDefault"
