"""Releases, and what becomes of them: `python -m infra.release release | promote | rollback | status` (docs/releases.md).

Variables say the rest: VERSION, OVERLAY, CANARY, IMAGE of a release, PERCENT of a promotion, VERSION of a promotion or
rollback that is not of the last release, NAMESPACE, and DRY_RUN=1, which reads the cluster and prints what would be done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infra.release import revisions
from infra.release.kubectl import PART_OF, SERVICES, TRAFFIC_MANAGER, Kubectl, condition, is_ready
from infra.release.revisions import ALL, Object, Release, ReleaseError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KNATIVE = Path(__file__).resolve().parents[2] / "knative"
WORKLOADS = ("containersources.sources.knative.dev", "jobsinks.sinks.knative.dev", "deployments.apps")
"""What may run the platform's image without revisions."""
CANARY = 10
MIGRATION_SECONDS = 3600.0


def release(
    cluster: Kubectl, folder: Path, version: Release, *, canary: int = CANARY, image: str | None = None
) -> None:
    """Bring a release into the cluster: what it stands on, the migration, then the functions with a share of the traffic.

    What fails leaves the traffic as it was. Raises ReleaseError.
    """
    rendered = cluster.render(folder)
    chosen = revisions.released_image(rendered, version, image)
    job = revisions.migration(rendered, version, chosen)
    served = {thing["metadata"]["name"]: thing for thing in cluster.all_of(SERVICES)}
    running = {(thing["kind"], thing["metadata"]["name"]): thing for thing in _workloads(cluster)}
    # All is computed before anything is changed: what cannot be released changes nothing.
    services, others = [], []
    for thing in rendered:
        name = thing["metadata"]["name"]
        if revisions.is_service(thing):
            services.append(revisions.service(thing, served.get(name), version, chosen, canary))
        elif revisions.is_workload(thing):
            others.append(revisions.workload(thing, running.get((thing["kind"], name)), version, chosen, canary))
        elif not revisions.is_foundation(thing) and not revisions.is_migration(thing):
            others.append(thing)
    foundation = sorted(filter(revisions.is_foundation, rendered), key=lambda thing: thing["kind"] != "Namespace")
    namespaces = sum(thing["kind"] == "Namespace" for thing in foundation)
    foundation.insert(namespaces, revisions.record(version, cluster.namespace))
    cluster.apply(foundation)
    if job is not None:
        _migrate(cluster, job)
    cluster.apply(services)
    cluster.apply(others)
    cluster.wait_for_services([thing["metadata"]["name"] for thing in services])
    if not cluster.dry_run:
        status(cluster)


def _migrate(cluster: Kubectl, job: Object) -> None:
    """Run the migration, again where it has failed before; raises ReleaseError."""
    name = job["metadata"]["name"]
    if condition(cluster.get("job", name), "Failed"):
        cluster.delete_job(name)
    cluster.apply([job])
    cluster.wait_for_job(name, MIGRATION_SECONDS)


def shift(cluster: Kubectl, percent: int, version: Release | None = None) -> None:
    """Give a release, by default the last one, a share of the traffic of its Services, none for a rollback.

    Returns when the traffic has followed; raises ReleaseError. A Service that the release has not changed, or not divided,
    stays as it is, and is named.
    """
    chosen = _begun_last(cluster) if version is None else version.version
    services = cluster.all_of(SERVICES)
    if all(revisions.version_of(live) != chosen for live in services):
        done = "promote" if percent else "take back"
        raise ReleaseError(f"Release {chosen} has changed no Service: there is nothing to {done}.")
    wanted: dict[str, list[Target]] = {}
    changes: list[Object] = []
    for live in services:
        name, of = live["metadata"]["name"], revisions.version_of(live)
        try:
            if of != chosen:
                raise ReleaseError(f"it is of release {of}, not {chosen}" if of else "no release has changed it")
            change = revisions.shifted_service(live, percent)
        except ReleaseError as error:
            cluster.report(f"{name} stays as it is: {error}")
            continue
        wanted[name] = change["spec"]["traffic"]
        if wanted[name] != live["spec"]["traffic"]:
            changes.append(change)
    if not wanted:
        raise ReleaseError("There is no release to move traffic to or from.")
    workloads = [live for live in _workloads(cluster) if revisions.version_of(live) == chosen]
    moved = (revisions.shifted_workload(live, percent) for live in workloads)
    cluster.apply([*changes, *(change for change in moved if change is not None)], TRAFFIC_MANAGER)
    cluster.wait_for_traffic(wanted)


