"""Releases in a cluster: the real kubectl, before a small API server that does what Knative and Jobs do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local import ports
from infra.local.assembly import MANIFESTS, ROOT
from infra.release.__main__ import release, shift, status
from infra.release.kubectl import Kubectl
from infra.release.revisions import Release, ReleaseError, image_of
from tests.manifests.rendering import OVERLAYS, kubectl
from tests.release.cluster import Cluster, serving

ONE, TWO, THREE = Release("1.0.0"), Release("1.1.0"), Release("1.2.0")
CHAT, RELAY = "chat", ("ContainerSource", "relay")


@dataclass
class Operator:
    """Whoever releases: with a cluster, a folder of manifests, and what was told."""

    cluster: Cluster
    folder: Path
    kubectl: Kubectl
    said: list[str]
    variables: dict[str, str]

    def release(self, version: Release, **options: Any) -> None:
        release(self.kubectl, self.folder, version, **options)

    def image(self) -> str:
        """The tag of the relay's image."""
        return image_of(self.cluster.objects[RELAY]).rpartition(":")[2]

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as make does."""
        return subprocess.run(
            [sys.executable, "-m", "infra.release", command],
            cwd=ROOT,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )


def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let kubectl keep what it keeps in a folder; return its variables. Skips the test where there is no kubectl."""
    assert kubectl()
    variables = {"KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return {"PATH": os.environ["PATH"], **variables}


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """A cluster without anything in it, and manifests of two functions, a relay, a Trigger, a ConfigMap and the migration."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    names = ["configmap.yaml", "services/chat.yaml", "services/embedding.yaml", "sources/relay.yaml"]
    names += ["triggers/embedding-requested.yaml", "migration.yaml"]
    things = [thing for name in names for thing in yaml.safe_load_all((MANIFESTS / name).read_text())]
    (folder / "all.yaml").write_text(yaml.safe_dump_all(filter(None, things)))
    kustomization = {"namespace": "enterprise-agents", "resources": ["all.yaml"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    variables = place(tmp_path, monkeypatch)
    with serving(tmp_path) as cluster:
        said: list[str] = []
        yield Operator(cluster, folder, Kubectl("enterprise-agents", said.append, poll_seconds=0.01), said, variables)


def test_a_release_is_tried_promoted_and_taken_back(operator: Operator) -> None:
    cluster = operator.cluster
    operator.release(ONE)
    assert cluster.changes.index("apply Job/migrate-1-0-0") < cluster.changes.index("apply Service/chat")
    assert cluster.traffic(CHAT) == {"chat-1-0-0": (100, "release-1-0-0")}
    assert operator.image() == "1.0.0"

    operator.release(TWO, canary=10)
    for name in (CHAT, "embedding"):
        assert cluster.traffic(name) == {f"{name}-1-0-0": (90, "previous"), f"{name}-1-1-0": (10, "release-1-1-0")}
    assert operator.image() == "1.0.0", "what has no revisions waits"
    assert any("release-1-1-0-chat.enterprise-agents" in line for line in operator.said)

    shift(operator.kubectl, 50)
    assert cluster.traffic(CHAT)["chat-1-1-0"] == (50, "release-1-1-0")
    shift(operator.kubectl, 100)
    assert cluster.traffic(CHAT) == {"chat-1-0-0": (0, "previous"), "chat-1-1-0": (100, "release-1-1-0")}
    assert operator.image() == "1.1.0"

    del cluster.changes[:]
    shift(operator.kubectl, 0)
    assert cluster.traffic(CHAT) == {"chat-1-0-0": (100, "previous")}
    assert operator.image() == "1.0.0"
    moved = ["apply Service/chat", "apply Service/embedding", "apply ContainerSource/relay"]
    assert cluster.changes == moved, "no image is built, nothing is migrated"

    operator.release(THREE, canary=100)
    assert cluster.traffic(CHAT) == {"chat-1-0-0": (0, "previous"), "chat-1-2-0": (100, "release-1-2-0")}
    assert operator.image() == "1.2.0"


def test_a_whole_overlay_is_released_and_taken_back(operator: Operator) -> None:
    operator.folder = OVERLAYS / "eu-west-1"
    operator.release(ONE)
    operator.release(TWO, canary=100)
    shift(operator.kubectl, 0)
    services = [name for kind, name in operator.cluster.objects if kind == "Service"]
    assert len(services) > 10
    for name in services:
        assert operator.cluster.traffic(name) == {f"{name}-1-0-0": (100, "previous")}
    changes = operator.cluster.changes
    stands_on = [change for change in changes if change.startswith(("apply StatefulSet/", "apply Deployment/"))]
    assert changes.index("apply Job/migrate-1-0-0") > max(changes.index(change) for change in stands_on)
    every = {image for thing in operator.cluster.objects.values() for image in images_of(thing.get("spec"))}
    images = {image for image in every if "/enterprise-agent-platform:" in image}
    assert images == {f"registry.example.com/enterprise-agent-platform:{version}" for version in ("1.0.0", "1.1.0")}
    assert operator.image() == "1.0.0"


def images_of(value: object) -> set[str]:
    """Return the images below a value."""
    if isinstance(value, dict):
        own = {value["image"]} if isinstance(value.get("image"), str) else set()
        return own.union(*(images_of(item) for item in value.values()))
    return set().union(*(images_of(item) for item in value)) if isinstance(value, list) else set()


def test_a_migration_that_fails_changes_nothing_and_is_tried_again(operator: Operator) -> None:
    cluster = operator.cluster
    operator.release(ONE)
    cluster.failing_jobs.add("migrate-1-1-0")
    with pytest.raises(ReleaseError, match="Job migrate-1-1-0 has failed, and nothing else was changed"):
        operator.release(TWO)
    assert cluster.traffic(CHAT) == {"chat-1-0-0": (100, "release-1-0-0")}
    assert operator.image() == "1.0.0"
    cluster.failing_jobs.clear()
    operator.release(TWO)
    assert cluster.traffic(CHAT)["chat-1-1-0"] == (10, "release-1-1-0")
    assert "delete Job/migrate-1-1-0" in cluster.changes


def test_a_revision_that_does_not_start_gets_no_traffic(operator: Operator) -> None:
    cluster = operator.cluster
    operator.release(ONE)
    cluster.unready.add("chat-1-1-0")
    waiting = Kubectl("enterprise-agents", operator.said.append, poll_seconds=0.01, ready_seconds=0)
    with pytest.raises(ReleaseError, match=r"without traffic: chat: chat-1-1-0 does not start$"):
        release(waiting, operator.folder, TWO)
    assert reached(cluster) == {"chat-1-0-0": (100, "release-1-0-0")}
    status(operator.kubectl)
    assert "chat (NOT READY)" in operator.said
    shift(operator.kubectl, 0)
    assert reached(cluster) == {"chat-1-0-0": (100, "previous")}


def reached(cluster: Cluster, name: str = CHAT) -> dict[str, tuple[int, str]]:
    """Return what the Route of a Service does, whatever was asked of it."""
    return {t["revisionName"]: (t["percent"], t["tag"]) for t in cluster.service(name)["status"]["traffic"]}


def test_a_release_that_no_longer_starts_is_taken_back_and_once_is_enough(operator: Operator) -> None:
    """Knative reroutes nothing while a revision that is listed is not ready, also one without a share."""
    cluster = operator.cluster
    operator.release(ONE)
    operator.release(TWO, canary=100)
    cluster.unready.add("chat-1-1-0")
    shift(operator.kubectl, 0)
    assert reached(cluster) == {"chat-1-0-0": (100, "previous")}
    assert reached(cluster, "embedding") == {"embedding-1-0-0": (100, "previous")}
    del cluster.changes[:]
    shift(operator.kubectl, 0)
    assert cluster.changes == []
    with pytest.raises(ReleaseError, match="no release to move"):
        shift(operator.kubectl, 50)
    assert "chat stays as it is: its release was taken back: make release brings one" in operator.said


def test_traffic_is_waited_for(operator: Operator) -> None:
    operator.release(ONE)
    operator.release(TWO)
    operator.cluster.lag = 4
    shift(operator.kubectl, 50)
    assert reached(operator.cluster) == {"chat-1-0-0": (50, "previous"), "chat-1-1-0": (50, "release-1-1-0")}


def test_services_whose_traffic_does_not_follow_are_named(operator: Operator) -> None:
    operator.release(ONE)
    operator.release(TWO)
    operator.cluster.unready.add("chat-1-1-0")
    hasty = Kubectl("enterprise-agents", operator.said.append, poll_seconds=0.01, traffic_seconds=0)
    with pytest.raises(ReleaseError, match=r"did not follow after 0 s: chat: chat-1-1-0 does not start$"):
        shift(hasty, 100)
    assert reached(operator.cluster) == {"chat-1-0-0": (90, "previous"), "chat-1-1-0": (10, "release-1-1-0")}
    assert reached(operator.cluster, "embedding")["embedding-1-1-0"] == (100, "release-1-1-0")


def test_a_release_that_stopped_half_way_takes_back_what_it_has_changed(operator: Operator) -> None:
    cluster = operator.cluster
    operator.release(ONE)
    operator.release(TWO, canary=100)
    cluster.refused.add("embedding")
    with pytest.raises(ReleaseError, match="embedding may not be changed"):
        operator.release(THREE, canary=100)
    cluster.refused.clear()
    shift(operator.kubectl, 0)
    assert reached(cluster) == {"chat-1-1-0": (100, "previous")}
    assert reached(cluster, "embedding")["embedding-1-1-0"] == (100, "release-1-1-0")
    assert "embedding stays as it is: it is of release 1.1.0, not 1.2.0" in operator.said
    assert operator.image() == "1.1.0"


@pytest.mark.parametrize("failing", ["the migration", "what it stands on"])
def test_a_release_that_failed_before_any_service_has_nothing_to_take_back(operator: Operator, failing: str) -> None:
    cluster = operator.cluster
    operator.release(ONE)
    operator.release(TWO, canary=100)
    (cluster.failing_jobs if failing == "the migration" else cluster.refused).update(
        ["migrate-1-2-0", "enterprise-agents"]
    )
    with pytest.raises(ReleaseError):
        operator.release(THREE)
    del cluster.changes[:]
    for percent, done in ((0, "take back"), (50, "promote")):
        with pytest.raises(ReleaseError, match=f"1.2.0 has changed no Service: there is nothing to {done}"):
            shift(operator.kubectl, percent)
    assert cluster.changes == []
    # The one before is taken back where that is what is meant.
    assert operator.run("rollback", VERSION="1.1.0").returncode == 0
    assert reached(cluster) == {"chat-1-0-0": (100, "previous")}


def test_a_service_that_left_the_overlay_is_not_moved(operator: Operator) -> None:
    operator.release(ONE)
    operator.release(TWO, canary=50)
    manifests = operator.folder / "all.yaml"
    things = [thing for thing in yaml.safe_load_all(manifests.read_text()) if thing["metadata"]["name"] != "embedding"]
    manifests.write_text(yaml.safe_dump_all(things))
    operator.release(THREE, canary=10)
    for percent in (100, 0):
        shift(operator.kubectl, percent)
        assert reached(operator.cluster, "embedding")["embedding-1-1-0"] == (50, "release-1-1-0")
    assert reached(operator.cluster) == {"chat-1-0-0": (100, "previous")}


@pytest.mark.parametrize("taken_back", [False, True])
def test_what_an_emergency_has_deleted_comes_back_by_the_release_that_serves(
    operator: Operator, taken_back: bool
) -> None:
    cluster = operator.cluster
    operator.release(ONE)
    operator.release(TWO, canary=100)
    if taken_back:
        shift(operator.kubectl, 0)
    serving, version = (ONE, "1-0-0") if taken_back else (TWO, "1-1-0")
    del cluster.objects[RELAY]
    # An overlay that is applied by itself says another template, and no other name.
    command = [kubectl(), "apply", "--server-side", "--force-conflicts", "-k", str(operator.folder)]
    done = subprocess.run(command, env=operator.variables, capture_output=True, text=True, check=False)
    assert "changes of the template without a change of its name" in done.stderr
    cluster.objects.pop(RELAY, None)
    operator.release(serving, canary=100)
    assert reached(cluster)[f"chat-{version}"] == (100, f"release-{version}")
    assert operator.image() == serving.version


def test_what_cannot_be_released_changes_nothing(operator: Operator) -> None:
    operator.release(ONE)
    del operator.cluster.changes[:]
    with pytest.raises(ReleaseError, match="another content"):
        operator.release(ONE, image="registry.example.com/enterprise-agent-platform:1.0.0-fixed")
    with pytest.raises(ReleaseError, match="0 to 100"):
        operator.release(TWO, canary=101)
    assert operator.cluster.changes == []


def test_a_dry_run_tells_and_changes_nothing(operator: Operator) -> None:
    operator.release(ONE)
    del operator.cluster.changes[:], operator.said[:]
    dry = Kubectl("enterprise-agents", operator.said.append, dry_run=True)
    release(dry, operator.folder, TWO, canary=20)
    told = "\n".join(operator.said)
    assert "name: chat-1-1-0" in told
    assert "# wait until the Job migrate-1-1-0 is complete" in told
    assert told.index("kind: Job") < told.index("kind: Service")
    assert operator.cluster.changes == []
    operator.release(TWO)
    del operator.cluster.changes[:]
    shift(dry, 100)
    assert operator.cluster.changes == []
    assert operator.said[-3].startswith("# kubectl apply --server-side")
    assert operator.said[-1] == "# wait until the traffic has followed: chat embedding"


def test_the_commands_say_what_is_wrong(operator: Operator) -> None:
    cases = [
        ("release", {"VERSION": "1.1", "OVERLAY": "nowhere"}, "OVERLAY must be one of"),
        ("promote", {}, "PERCENT must be a number from 0 to 100"),
        ("promote", {"PERCENT": "0"}, "make rollback"),
        ("rollback", {}, "There is no release to move traffic to or from"),
        ("status", {}, "There are no Services"),
        ("undo", {}, "usage: python -m infra.release release | promote | rollback | status"),
    ]
    for command, variables, complaint in cases:
        done = operator.run(command, **variables)
        assert (done.returncode, done.stdout) == (1, ""), (command, done)
        assert complaint in done.stderr, (command, done)


def test_the_commands_move_traffic(operator: Operator) -> None:
    operator.release(ONE)
    operator.release(TWO)
    assert operator.run("promote", PERCENT="50").returncode == 0
    assert operator.cluster.traffic(CHAT)["chat-1-1-0"] == (50, "release-1-1-0")
    assert operator.run("rollback").returncode == 0
    assert operator.cluster.traffic(CHAT)["chat-1-0-0"] == (100, "previous")
    shown = operator.run("status")
    assert "100 %  chat-1-0-0  previous  http://previous-chat." in shown.stdout


def test_an_api_server_that_does_not_answer_is_told(operator: Operator) -> None:
    config = Path(operator.variables["KUBECONFIG"])
    config.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{ports.free(['nobody'])['nobody']}", config.read_text()))
    with pytest.raises(ReleaseError, match="kubectl get"):
        operator.release(ONE)
