"""A small API server of Kubernetes for kubectl to talk to: it keeps objects, and does what Knative and Jobs do with them.

It knows discovery, get, list by label, server-side apply, delete and watch, refuses what Knative's webhooks
refuse, and gives Services and Jobs the status that their controllers would.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

KINDS = {
    ("v1", "Namespace"): "namespaces",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("batch/v1", "Job"): "jobs",
    ("monitoring.coreos.com/v1", "PodMonitor"): "podmonitors",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheusrules",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "servicemonitors",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("serving.knative.dev/v1", "Service"): "services",
    ("serving.knative.dev/v1beta1", "DomainMapping"): "domainmappings",
    ("eventing.knative.dev/v1", "Broker"): "brokers",
    ("eventing.knative.dev/v1", "Trigger"): "triggers",
    ("eventing.knative.dev/v1alpha1", "EventPolicy"): "eventpolicies",
    ("sources.knative.dev/v1", "ContainerSource"): "containersources",
    ("sources.knative.dev/v1", "PingSource"): "pingsources",
    ("sources.knative.dev/v1", "SinkBinding"): "sinkbindings",
    ("sinks.knative.dev/v1alpha1", "JobSink"): "jobsinks",
}
CLUSTER_WIDE = {"Namespace"}


def named(version: str, kind: str) -> str:
    """Return how objects of a kind are kept: a Service is Knative's, and Kubernetes' own a `core Service`."""
    return "core Service" if (version, kind) == ("v1", "Service") else kind


class RefusedError(Exception):
    """An admission webhook, or the API server itself, does not take it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Cluster:
    """What the API server holds, and what goes wrong there."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    """By kind and name; there is one namespace."""
    revisions: dict[str, Object] = field(default_factory=dict)
    """The template of every revision that was ever made."""
    changes: list[str] = field(default_factory=list)
    """What was changed, in order: `apply Service/chat`."""
    failing_jobs: set[str] = field(default_factory=set)
    unready: set[str] = field(default_factory=set)
    """Revisions whose pods do not start, or no longer."""
    refused: set[str] = field(default_factory=set)
    """Names of objects that may not be changed."""
    lag: int = 0
    """How many lists of Services are read until Knative has done what was last asked of them."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    version: int = 0

    def service(self, name: str) -> Object:
        return self.objects["Service", name]

    def traffic(self, name: str) -> dict[str, tuple[int, str]]:
        """Return the share and tag of each revision of a Service."""
        targets = self.service(name)["spec"]["traffic"]
        return {t["revisionName"]: (t.get("percent", 0), t.get("tag", "")) for t in targets}

    def store(self, verb: str, thing: Object) -> Object:
        """Keep an object, as whoever controls it leaves it."""
        kind, name = named(thing["apiVersion"], thing["kind"]), thing["metadata"]["name"]
        with self.lock:
            if name in self.refused:
                raise RefusedError(403, f"{kind} {name} may not be changed")
            before = self.objects.get((kind, name))
            kept = deepcopy(thing)
            if before is not None:
                kept["status"] = before.get("status", {})
            if kind == "Service":
                self._serve(kept, before)
            elif kind == "Job":
                self._run(kept, before)
            self.version += 1
            kept["metadata"] |= {"resourceVersion": str(self.version), "uid": f"{kind}-{name}"}
            self.objects[kind, name] = kept
            self.changes.append(f"{verb} {kind}/{name}")
            return kept

    def _serve(self, service: Object, before: Object | None) -> None:
        name, spec = service["metadata"]["name"], service["spec"]
        traffic = spec.setdefault("traffic", [{"latestRevision": True, "percent": 100}])
        _admit_traffic(traffic)
        template = spec["template"]
        revision = template.get("metadata", {}).get("name") or f"{name}-{len(self.revisions):05d}"
        if not revision.startswith(f"{name}-"):
            raise RefusedError(400, f"the revision's name {revision} must have the prefix {name}-")
        if self.revisions.setdefault(revision, deepcopy(template)) != template:
            raise RefusedError(400, "saw changes of the template without a change of its name")
        service["metadata"]["generation"] = before["metadata"]["generation"] + 1 if before else 1
        service.setdefault("status", {})["latestCreatedRevisionName"] = revision
        if not self.lag:
            self._reconcile(service)

    def look(self) -> None:
        """Let Knative's controllers go on, as far as they do."""
        if self.lag:
            self.lag -= 1
            return
        for (kind, _), thing in self.objects.items():
            if kind == "Service":
                self._reconcile(thing)

    def _reconcile(self, service: Object) -> None:
        name, status, traffic = service["metadata"]["name"], service["status"], service["spec"]["traffic"]
        revision = status["latestCreatedRevisionName"]
        ready = revision not in self.unready
        reached = [{**target, "revisionName": target.get("revisionName", revision)} for target in traffic]
        for target in reached:
            if target.get("tag"):
                target["url"] = f"http://{target['tag']}-{name}.enterprise-agents.example.com"
        # Knative's Route stays as it is while any target is not ready, whatever its share.
        missing = [t["revisionName"] for t in reached if t["revisionName"] not in self.revisions.keys() - self.unready]
        if ready:
            status["latestReadyRevisionName"] = revision
        if not missing:
            status["traffic"] = reached
        waits = {"ConfigurationsReady": [] if ready else [revision], "RoutesReady": missing}
        waits["Ready"] = [*waits["ConfigurationsReady"], *missing]
        status["conditions"] = [
            {"type": kind, "status": "False", "message": f"{names[0]} does not start"}
            if names
            else {"type": kind, "status": "True"}
            for kind, names in waits.items()
        ]
        status["observedGeneration"] = service["metadata"]["generation"]

    def _run(self, job: Object, before: Object | None) -> None:
        if before is not None and before["spec"] != job["spec"]:
            raise RefusedError(422, "a Job's spec is immutable")
        failed = job["metadata"]["name"] in self.failing_jobs
        job["status"] = {"conditions": [{"type": "Failed" if failed else "Complete", "status": "True"}]}


