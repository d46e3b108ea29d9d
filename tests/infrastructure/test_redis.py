"""Three Redis and three Sentinels, started by infra/redis/start.sh who is master, when it goes, and when it is back."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import pytest
import redis as client

from infra.local import ports
from infra.local.assembly import ROOT
from infra.local.ports import HOST
from infra.local.redis import server_binary
from tests.infrastructure.bundles import rendered
from tests.manifests.rendering import containers, named

CONF = ROOT / "infra" / "redis"
PASSWORD = "made-up"
MASTER = "mymaster"
PATIENCE_SECONDS = 180.0
"""Nothing is measured: a failover takes a few seconds, half a minute more where Sentinel was stalled: it then only watches."""

NOT_HEARD_OF_SECONDS = 6.0
"""A replica that has not answered for five seconds is none that Sentinel would make master."""

Answer = TypeVar("Answer")


def until(ask: Callable[[], Answer]) -> Answer:
    """Return what is answered once it is something; whoever does not answer yet is asked again."""
    end = monotonic() + PATIENCE_SECONDS
    while monotonic() < end:
        with suppress(client.RedisError, OSError):
            if answer := ask():
                return answer
        sleep(0.1)
    raise AssertionError("it never came to that")


class Pod:
    """A Redis with its Sentinel, and the volume that outlives them."""

    def __init__(self, folder: Path, port: int, sentinel_port: int, first: int) -> None:
        self.port, self.sentinel_port, self.password = port, sentinel_port, PASSWORD
        self._folder = folder
        self._first = first
        self._processes: list[subprocess.Popen[bytes]] = []
        (folder / "data").mkdir(parents=True)
        shutil.copytree(CONF, folder / "conf")
        for name in ("redis.conf", "sentinel.conf"):
            with (folder / "conf" / name).open("a") as file:
                # A pod listens on its own address; here nobody else is to reach it.
                file.write(f"bind {HOST}\n")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{server_binary().parent}:{os.environ['PATH']}",
            "SELF": f"{HOST} {self.port}",
            "FIRST": f"{HOST} {self._first}",
            "SENTINEL_PORT": str(self.sentinel_port),
            "REDISCLI_AUTH": self.password,
            "DATA": str(self._folder / "data"),
            "CONF": str(self._folder / "conf"),
            "DOWN_AFTER_MILLISECONDS": "3000",
        }

    def start(self) -> None:
        for part in ("redis", "sentinel"):
            log = (self._folder / f"{part}.log").open("ab")
            with log:
                command = ["sh", str(self._folder / "conf" / "start.sh"), part]
                self._processes.append(
                    subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log, cwd=self._folder)
                )

    def halt(self, signal_: signal.Signals) -> None:
        """Stop the Redis, as on a machine that is too busy, or let it go on."""
        self._processes[0].send_signal(signal_)

    def kill(self) -> None:
        """End both at once, as when a node is lost."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def written(self, part: str) -> list[str]:
        """Return the lines of the file that a part keeps for itself."""
        return (self._folder / "data" / f"{part}.conf").read_text().splitlines()

    def leave(self) -> subprocess.Popen[bytes]:
        """Begin to do what a pod does before it ends."""
        return subprocess.Popen(["sh", self._folder / "conf" / "leave.sh"], env=self._environment())

    def ask(self, *command: object) -> Any:
        return self._ask(self.port, *command)

    def ask_sentinel(self, *command: object) -> Any:
        return self._ask(self.sentinel_port, *command)

    def _ask(self, port: int, *command: object) -> Any:
        with client.Redis(HOST, port, password=self.password, decode_responses=True, socket_timeout=5) as connection:
            return connection.execute_command(*command)

    def role(self) -> str:
        role: str = self.ask("ROLE")[0]
        return role

    def master(self) -> int:
        """Return the port of the master by this pod's Sentinel."""
        address: list[str] = self.ask_sentinel("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER)
        return int(address[1])


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[list[Pod]]:
    """Three of them that know each other; the first is master."""
    names = [f"{part}-{number}" for number in range(3) for part in ("redis", "sentinel")]
    free = ports.free(names)
    first = free["redis-0"]
    pods = [Pod(tmp_path / str(n), free[f"redis-{n}"], free[f"sentinel-{n}"], first) for n in range(3)]
    try:
        for pod in pods:
            pod.start()
        until(lambda: settled(pods))
        assert [pod.role() for pod in pods] == ["master", "slave", "slave"]
        yield pods
    finally:
        for pod in pods:
            pod.kill()


def settled(pods: list[Pod]) -> bool:
    """Return whether all Sentinels know each other and one master, whom all others follow."""
    masters = {pod.master() for pod in pods}
    watched = [dict(zip(told[::2], told[1::2], strict=True)) for told in map(told_of_master, pods)]
    others = [(int(told["num-slaves"]), int(told["num-other-sentinels"])) for told in watched]
    return (
        len(masters) == 1
        and others == [(len(pods) - 1, len(pods) - 1)] * len(pods)
        and sorted(pod.role() for pod in pods) == ["master", *["slave"] * (len(pods) - 1)]
        and all(linked(pod) for pod in pods)
    )


def told_of_master(pod: Pod) -> list[str]:
    told = pod.ask_sentinel("SENTINEL MASTER", MASTER)
    return [item for pair in told.items() for item in pair] if isinstance(told, dict) else told


def linked(pod: Pod) -> bool:
    role = pod.ask("ROLE")
    return bool(role[0] == "master" or role[3] == "connected")


def master_among(pods: list[Pod]) -> Pod:
    """Return the one that is master, once there is one."""
    [master, *_] = until(lambda: [pod for pod in pods if pod.role() == "master"])
    return master


def test_three_agree_on_a_master_whatever_happens_to_them(pods: list[Pod]) -> None:
    """One story, because Sentinel looks around only every ten seconds: each of them alone would begin with that wait."""
    for port in (pods[0].port, pods[0].sentinel_port):
        for password in (None, "wrong"):
            assert refused(port, password)

    # The master is lost with its Sentinel.
    lost, *rest = pods
    lost.ask("SET", "kept", "yes")
    assert lost.ask("WAIT", 2, 5000) == 2
    lost.kill()
    new = master_among(rest)
    assert new.ask("GET", "kept") == "yes"
    new.ask("SET", "since", "then")

    # It comes back, and believes itself to be master until the others tell it.
    lost.start()
    until(lambda: settled(pods))
    assert until(lambda: lost.ask("GET", "since")) == "then"

    # A master that is evicted hands over first, if need be to one that does not answer yet; a replica has nothing to hand over.
    leaving = master_among(pods)
    replicas = [pod for pod in pods if pod is not leaving]
    for pod in replicas:
        pod.halt(signal.SIGSTOP)
    sleep(NOT_HEARD_OF_SECONDS)
    handing_over = leaving.leave()
    sleep(1)
    for pod in replicas:
        pod.halt(signal.SIGCONT)
    assert handing_over.wait(PATIENCE_SECONDS) == 0
    assert leaving.role() == "slave"
    assert leaving.leave().wait(PATIENCE_SECONDS) == 0
    until(lambda: settled(pods))
    assert leaving.ask("GET", "since") == "then"

    # All are started again, with a new password: none has forgotten what was, nor who was master.
    master = master_among(pods)
    for pod in pods:
        pod.kill()
        pod.password = "another"
    follow = f"replicaof {HOST} {master.port}"
    assert [follow in pod.written("redis") for pod in pods] == [pod is not master for pod in pods]
    assert all(f"sentinel monitor {MASTER} {HOST} {master.port} 2" in pod.written("sentinel") for pod in pods)
    for pod in pods:
        pod.start()
    until(lambda: settled(pods))
    assert all(pod.ask("GET", "since") == "then" for pod in pods)
    assert refused(pods[0].port, PASSWORD)
    assert refused(pods[0].sentinel_port, PASSWORD)


def refused(port: int, password: str | None) -> bool:
    """Return whether a Redis or a Sentinel wants another password; raises where it does not answer."""
    with client.Redis(HOST, port, password=password) as connection:
        try:
            connection.ping()
        except (client.AuthenticationError, client.ResponseError):
            return True
    return False


def test_the_manifests_start_it_with_the_variables_that_the_script_reads() -> None:
    script = (CONF / "start.sh").read_text()
    told = {"SELF", "FIRST", "SENTINEL_PORT", "REDISCLI_AUTH", "DATA", "CONF"}
    assert all(f"${name}" in script or f"${{{name}" in script for name in told)
    for container in containers(named(rendered("redis"), "StatefulSet/redis")):
        assert told <= {variable["name"] for variable in container["env"]}
        assert container["command"] == ["sh", "/etc/redis/start.sh", container["name"]]
    [single] = containers(named(rendered("redis/single"), "Deployment/redis"))
    assert told - {"SENTINEL_PORT"} <= {variable["name"] for variable in single["env"]}
