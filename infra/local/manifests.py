"""What the local stack takes from `knative/`: the routes, environment, filters and delivery of a cluster.

Only what is used here is read. What a manifest asks for and this stack cannot honour is an error, never
ignored in silence: a Trigger treated otherwise than Knative treats it would be worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import yaml

from infra.local.cron import Schedule
from infra.local.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CLUSTER_LOCAL = ("networking.knative.dev/visibility", "cluster-local")
_KUSTOMIZATION_FIELDS = frozenset({"apiVersion", "kind", "namespace", "resources"})
# Kinds that mean nothing outside a cluster: on a laptop the functions are one user's processes on the loopback interface.
_CLUSTER_ONLY = frozenset(
    {
        "/ConfigMap",  # infra/local/environment.py stands for it, and for the Secret
        "/Namespace",
        "/ServiceAccount",
        "eventing.knative.dev/EventPolicy",
        "networking.k8s.io/NetworkPolicy",
        "policy/PodDisruptionBudget",
        "serving.knative.dev/DomainMapping",
    }
)
# Knative's limit for a Revision that names none (config-defaults revision-timeout-seconds).
_DEFAULT_TIMEOUT_SECONDS = 300.0
# Kubernetes' for a Job that names none.
_DEFAULT_BACKOFF_LIMIT = 6


class ManifestError(ValueError):
    """A manifest is malformed or asks for what cannot be done here; the message names file and field."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: a literal, or a key of the ConfigMap or the Secret."""

    name: str
    value: str | None = None
    config_key: str | None = None
    secret_key: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """What runs: the command, its variables, and whether it sees the whole ConfigMap."""

    command: tuple[str, ...]
    variables: tuple[Variable, ...]
    whole_config: bool

    def environment(self, config: Mapping[str, str], secret: Mapping[str, str]) -> dict[str, str]:
        """Resolve the variables; raises ManifestError for a required key that is in neither mapping."""
        resolved = dict(config) if self.whole_config else {}
        for variable in self.variables:
            if variable.value is not None:
                resolved[variable.name] = variable.value
                continue
            key = variable.secret_key or variable.config_key or variable.name
            source = secret if variable.secret_key is not None else config
            if key in source:
                resolved[variable.name] = source[key]
            elif not variable.optional:
                raise ManifestError(f"variable {variable.name}: the local stack has no value for key {key}")
        return resolved


@dataclass(frozen=True, slots=True)
class Service:
    """A Knative Service: one function. `concurrency` is requests at once, 0 for no limit."""

    name: str
    container: Container
    cluster_local: bool
    concurrency: int
    timeout_seconds: float

    def literal(self, name: str) -> str | None:
        """Return the value of a variable that is written out in the manifest."""
        return next((v.value for v in self.container.variables if v.name == name), None)


@dataclass(frozen=True, slots=True)
class JobSink:
    """Runs a command once for each event, and again after a failure, at most `backoff_limit` times.

    `deadline` is for all of that together, and for `kept` afterwards the same event finds its Job; seconds, None for no end.
    """

    name: str
    container: Container
    backoff_limit: int
    deadline: float | None
    kept: float | None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go: a Service (with a path below it), a JobSink, the Broker, or an absolute URL."""

    service: str | None = None
    job_sink: str | None = None
    broker: str | None = None
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How often and how patiently an event is delivered. Times are seconds; `timeout` is for one attempt."""

    retry: int = 0
    exponential: bool = True
    backoff: float = 0.2
    timeout: float | None = None
    dead_letter: Destination | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """Delivers events whose attributes all equal the filter's to a subscriber."""

    name: str
    attributes: Mapping[str, str]
    subscriber: Destination
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class PingSource:
    """Sends an event at each due minute."""

    name: str
    namespace: str
    schedule: Schedule
    content_type: str
    data: str
    sink: Destination

    @property
    def source(self) -> str:
        """The CloudEvent attribute `source` that Knative gives it."""
        return f"/apis/v1/namespaces/{self.namespace}/pingsources/{self.name}"