def _admit_traffic(traffic: list[Object]) -> None:
    if sum(target.get("percent", 0) for target in traffic) != 100:
        raise RefusedError(400, "traffic targets sum to other than 100")
    tags = [target["tag"] for target in traffic if "tag" in target]
    if len(set(tags)) != len(tags):
        raise RefusedError(400, "a tag stands twice")
    for target in traffic:
        if ("revisionName" in target) == bool(target.get("latestRevision")):
            raise RefusedError(400, "a target names a revision, or the latest one")


def merged(value: Object, patch: Object) -> Object:
    """Apply a merge patch (RFC 7396)."""
    result = dict(value)
    for name, item in patch.items():
        if item is None:
            result.pop(name, None)
        elif isinstance(item, dict):
            result[name] = merged(result.get(name) or {}, item)
        else:
            result[name] = item
    return result


class Handler(BaseHTTPRequestHandler):
    """One request of kubectl's."""

    protocol_version = "HTTP/1.1"
    # Head and body are sent one after the other: the body would wait 40 ms for the head's acknowledgement.
    disable_nagle_algorithm = True
    cluster: Cluster

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in DISCOVERY:
            self._send(200, DISCOVERY[path]())
        else:
            self._act(lambda: self._read(path))

    def do_PATCH(self) -> None:
        body = self._body()

        def patch() -> Object:
            kind, name = self._target()
            assert "apply-patch" in self.headers["Content-Type"]
            # Fields that the applier owned and names no longer are kept here; lists are replaced, as those of Knative's are.
            return self.cluster.store("apply", merged(self.cluster.objects.get((kind, name), {}), body))

        self._act(patch)

    def do_DELETE(self) -> None:
        self._body()

        def delete() -> Object:
            kind, name = self._target()
            found = self._existing(kind, name)
            del self.cluster.objects[kind, name]
            self.cluster.changes.append(f"delete {kind}/{name}")
            return found

        self._act(delete)

    def _body(self) -> Object:
        length = int(self.headers.get("Content-Length") or 0)
        document: Object = yaml.safe_load(self.rfile.read(length)) if length else {}
        return document

    def _act(self, act: Any) -> None:
        try:
            with self.cluster.lock:
                self._send(200, act())
        except RefusedError as error:
            reasons = {404: "NotFound", 409: "Conflict", 422: "Invalid"}
            failure: Object = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(error)}
            failure |= {"code": error.status, "reason": reasons.get(error.status, "BadRequest")}
            self._send(error.status, failure)

    def _kind(self, path: str) -> tuple[tuple[str, str], list[str]]:
        parts = path.strip("/").split("/")
        version, rest = (parts[1], parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
        if len(rest) > 2 and rest[0] == "namespaces":
            rest = rest[2:]
        for (api, kind), plural in KINDS.items():
            if [api, plural] == [version, *rest[:1]]:
                return (api, kind), rest[1:]
        raise RefusedError(404, f"the server could not find {path}")

    def _target(self) -> tuple[str, str]:
        found, [name] = self._kind(urlsplit(self.path).path)
        return named(*found), name

    def _existing(self, kind: str, name: str) -> Object:
        try:
            return self.cluster.objects[kind, name]
        except KeyError:
            raise RefusedError(404, f'{kind} "{name}" not found') from None

    def _read(self, path: str) -> Object:
        (version, kind), rest = self._kind(path)
        if rest:
            return self._existing(named(version, kind), rest[0])
        if (version, kind) == ("serving.knative.dev/v1", "Service"):
            self.cluster.look()
        query = parse_qs(urlsplit(self.path).query)
        items = [thing for (of, _), thing in sorted(self.cluster.objects.items()) if of == named(version, kind)]
        for selector in query.get("labelSelector", []):
            name, _, value = selector.partition("=")
            items = [thing for thing in items if thing["metadata"].get("labels", {}).get(name) == value]
        for selector in query.get("fieldSelector", []):
            items = [thing for thing in items if thing["metadata"]["name"] == selector.partition("=")[2]]
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}

    def _send(self, status: int, document: Object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def _root(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


VERSIONS = sorted({version for version, _ in KINDS})


def _groups() -> list[Object]:
    groups: dict[str, list[Object]] = {}
    for version in VERSIONS:
        group, slash, number = version.partition("/")
        if slash:
            groups.setdefault(group, []).append({"groupVersion": version, "version": number})
    return [{"name": group, "versions": told, "preferredVersion": told[0]} for group, told in groups.items()]


def _resources(version: str) -> Object:
    resources = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": kind not in CLUSTER_WIDE,
            "kind": kind,
            "verbs": VERBS,
        }
        for (of, kind), plural in KINDS.items()
        if of == version
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _openapi(version: str) -> Object:
    """Return what kubectl looks for: that the server itself checks fields, when it is asked to."""
    group, slash, number = version.partition("/")
    paths = {}
    for (of, kind), plural in KINDS.items():
        if of == version:
            gvk = {"group": group if slash else "", "version": number if slash else version, "kind": kind}
            place = plural if kind in CLUSTER_WIDE else f"namespaces/{{namespace}}/{plural}"
            asks = {"in": "query", "name": "fieldValidation", "schema": {"type": "string"}}
            operation = {"parameters": [asks], "x-kubernetes-group-version-kind": gvk}
            paths[f"/{_root(version)}/{place}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.32.0"}, "paths": paths}


DISCOVERY: dict[str, Callable[[], Object]] = {
    "/version": lambda: {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": lambda: {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": lambda: {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()},
    "/openapi/v3": lambda: {
        "paths": {_root(version): {"serverRelativeURL": f"/openapi/v3/{_root(version)}"} for version in VERSIONS}
    },
    **{f"/{_root(version)}": partial(_resources, version) for version in VERSIONS},
    **{f"/openapi/v3/{_root(version)}": partial(_openapi, version) for version in VERSIONS},
}
"""What the server tells of itself, by path."""


@contextmanager
def serving(folder: Path) -> Iterator[Cluster]:
    """Serve a cluster on a free port, to which the file `kubeconfig` in a folder leads."""
    cluster = Cluster()
    handler = type("Bound", (Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    (folder / "kubeconfig").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
