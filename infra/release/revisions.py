"""What a release makes of the manifests, and how traffic is divided between revisions; nothing is asked or sent here.

A release is a version. Each Knative Service gets a revision of that name, `chat-1-1-0` for 1.1.0, beside the one that has
served so far. Traffic names revisions, never "the latest", so that nothing moves it but what is said here.
"""

from __future__ import annotations

import hashlib
import json
import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Object = dict[str, Any]
Target = dict[str, Any]

IMAGE = "enterprise-agent-platform"
"""The last part of the name of the image that all functions run."""
VERSION_ANNOTATION = "release.enterprise-agents.com/version"
DIGEST_ANNOTATION = "release.enterprise-agents.com/digest"
IMAGE_ANNOTATION = "release.enterprise-agents.com/image"
"""Of a workload without revisions: the image of the release that waits for all traffic."""
PREVIOUS_ANNOTATION = "release.enterprise-agents.com/previous-image"
"""Of a workload without revisions: the image that a rollback brings back."""
PREVIOUS = "previous"
"""The tag of the revision that a rollback goes back to."""
RECORD = "release"
"""The ConfigMap that says which release was begun last, whatever became of it."""
RELEASE = "release-"
"""A release's tag begins so: release-1-1-0."""
ALL = 100
MAX_LABEL = 63
_CONTAINERS = ("containers", "initContainers")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9a-z]+(\.[0-9a-z]+)*)?")


class ReleaseError(ValueError):
    """It cannot be released so; the message says why, and nothing was changed."""


@dataclass(frozen=True)
class Release:
    """A version, as the names of Kubernetes can say it."""

    version: str

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise ReleaseError(f"VERSION must be like 1.2.0 or 1.2.0-rc.1, in small letters, not {self.version!r}.")

    @property
    def label(self) -> str:
        """The version as a part of a DNS label: 1-1-0."""
        return self.version.replace(".", "-")

    @property
    def tag(self) -> str:
        """The tag under which the release's revisions are reached, whatever traffic they get."""
        return RELEASE + self.label

    def revision(self, service: str) -> str:
        """Return the name of a Service's revision; raises ReleaseError for one that is too long."""
        for name in (f"{service}-{self.label}", f"{self.tag}-{service}"):
            if len(name) > MAX_LABEL:
                raise ReleaseError(f"{name} has more than {MAX_LABEL} characters.")
        return f"{service}-{self.label}"


def is_service(thing: Object) -> bool:
    """Return whether an object is a Knative Service."""
    return str(thing["apiVersion"]).startswith("serving.knative.dev/") and thing["kind"] == "Service"


def is_migration(thing: Object) -> bool:
    """Return whether an object is the Job that migrates the database."""
    return bool(thing["kind"] == "Job" and _labels(thing).get("app.kubernetes.io/name") == "migrate")


def is_foundation(thing: Object) -> bool:
    """Return whether the migration and the functions stand on the object: configuration, networks, stores, model servers."""
    group = str(thing["apiVersion"]).partition("/")[0]
    return not (group.endswith("knative.dev") or is_migration(thing) or is_workload(thing))


def is_workload(thing: Object) -> bool:
    """Return whether an object runs the platform's image without revisions, as the relay does."""
    return not is_service(thing) and thing["kind"] != "Job" and any(True for _ in _own_containers(thing))


def record(release: Release, namespace: str) -> Object:
    """Return what is kept of a release from its beginning on: one that stopped early is not taken for the one before."""
    labels = {"app.kubernetes.io/part-of": IMAGE}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RECORD, "namespace": namespace, "labels": labels},
        "data": {"version": release.version},
    }


def version_of(thing: Object) -> str | None:
    """Return the version of the release that has applied a Service or workload last; None where none has."""
    metadata = (thing["spec"]["template"] if is_service(thing) else thing).get("metadata", {})
    version: str | None = metadata.get("annotations", {}).get(VERSION_ANNOTATION)
    return version