@dataclass(frozen=True, slots=True)
class ContainerSource:
    """A process that sends events to a sink; `extensions` are put on each of them."""

    name: str
    container: Container
    sink: Destination
    extensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything of one kustomization that runs on a laptop too; `migration` is the Job that runs before anything else."""

    services: Mapping[str, Service]
    job_sinks: Mapping[str, JobSink]
    triggers: tuple[Trigger, ...]
    pings: tuple[PingSource, ...]
    sources: tuple[ContainerSource, ...]
    migration: Container | None


@dataclass(slots=True)
class _Collected:
    namespace: str
    broker: _Node | None = None
    migration: Container | None = None
    broker_delivery: Delivery = field(default_factory=Delivery)
    services: dict[str, Service] = field(default_factory=dict)
    job_sinks: dict[str, JobSink] = field(default_factory=dict)
    triggers: list[_Node] = field(default_factory=list)
    pings: list[_Node] = field(default_factory=list)
    sources: list[_Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Node:
    """A value of a YAML document together with the way to it, for error messages."""

    value: Any
    where: str

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def child(self, key: str) -> _Node:
        if key not in self:
            raise ManifestError(f"{self.where}: {key} is missing")
        return _Node(self.value[key], f"{self.where}.{key}")

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise ManifestError(f"{self.where}: a list is expected")
        return [_Node(value, f"{self.where}[{index}]") for index, value in enumerate(self.value)]

    def children(self, key: str) -> list[_Node]:
        return self.child(key).items() if key in self else []

    def text(self, key: str, default: str | None = None) -> str:
        if key not in self and default is not None:
            return default
        value = self.child(key).value
        if not isinstance(value, str):
            raise ManifestError(f"{self.where}.{key}: text is expected, not {value!r}")
        return value

    def whole(self, key: str, default: int) -> int:
        value = self.value.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ManifestError(f"{self.where}.{key}: a whole number is expected, not {value!r}")
        return value

    def texts(self, key: str) -> dict[str, str]:
        value = self.child(key).value if key in self else {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise ManifestError(f"{self.where}.{key}: a mapping of text is expected")
        return dict(value)

    def refuse(self, *keys: str) -> Self:
        for key in keys:
            if key in self:
                raise ManifestError(f"{self.where}.{key}: the local stack cannot do this")
        return self


def load(directory: Path) -> Manifests:
    """Read the kustomization of `directory` and the resources it lists; raises ManifestError."""
    kustomization = _kustomization(directory)
    found = _Collected(namespace=kustomization.text("namespace", "default"))
    for node in _objects(directory, kustomization):
        _collect(found, node)
    if found.broker is not None:
        found.broker_delivery = _delivery(found.broker, Delivery(), found)
    triggers = tuple(_trigger(node, found) for node in found.triggers)
    pings = tuple(_ping(node, found) for node in found.pings)
    sources = tuple(_source(node, found) for node in found.sources)
    return Manifests(
        services=found.services,
        job_sinks=found.job_sinks,
        triggers=triggers,
        pings=pings,
        sources=sources,
        migration=found.migration,
    )


def _kustomization(directory: Path) -> _Node:
    path = directory / "kustomization.yaml"
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(f"{path} is missing") from error
    node = _Node(value, str(path))
    return node.refuse(*(key for key in value if key not in _KUSTOMIZATION_FIELDS))


def _objects(directory: Path, kustomization: _Node) -> Iterator[_Node]:
    for resource in kustomization.children("resources"):
        path = directory / str(resource.value)
        if path.is_dir():
            yield from _objects(path, _kustomization(path))
            continue
        try:
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError) as error:
            raise ManifestError(f"{path}: {error}") from error
        yield from (_Node(document, path.name) for document in documents if document is not None)


def _collect(found: _Collected, node: _Node) -> None:
    group, slash, _ = node.text("apiVersion").partition("/")
    kind = f"{group if slash else ''}/{node.text('kind')}"
    if kind == "serving.knative.dev/Service":
        service = _service(node)
        if service.name in found.services:
            raise ManifestError(f"{node.where}: a second Service {service.name}")
        found.services[service.name] = service
    elif kind == "sinks.knative.dev/JobSink":
        job_sink = _job_sink(node)
        found.job_sinks[job_sink.name] = job_sink
    elif kind == "eventing.knative.dev/Broker":
        # Its dead-letter sink may be a Service that comes later.
        found.broker = node.child("spec") if "spec" in node else None
    elif kind == "eventing.knative.dev/Trigger":
        found.triggers.append(node)
    elif kind == "sources.knative.dev/PingSource":
        found.pings.append(node)
    elif kind == "sources.knative.dev/ContainerSource":
        found.sources.append(node)
    elif kind == "batch/Job":
        if found.migration is not None:
            raise ManifestError(f"{node.where}: the local stack runs one Job, the migration")
        found.migration = _container(node.child("spec").child("template").child("spec"))
    elif kind not in _CLUSTER_ONLY:
        raise ManifestError(f"{node.where}: the local stack does not know {kind}")


def _service(node: _Node) -> Service:
    metadata, spec = node.child("metadata"), node.child("spec").child("template").child("spec")
    label, private = _CLUSTER_LOCAL
    return Service(
        name=metadata.text("name"),
        container=_container(spec),
        cluster_local=metadata.texts("labels").get(label) == private,
        concurrency=spec.whole("containerConcurrency", 0),
        timeout_seconds=float(spec.whole("timeoutSeconds", int(_DEFAULT_TIMEOUT_SECONDS))),
    )


def _job_sink(node: _Node) -> JobSink:
    spec = node.child("spec").child("job").child("spec")
    spec.refuse("parallelism", "completions", "completionMode", "podFailurePolicy", "successPolicy", "suspend")
    pod = spec.child("template").child("spec")
    if (policy := pod.text("restartPolicy")) != "Never":
        raise ManifestError(f"{pod.where}.restartPolicy: the local stack knows Never, not {policy}")
    return JobSink(
        name=node.child("metadata").text("name"),
        container=_container(pod),
        backoff_limit=spec.whole("backoffLimit", _DEFAULT_BACKOFF_LIMIT),
        deadline=_whole_seconds(spec, "activeDeadlineSeconds"),
        kept=_whole_seconds(spec, "ttlSecondsAfterFinished"),
    )


def _whole_seconds(node: _Node, key: str) -> float | None:
    return float(node.whole(key, 0)) if key in node else None


def _container(spec: _Node) -> Container:
    containers = spec.refuse("initContainers").child("containers").items()
    if len(containers) != 1:
        raise ManifestError(f"{spec.where}.containers: the local stack runs one container")
    container = containers[0]
    command = tuple(str(item.value) for item in [*container.children("command"), *container.children("args")])
    if not command:
        raise ManifestError(f"{container.where}: command is missing, and there is no image here to name one")
    sources = container.children("envFrom")
    for source in sources:
        source.refuse("secretRef", "prefix")
    return Container(
        command=command,
        variables=tuple(_variable(node) for node in container.children("env")),
        whole_config=any("configMapRef" in source for source in sources),
    )


def _variable(node: _Node) -> Variable:
    name = node.text("name")
    if "valueFrom" not in node:
        return Variable(name=name, value=node.text("value", ""))
    origin = node.child("valueFrom").refuse("fieldRef", "resourceFieldRef")
    if "secretKeyRef" in origin:
        key = origin.child("secretKeyRef")
        return Variable(name=name, secret_key=key.text("key"), optional=bool(key.value.get("optional")))
    key = origin.child("configMapKeyRef")
    return Variable(name=name, config_key=key.text("key"), optional=bool(key.value.get("optional")))


def _trigger(node: _Node, found: _Collected) -> Trigger:
    spec = node.child("spec").refuse("filters", "brokerRef")
    return Trigger(
        name=node.child("metadata").text("name"),
        attributes=spec.child("filter").texts("attributes") if "filter" in spec else {},
        subscriber=_destination(spec.child("subscriber"), found),
        delivery=_delivery(spec, found.broker_delivery, found),
    )


def _delivery(spec: _Node, default: Delivery, found: _Collected) -> Delivery:
    if "delivery" not in spec:
        return default
    node = spec.child("delivery").refuse("retryAfterMax", "format")
    policy = node.text("backoffPolicy", "exponential")
    if policy not in {"exponential", "linear"}:
        raise ManifestError(f"{node.where}.backoffPolicy: exponential or linear is expected, not {policy!r}")
    return Delivery(
        retry=node.whole("retry", 0),
        exponential=policy == "exponential",
        backoff=_seconds(node, "backoffDelay") if "backoffDelay" in node else Delivery().backoff,
        timeout=_seconds(node, "timeout") if "timeout" in node else None,
        dead_letter=_destination(node.child("deadLetterSink"), found) if "deadLetterSink" in node else None,
    )


def _seconds(node: _Node, key: str) -> float:
    try:
        return parse_duration(node.text(key))
    except ValueError as error:
        raise ManifestError(f"{node.where}.{key}: {error}") from error


def _destination(node: _Node, found: _Collected) -> Destination:
    uri = node.text("uri", "")
    if "ref" not in node:
        if not uri.startswith(("http://", "https://")):
            raise ManifestError(f"{node.where}: a ref or an absolute uri is expected")
        return Destination(uri=uri)
    ref = node.child("ref")
    kind, name = ref.text("kind"), ref.text("name")
    if kind == "Broker":
        return Destination(broker=name, uri=uri)
    if kind == "JobSink":
        if name not in found.job_sinks:
            raise ManifestError(f"{ref.where}: there is no JobSink {name!r}")
        return Destination(job_sink=name, uri=uri)
    if kind != "Service" or not ref.text("apiVersion").startswith("serving.knative.dev/"):
        raise ManifestError(f"{ref.where}: the local stack delivers to Knative Services and JobSinks, not to {kind}")
    if name not in found.services:
        raise ManifestError(f"{ref.where}: there is no Service {name!r}")
    return Destination(service=name, uri=uri)


def _ping(node: _Node, found: _Collected) -> PingSource:
    spec = node.child("spec").refuse("dataBase64", "timezone", "ceOverrides")
    try:
        schedule = Schedule.parse(spec.text("schedule"))
    except ValueError as error:
        raise ManifestError(f"{spec.where}.schedule: {error}") from error
    return PingSource(
        name=node.child("metadata").text("name"),
        namespace=found.namespace,
        schedule=schedule,
        content_type=spec.text("contentType", "application/json"),
        data=spec.text("data", ""),
        sink=_destination(spec.child("sink"), found),
    )


def _source(node: _Node, found: _Collected) -> ContainerSource:
    spec = node.child("spec")
    sink = _destination(spec.child("sink"), found)
    if sink.job_sink is not None:
        raise ManifestError(f"{spec.where}.sink: the local stack sends a source's events to the Broker or to a Service")
    overrides = spec.child("ceOverrides") if "ceOverrides" in spec else _Node({}, spec.where)
    return ContainerSource(
        name=node.child("metadata").text("name"),
        container=_container(spec.child("template").child("spec")),
        sink=sink,
        extensions=overrides.texts("extensions"),
    )
