"""What a release makes of the manifests: names of revisions, the division of traffic, and images of what has no revisions."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from infra.local.assembly import MANIFESTS, ROOT
from infra.release import revisions
from infra.release.revisions import Object, Release, ReleaseError
from tests.manifests.crd import schemas
from tests.manifests.schemas import invalid
from tests.manifests.webhooks import refused

CRDS = ROOT.parent / "shared" / "knative-crds"
ONE, TWO = Release("1.0.0"), Release("1.1.0")
IMAGE = "registry.example.com:5000/enterprise-agent-platform:1.1.0"


def manifest(name: str) -> Object:
    [found] = [thing for thing in yaml.safe_load_all((MANIFESTS / name).read_text()) if thing]
    document: Object = found
    return document


@pytest.fixture
def chat() -> Object:
    return manifest("services/chat.yaml")


@pytest.fixture
def relay() -> Object:
    return manifest("sources/relay.yaml")


def released(
    rendered: Object, live: Object | None, release: Release = TWO, canary: int = 10, image: str = IMAGE
) -> Object:
    return revisions.service(rendered, live, release, image, canary)


def shares(traffic: list[Object]) -> dict[str, tuple[int, str]]:
    assert sum(target["percent"] for target in traffic) == 100
    assert len({target["tag"] for target in traffic}) == len(traffic)
    return {target["revisionName"]: (target["percent"], target["tag"]) for target in traffic}


@pytest.mark.parametrize("version", ["1.0.0", "0.10.2", "1.0.0-rc.1", "2.0.0-a"])
def test_a_version_becomes_names_of_kubernetes(version: str) -> None:
    label = version.replace(".", "-")
    assert (Release(version).revision("chat"), Release(version).tag) == (f"chat-{label}", f"release-{label}")


@pytest.mark.parametrize(
    "version", ["", "1.0", "v1.0.0", "1.0.0-", "1.0.0-RC.1", "1.0.0+build", "1.0.0\n", "1.0.0-a..b"]
)
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ReleaseError, match="VERSION"):
        Release(version)


def test_a_name_that_no_host_can_have_is_refused() -> None:
    with pytest.raises(ReleaseError, match="more than 63"):
        TWO.revision("x" * 50)


def test_the_first_release_gets_all_traffic(chat: Object) -> None:
    first = released(chat, None, ONE, canary=10)
    assert first["spec"]["template"]["metadata"]["name"] == "chat-1-0-0"
    assert first["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert shares(first["spec"]["traffic"]) == {"chat-1-0-0": (100, "release-1-0-0")}
    assert chat == manifest("services/chat.yaml"), "what was rendered stays as it is"


def test_a_canary_gets_its_share_and_the_revision_before_it_the_rest(chat: Object) -> None:
    live = released(chat, None, ONE)
    second = released(chat, live, TWO, canary=25)
    assert shares(second["spec"]["traffic"]) == {"chat-1-0-0": (75, "previous"), "chat-1-1-0": (25, "release-1-1-0")}
    labels = second["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/version"], labels["app.kubernetes.io/name"]) == ("1.1.0", "chat")


def test_a_service_that_no_release_has_divided_keeps_the_revision_that_it_has_reached(chat: Object) -> None:
    live = deepcopy(chat)
    live["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}]
    live["status"] = {"traffic": [{"latestRevision": True, "percent": 100, "revisionName": "chat-00007"}]}
    second = released(chat, live, TWO, canary=0)
    assert shares(second["spec"]["traffic"]) == {"chat-00007": (100, "previous"), "chat-1-1-0": (0, "release-1-1-0")}


@pytest.mark.parametrize(
    ("steps", "stable"),
    [((10,), "chat-1-0-0"), ((10, 50), "chat-1-0-0"), ((10, 100), "chat-1-1-0"), ((10, 100, 0), "chat-1-0-0")],
)
def test_the_next_release_goes_beside_what_serves_most(chat: Object, steps: tuple[int, ...], stable: str) -> None:
    live = released(chat, released(chat, None, ONE))
    for percent in steps[1:]:
        live["spec"]["traffic"] = revisions.shifted_service(live, percent)["spec"]["traffic"]
    third = released(chat, live, Release("1.2.0"), canary=5)
    assert shares(third["spec"]["traffic"]) == {stable: (95, "previous"), "chat-1-2-0": (5, "release-1-2-0")}


def test_the_same_release_may_be_applied_again_and_another_of_its_name_not(chat: Object) -> None:
    live = released(chat, released(chat, None, ONE))
    assert released(chat, live) == live
    changed = deepcopy(chat)
    changed["spec"]["template"]["spec"]["timeoutSeconds"] = 300
    for rendered, image in ((changed, IMAGE), (chat, IMAGE + "-fixed")):
        with pytest.raises(ReleaseError, match="chat-1-1-0 is there with another content"):
            released(rendered, live, image=image)


@pytest.mark.parametrize("percent", [1, 50, 100, 0])
def test_traffic_is_shifted_and_a_rollback_is_a_shift_to_none(chat: Object, percent: int) -> None:
    live = released(chat, released(chat, None, ONE))
    change = revisions.shifted_service(live, percent)
    own = {"chat-1-1-0": (percent, "release-1-1-0")} if percent else {}
    assert shares(change["spec"]["traffic"]) == {"chat-1-0-0": (100 - percent, "previous"), **own}
    assert change["spec"].keys() == {"traffic"}, "nothing else is touched"


def test_a_release_is_taken_back_once_and_comes_back_by_a_release(chat: Object) -> None:
    live = released(chat, released(chat, None, ONE))
    back = revisions.shifted(live["spec"]["traffic"], 0)
    assert revisions.shifted(back, 0) == back
    with pytest.raises(ReleaseError, match="taken back"):
        revisions.shifted(back, 50)
    live["spec"]["traffic"] = back
    assert shares(released(chat, live)["spec"]["traffic"]).keys() == {"chat-1-0-0", "chat-1-1-0"}


def test_what_no_release_has_divided_is_not_shifted(chat: Object) -> None:
    with pytest.raises(ReleaseError, match="not divided by a release"):
        revisions.shifted([{"latestRevision": True, "percent": 100}], 50)
    only = released(chat, None, ONE)["spec"]["traffic"]
    with pytest.raises(ReleaseError, match="new in this release"):
        revisions.shifted(only, 0)
    assert revisions.shifted(only, 100) == only
    for percent in (-1, 101):
        with pytest.raises(ReleaseError, match="0 to 100"):
            revisions.shifted(only, percent)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("enterprise-agent-platform", "enterprise-agent-platform"),
        ("registry.example.com/enterprise-agent-platform:1.0.0", "registry.example.com/enterprise-agent-platform"),
        ("localhost:5000/enterprise-agent-platform", "localhost:5000/enterprise-agent-platform"),
        ("localhost:5000/a/enterprise-agent-platform:1@sha256:ab", "localhost:5000/a/enterprise-agent-platform"),
    ],
)
def test_an_image_is_released_by_the_overlays_name_of_it(chat: Object, image: str, name: str) -> None:
    assert revisions.released_image([revisions.with_image(chat, image)], TWO, None) == f"{name}:1.1.0"


def test_an_image_that_is_given_is_the_platforms(chat: Object) -> None:
    pinned = "registry.example.com/enterprise-agent-platform@sha256:" + "ab" * 32
    assert revisions.released_image([chat], TWO, pinned) == pinned
    with pytest.raises(ReleaseError, match="IMAGE"):
        revisions.released_image([chat], TWO, "registry.example.com/other:1.1.0")


def old(thing: Object, image: str = "enterprise-agent-platform:1.0.0") -> Object:
    return revisions.with_image(thing, image)


def test_a_workload_without_revisions_takes_the_image_when_the_release_has_all_traffic(relay: Object) -> None:
    live = old(relay)
    waiting = revisions.workload(relay, live, TWO, IMAGE, 10)
    assert revisions.image_of(waiting) == "enterprise-agent-platform:1.0.0"
    assert revisions.shifted_workload(waiting, 50) is None
    promoted = revisions.shifted_workload(waiting, 100)
    assert promoted is not None
    assert revisions.image_of(promoted) == IMAGE
    assert promoted["spec"]["template"]["spec"].keys() == {"containers"}, "nothing else is touched"
    running = {**waiting, "spec": revisions.with_image(waiting, IMAGE)["spec"]}
    back = revisions.shifted_workload(running, 0)
    assert back is not None
    assert revisions.image_of(back) == "enterprise-agent-platform:1.0.0"
    assert revisions.shifted_workload(waiting, 0) is None, "it has not moved yet"


def test_a_workload_that_is_new_or_released_at_once_runs_the_image(relay: Object) -> None:
    assert revisions.image_of(revisions.workload(relay, None, TWO, IMAGE, 10)) == IMAGE
    whole = revisions.workload(relay, old(relay), TWO, IMAGE, 100)
    assert revisions.image_of(whole) == IMAGE
    again = revisions.workload(relay, whole, TWO, IMAGE, 100)
    assert again == whole, "a release that is applied again does not take itself for the one before"


def test_the_migration_is_a_job_of_the_releases_own() -> None:
    job: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate-release", "labels": {"app.kubernetes.io/name": "migrate"}},
        "spec": {"template": {"spec": {"containers": [{"name": "m", "image": "enterprise-agent-platform"}]}}},
    }
    found = revisions.migration([job], TWO, IMAGE)
    assert found is not None
    assert (found["metadata"]["name"], revisions.image_of(found)) == ("migrate-1-1-0", IMAGE)
    assert revisions.migration([], TWO, IMAGE) is None
    with pytest.raises(ReleaseError, match="more than one"):
        revisions.migration([job, job], TWO, IMAGE)


@pytest.mark.parametrize("path", sorted((MANIFESTS / "services").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_released_service_is_one_that_a_cluster_takes(path: Path) -> None:
    """Knative's schema is held only where it is beside this repository (../shared/knative-crds), its webhooks' rules always."""
    rendered = manifest(f"services/{path.name}")
    crds = schemas(CRDS) if CRDS.is_dir() else None
    live = released(rendered, None, ONE)
    for service in (live, released(rendered, live), released(rendered, live, canary=0)):
        moved = {**service, "spec": {**service["spec"], **revisions.shifted_service(service, 100)["spec"]}}
        for thing in (service, moved):
            assert [*invalid(thing, crds), *refused(thing)] == []