def _labels(thing: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = thing["metadata"].get("labels", {})
    return labels


def _own_containers(value: object) -> Iterator[Object]:
    """Yield the containers below a value that run the platform's image."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _CONTAINERS and isinstance(item, list):
                yield from (c for c in item if image_name(c.get("image", "")).rpartition("/")[2] == IMAGE)
            else:
                yield from _own_containers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _own_containers(item)


def image_name(image: str) -> str:
    """Return an image's name without tag and digest."""
    name = image.partition("@")[0]
    before, colon, tag = name.rpartition(":")
    return before if colon and "/" not in tag else name


def image_of(thing: Object) -> str:
    """Return the platform's image that an object runs."""
    return str(next(_own_containers(thing))["image"])


def with_image(thing: Object, image: str) -> Object:
    """Return the object with another version of the platform's image."""
    changed = deepcopy(thing)
    for container in _own_containers(changed):
        container["image"] = image
    return changed


def released_image(rendered: Iterable[Object], release: Release, image: str | None) -> str:
    """Return the image of a release: as it is given, or by the overlay's name with the version as its tag."""
    if image:
        if image_name(image).rpartition("/")[2] != IMAGE:
            raise ReleaseError(f"IMAGE must be of the image {IMAGE}, whatever stands before and after.")
        return image
    for thing in rendered:
        for container in _own_containers(thing):
            return f"{image_name(container['image'])}:{release.version}"
    raise ReleaseError("No object of the overlay runs the platform's image.")


def migration(rendered: Iterable[Object], release: Release, image: str) -> Object | None:
    """Return the Job that migrates the database for a release, under a name of its own: a Job cannot be changed."""
    found = [thing for thing in rendered if is_migration(thing)]
    if len(found) > 1:
        raise ReleaseError("There is more than one Job that migrates.")
    if not found:
        return None
    job = with_image(found[0], image)
    job["metadata"]["name"] = f"migrate-{release.label}"
    return job


def service(rendered: Object, live: Object | None, release: Release, image: str, canary: int) -> Object:
    """Return a Service with the release's revision, which gets `canary` percent of the traffic.

    `live` is the Service as the cluster has it, None where there is none yet: then all traffic is the release's. Raises
    ReleaseError for a version that the cluster knows with another content.
    """
    _check_percent(canary)
    changed = with_image(rendered, image)
    name = changed["metadata"]["name"]
    template = changed["spec"]["template"]
    metadata = template.setdefault("metadata", {})
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:32]
    metadata["name"] = release.revision(name)
    annotations = {VERSION_ANNOTATION: release.version, DIGEST_ANNOTATION: digest}
    metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
    metadata["labels"] = {**metadata.get("labels", {}), "app.kubernetes.io/version": release.version}
    changed["spec"]["traffic"] = split(_stable(live, release), release, name, canary)
    if live is not None:
        _check_same(live, metadata["name"], digest)
    return changed


def _check_same(live: Object, revision: str, digest: str) -> None:
    """Raise ReleaseError when the newest revision has this name and another content: Knative would never replace it."""
    metadata = live["spec"].get("template", {}).get("metadata", {})
    if metadata.get("name") == revision and metadata.get("annotations", {}).get(DIGEST_ANNOTATION) != digest:
        raise ReleaseError(
            f"{revision} is there with another content: a release never changes. Give it another VERSION."
        )


def _stable(live: Object | None, release: Release) -> str | None:
    """Return the revision that serves most, apart from the release's own; None where there is none."""
    if live is None:
        return None
    own = release.revision(live["metadata"]["name"])
    asked = [target for target in live["spec"].get("traffic", ()) if target.get("revisionName")]
    # A Service that no release has divided asks for the latest revision, and the Route says which that is.
    reached = [target for target in live.get("status", {}).get("traffic", ()) if target.get("revisionName")]
    others = [target for target in asked or reached if target["revisionName"] != own]
    if not others:
        return None
    most = max(others, key=lambda target: (target.get("percent") or 0, target.get("tag") == PREVIOUS))
    return str(most["revisionName"])