def _begun_last(cluster: Kubectl) -> str:
    """Return the version of the release that was begun last, whatever became of it; raises ReleaseError."""
    kept = cluster.get("configmap", revisions.RECORD)
    if kept is None:
        raise ReleaseError("There is no release to move traffic to or from; VERSION= names one that is not recorded.")
    return str(kept["data"]["version"])


def _workloads(cluster: Kubectl) -> list[Object]:
    found = [thing for kind in WORKLOADS for thing in cluster.all_of(kind)]
    return [thing for thing in found if revisions.is_workload(thing)]


def status(cluster: Kubectl) -> None:
    """Tell which revisions of each function get how much, where they are reached, and whether they are ready."""
    services = cluster.all_of(SERVICES)
    if not services:
        raise ReleaseError(f"There are no Services with the label {PART_OF} in {cluster.namespace}.")
    for service in services:
        ready = "ready" if is_ready(service) else "NOT READY"
        cluster.report(f"{service['metadata']['name']} ({ready})")
        urls = {target.get("tag"): target.get("url", "") for target in service.get("status", {}).get("traffic", ())}
        for target in service["spec"].get("traffic", ()):
            share = f"{target.get('percent') or 0:3d} %"
            tag = target.get("tag", "")
            cluster.report(
                f"  {share}  {target.get('revisionName', 'the latest')}  {tag}  {urls.get(tag, '')}".rstrip()
            )


def overlay(name: str) -> Path:
    """Return the folder of an overlay; raises ReleaseError for one that there is not."""
    names = sorted(path.parent.name for path in KNATIVE.glob("overlays/*/kustomization.yaml"))
    if name not in names:
        raise ReleaseError(f"OVERLAY must be one of {', '.join(names) or 'none: there are no overlays'}.")
    return KNATIVE / "overlays" / name


def _number(environ: Mapping[str, str], name: str, default: int | None) -> int:
    text = environ.get(name) or ("" if default is None else str(default))
    if not (text.isascii() and text.isdigit()):
        raise ReleaseError(f"{name} must be a number from 0 to {ALL}.")
    return int(text)


def _release(cluster: Kubectl, environ: Mapping[str, str]) -> None:
    release(
        cluster,
        overlay(environ.get("OVERLAY", "")),
        Release(environ.get("VERSION", "")),
        canary=_number(environ, "CANARY", CANARY),
        image=environ.get("IMAGE") or None,
    )


def _promote(cluster: Kubectl, environ: Mapping[str, str]) -> None:
    percent = _number(environ, "PERCENT", None)
    if percent == 0:
        raise ReleaseError("PERCENT is 1 to 100; to take all traffic away there is make rollback.")
    shift(cluster, percent, _version(environ))


def _rollback(cluster: Kubectl, environ: Mapping[str, str]) -> None:
    shift(cluster, 0, _version(environ))


def _version(environ: Mapping[str, str]) -> Release | None:
    return Release(environ["VERSION"]) if environ.get("VERSION") else None


COMMANDS: Mapping[str, Callable[[Kubectl, Mapping[str, str]], None]] = {
    "release": _release,
    "promote": _promote,
    "rollback": _rollback,
    "status": lambda cluster, _: status(cluster),
}


def main() -> None:
    """Do what the command line says; exit with the reason when it cannot be done."""
    command = COMMANDS.get(" ".join(sys.argv[1:]))
    if command is None:
        sys.exit(f"usage: python -m infra.release {' | '.join(COMMANDS)}")
    environ = os.environ

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    namespace = environ.get("NAMESPACE") or "enterprise-agents"
    try:
        command(Kubectl(namespace, report, dry_run=environ.get("DRY_RUN", "") not in {"", "0"}), environ)
    except ReleaseError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
