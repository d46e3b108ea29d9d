"""What a release asks of a cluster, by kubectl: a few commands, each of which may be repeated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from infra.release.revisions import Object, ReleaseError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SERVICES = "services.serving.knative.dev"
PART_OF = "app.kubernetes.io/part-of=enterprise-agent-platform"
MANAGER, TRAFFIC_MANAGER = "release", "release-traffic"
"""Who owns the fields of a release, and who moves its traffic (server-side apply)."""
POLL_SECONDS = 2.0
READY_SECONDS = 600.0
TRAFFIC_SECONDS = 120.0


@dataclass(frozen=True)
class Kubectl:
    """The cluster of kubectl's current context. In a dry run it is only read, and `report` gets what would be done."""

    namespace: str
    report: Callable[[str], None]
    dry_run: bool = False
    poll_seconds: float = POLL_SECONDS
    ready_seconds: float = READY_SECONDS
    """How long the functions of a release may take to become ready."""
    traffic_seconds: float = TRAFFIC_SECONDS
    """How long traffic may take to follow what was asked."""

    def render(self, folder: Path) -> list[Object]:
        """Return the objects of a kustomization; raises ReleaseError."""
        rendered = self._run("kustomize", str(folder))
        return [thing for thing in yaml.safe_load_all(rendered) if thing]

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object, None where there is none; raises ReleaseError."""
        found = self._run("get", kind, name, "--ignore-not-found", "-o", "json", namespaced=True)
        thing: Object | None = json.loads(found) if found.strip() else None
        return thing

    def all_of(self, kind: str) -> list[Object]:
        """Return the platform's objects of a kind by name, none where the cluster does not know it; raises ReleaseError."""
        try:
            found = self._run("get", kind, "-l", PART_OF, "-o", "json", namespaced=True)
        except ReleaseError as error:
            if "the server doesn't have a resource type" in str(error):
                return []
            raise
        things: list[Object] = json.loads(found)["items"]
        return sorted(things, key=lambda thing: str(thing["metadata"]["name"]))

    def apply(self, things: Sequence[Object], manager: str = MANAGER) -> None:
        """Bring objects to what they are to be, or those parts of them that are told; raises ReleaseError.

        No version of the objects is named: what their controllers write meanwhile does not stand in the way.
        """
        if things:
            command = ("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-")
            self._change(command, yaml.safe_dump_all(things, sort_keys=False))

    def delete_job(self, name: str) -> None:
        """Delete a Job with its pods; raises ReleaseError."""
        self._change(("delete", "job", name, "--ignore-not-found", "--wait=true"), "", namespaced=True)

    def wait_for_job(self, name: str, seconds: float) -> None:
        """Return when a Job is complete; raises ReleaseError when it has failed, or takes too long."""
        if self.dry_run:
            self.report(f"# wait until the Job {name} is complete")
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.get("job", name)
            if condition(job, "Complete"):
                return
            if condition(job, "Failed"):
                raise ReleaseError(f"The Job {name} has failed, and nothing else was changed: kubectl logs job/{name}")
            time.sleep(self.poll_seconds)
        raise ReleaseError(f"The Job {name} is not complete after {seconds:.0f} s, and nothing else was changed.")

    def wait_for_services(self, names: Sequence[str]) -> None:
        """Return when all Services are ready; raises ReleaseError with what the others say."""
        if self.dry_run:
            self.report(f"# wait until the Services are ready: {' '.join(names)}")
            return
        deadline = time.monotonic() + self.ready_seconds
        while waiting := [s for s in self.all_of(SERVICES) if s["metadata"]["name"] in names and not is_ready(s)]:
            if time.monotonic() > deadline:
                told = "; ".join(f"{service['metadata']['name']}: {_complaint(service)}" for service in waiting)
                raise ReleaseError(f"Not ready after {self.ready_seconds:.0f} s, without traffic: {told}")
            time.sleep(self.poll_seconds)

    def wait_for_traffic(self, wanted: Mapping[str, Sequence[Target]]) -> None:
        """Return when Services, by name, have the traffic that is wanted; raises ReleaseError with those that did not follow.

        Whether a Service is ready says another thing: it is not while its newest revision does not start, even without traffic.
        """
        if self.dry_run:
            self.report(f"# wait until the traffic has followed: {' '.join(wanted)}")
            return
        deadline = time.monotonic() + self.traffic_seconds
        while waiting := [s for s in self.all_of(SERVICES) if not _follows(s, wanted.get(s["metadata"]["name"]))]:
            if time.monotonic() > deadline:
                told = "; ".join(f"{s['metadata']['name']}: {_complaint(s, 'RoutesReady')}" for s in waiting)
                raise ReleaseError(f"Traffic did not follow after {self.traffic_seconds:.0f} s: {told}")
            time.sleep(self.poll_seconds)

    def _change(self, command: Sequence[str], standard_input: str, *, namespaced: bool = False) -> None:
        if self.dry_run:
            shown = ("kubectl", *(("-n", self.namespace) if namespaced else ()), *command)
            self.report(f"# {' '.join(shown)}")
            if standard_input:
                self.report(standard_input)
            return
        for line in self._run(*command, namespaced=namespaced, standard_input=standard_input).splitlines():
            self.report(line)

    def _run(self, *command: str, namespaced: bool = False, standard_input: str = "") -> str:
        # The one that is pinned with the platform's packages, or else the machine's.
        places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        program = shutil.which("kubectl", path=places)
        if program is None:
            raise ReleaseError("There is no kubectl on PATH.")
        where = ("-n", self.namespace) if namespaced else ()
        done = subprocess.run(  # noqa: S603 - the program is kubectl, and there is no shell between
            [program, *where, *command], input=standard_input, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ReleaseError(f"kubectl {command[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def is_ready(service: Object) -> bool:
    """Return whether a Service has become what was last asked of it."""
    seen = service.get("status", {}).get("observedGeneration")
    return condition(service, "Ready") and seen == service["metadata"].get("generation")


def _follows(service: Object, wanted: Iterable[Target] | None) -> bool:
    reached = service.get("status", {}).get("traffic", ())
    return wanted is None or _shares(reached) == _shares(wanted)


def _shares(traffic: Iterable[Target]) -> set[tuple[str, int, str]]:
    return {(str(t.get("revisionName")), t.get("percent") or 0, t.get("tag", "")) for t in traffic}


def _complaint(service: Object, kind: str = "Ready") -> str:
    conditions = service.get("status", {}).get("conditions", ())
    told = [c.get("message") or c.get("reason") for c in conditions if c["type"] == kind and c["status"] != "True"]
    return str(told[0] if told and told[0] else "no word yet")


def condition(thing: Object | None, kind: str) -> bool:
    """Return whether a condition of an object's status is true."""
    conditions = (thing or {}).get("status", {}).get("conditions", ())
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)