def split(stable: str | None, release: Release, service_name: str, percent: int) -> list[Target]:
    """Return the traffic of a Service: `percent` to the release's revision, the rest to the one that has served so far."""
    _check_percent(percent)
    own = release.revision(service_name)
    if stable is None:
        return [{"revisionName": own, "percent": ALL, "tag": release.tag}]
    return [
        {"revisionName": stable, "percent": ALL - percent, "tag": PREVIOUS},
        {"revisionName": own, "percent": percent, "tag": release.tag},
    ]


def shifted(traffic: Sequence[Target], percent: int) -> list[Target]:
    """Return traffic in which the release's revision gets `percent`; 0 is a rollback.

    After a rollback the release's revision is not listed: Knative reroutes nothing while any listed target is not ready,
    whatever its share. Raises ReleaseError where there is no release to move, or nothing to move it from.
    """
    _check_percent(percent)
    previous = [target for target in traffic if target.get("tag") == PREVIOUS]
    released = [target for target in traffic if str(target.get("tag", "")).startswith(RELEASE)]
    if len(traffic) == len(previous) == 1:
        if percent:
            raise ReleaseError("its release was taken back: make release brings one")
        return [{**previous[0], "percent": ALL}]
    if len(released) != 1 or len(previous) > 1 or len(traffic) != len(previous) + 1:
        raise ReleaseError("its traffic was not divided by a release")
    if not previous:
        if percent != ALL:
            raise ReleaseError("it is new in this release: there is no revision before it")
        return [{**released[0], "percent": ALL}]
    if not percent:
        return [{**previous[0], "percent": ALL}]
    return [{**previous[0], "percent": ALL - percent}, {**released[0], "percent": percent}]


def workload(rendered: Object, live: Object | None, release: Release, image: str, canary: int) -> Object:
    """Return a workload without revisions for a release: it takes the new image when the release has all traffic.

    Until then it runs the image that the cluster has, and says in annotations what is to come and what there was.
    """
    before = None if live is None else image_of(live)
    waits = before is not None and canary < ALL
    changed = with_image(rendered, before if waits and before else image)
    annotations = {VERSION_ANNOTATION: release.version, IMAGE_ANNOTATION: image}
    if before is not None:
        annotations[PREVIOUS_ANNOTATION] = _previous_image(live, before, image)
    metadata = changed["metadata"]
    metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
    return changed


def _previous_image(live: Object | None, before: str, image: str) -> str:
    """Return the image to go back to; a release that is applied again does not take itself for the one before."""
    told = (live or {}).get("metadata", {}).get("annotations", {}).get(PREVIOUS_ANNOTATION)
    return told if before == image and told else before


def shifted_service(live: Object, percent: int) -> Object:
    """Return what changes of a Service when the release's revision gets `percent`; otherwise as `shifted`."""
    return _part(live, {"traffic": shifted(live["spec"].get("traffic", []), percent)})


def shifted_workload(live: Object, percent: int) -> Object | None:
    """Return what changes of a workload: it runs the release's image with all traffic, and with none the one before.

    None where nothing changes.
    """
    annotations = live["metadata"].get("annotations", {})
    wanted = annotations.get({ALL: IMAGE_ANNOTATION, 0: PREVIOUS_ANNOTATION}.get(percent, ""))
    if wanted is None or wanted == image_of(live):
        return None
    return _part(live, _containers_alone(with_image(live, wanted)["spec"]))


def _containers_alone(value: Object) -> Object:
    """Return what of a spec leads to the containers of its pods: whoever moves traffic owns no other field."""
    kept: Object = {}
    for key, item in value.items():
        if key in _CONTAINERS:
            kept[key] = item
        elif isinstance(item, dict) and (below := _containers_alone(item)):
            kept[key] = below
    return kept


def _part(live: Object, spec: Object) -> Object:
    metadata = {name: live["metadata"][name] for name in ("name", "namespace") if name in live["metadata"]}
    return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "spec": spec}


def _check_percent(percent: int) -> None:
    if not 0 <= percent <= ALL:
        raise ReleaseError(f"A share of traffic is 0 to {ALL} percent, not {percent}.")
