"""A Redis with a replica and three sentinels, each a process of its own."""

import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from infra.local import ports
from infra.local.ports import HOST
from infra.local.process import ChildProcess
from infra.local.redis import server_binary

SERVICE = "mymaster"
SERVERS = ("one", "two")
SENTINELS = ("first", "second", "third")
PATIENCE_SECONDS = 60.0


class ReplicatedRedis:
    """Two servers, of which one is the primary, and who watches them; all ask for the same password."""

    def __init__(self, folder: Path) -> None:
        self.password = secrets.token_urlsafe(16)
        self.ports = ports.free([*SERVERS, *SENTINELS])
        self._folder = folder
        self._processes: dict[str, ChildProcess] = {}
        self._clients = {
            name: redis.Redis(
                host=HOST, port=port, password=self.password, decode_responses=True, retry=Retry(NoBackoff(), 0)
            )
            for name, port in self.ports.items()
        }

    def url(self, *sentinels: str, password: str | None = None, options: str = "") -> str:
        """Return the URL that names these sentinels, or all."""
        hosts = ",".join(f"{HOST}:{self.ports[name]}" for name in sentinels or SENTINELS)
        return f"redis+sentinel://:{self.password if password is None else password}@{hosts}/{SERVICE}/0{options}"

    def client(self, name: str) -> redis.Redis:
        """Return a client of one server."""
        return self._clients[name]

    @property
    def primary(self) -> str:
        """The name of the server that every sentinel takes for the primary, as soon as they agree and it is one."""
        self._until(lambda: self._agreed, "the sentinels do not agree")
        return self._agreed

    @property
    def _agreed(self) -> str:
        """The same; empty while they do not agree."""
        told = {self._told_by(name) for name in SENTINELS if self._processes[name].running}
        return told.pop() if len(told) == 1 else ""

    def start(self) -> None:
        """Start all, and return when a failover would succeed."""
        self._start_server("one", of=None)
        self._start_server("two", of="one")
        for name in SENTINELS:
            self._start_sentinel(name)
        self.settle()

    def stop(self) -> None:
        """End all."""
        for client in self._clients.values():
            client.close()
        for process in self._processes.values():
            process.stop()

    def kill(self, name: str) -> None:
        """End a server or a sentinel without a chance to say goodbye."""
        pid = self._processes[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def fail_over(self) -> str:
        """Kill the primary, wait until the sentinels have promoted the other server, and return its name."""
        former = self.primary
        self.kill(former)
        self._until(lambda: self._agreed not in ("", former), "nobody was promoted")
        return self.primary

    def hand_over(self) -> str:
        """Have the other server promoted and the primary demoted, which lives, and return the new one's name."""
        former = self.primary
        self._ask(SENTINELS[0], "SENTINEL", "FAILOVER", SERVICE)
        self._until(lambda: self._agreed not in ("", former), "nobody was promoted")
        # What a sentinel sends it after ten seconds.
        with self._clients[former].pipeline() as demotion:
            demotion.replicaof(HOST, self.ports[self.primary])
            demotion.client_kill_filter(_type="normal")
            demotion.execute()
        self.settle()
        return self.primary

    def heal(self) -> None:
        """Start the server that was killed, as a replica of the other one, and return when a failover would succeed."""
        primary = self.primary
        for name, process in self._processes.items():
            if not process.running:
                process.stop()
                if name in SERVERS:
                    self._start_server(name, of=primary)
                else:
                    process.start()
        self.settle()

    def settle(self) -> None:
        """Return when every sentinel knows the others and the replica, which is up to date."""
        self._until(lambda: self._is_replicated() and all(map(self._is_settled, SENTINELS)), "a failover would fail")

    def _is_replicated(self) -> bool:
        primary = self._agreed
        return bool(primary) and any(
            name != primary and self._clients[name].info("replication").get("master_link_status") == "up"
            for name in SERVERS
        )

    def _is_settled(self, name: str) -> bool:
        try:
            told = self._ask(name, "SENTINEL", "MASTER", SERVICE)
            replicas = self._ask(name, "SENTINEL", "REPLICAS", SERVICE)
        except RedisError:
            return False
        others = int(told["num-other-sentinels"]) == len(SENTINELS) - 1
        return others and any(replica["flags"] in ("slave", {"slave"}) for replica in replicas)

    def _told_by(self, sentinel: str) -> str:
        """Return whom a sentinel names, when that server agrees."""
        try:
            told = self._ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            [name] = [name for name in SERVERS if told and self.ports[name] == int(told[1])]
            role = self._ask(name, "ROLE")
        except RedisError:
            return ""
        return name if role[0] == "master" else ""

    def _start_server(self, name: str, *, of: str | None) -> None:
        settings = {
            "bind": HOST,
            "port": str(self.ports[name]),
            "dir": f'"{self._folder}"',
            "dbfilename": f"{name}.rdb",
            "save": '""',
            "requirepass": self.password,
            "masterauth": self.password,
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
        }
        if of is not None:
            settings["replicaof"] = f"{HOST} {self.ports[of]}"
        self._run(name, [str(server_binary()), "-"], settings)
        self._until(lambda: self._answers(name), f"{name} does not answer")

    def _start_sentinel(self, name: str) -> None:
        # A sentinel keeps what it learns in its configuration.
        path = self._folder / f"{name}.conf"
        lines = [
            f"bind {HOST}",
            f"port {self.ports[name]}",
            f"requirepass {self.password}",
            f"sentinel sentinel-pass {self.password}",
            f"sentinel monitor {SERVICE} {HOST} {self.ports['one']} 2",
            f"sentinel auth-pass {SERVICE} {self.password}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 1000",
        ]
        path.write_text("\n".join(lines) + "\n")
        self._run(name, [str(server_binary()), str(path), "--sentinel"], {})

    def _run(self, name: str, command: list[str], settings: dict[str, str]) -> None:
        process = self._processes[name] = ChildProcess(
            name,
            command,
            env=os.environ,
            cwd=self._folder,
            log_path=self._folder / f"{name}.log",
            input_text="".join(f"{key} {value}\n" for key, value in settings.items()),
        )
        process.start()

    def _ask(self, name: str, *command: str) -> Any:
        return self._clients[name].execute_command(*command)  # type: ignore[no-untyped-call]

    def _answers(self, name: str) -> bool:
        try:
            return bool(self._clients[name].ping())
        except RedisError:
            return False

    def _until(self, condition: Callable[[], object], complaint: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            logs = {name: process.log_tail(5) for name, process in self._processes.items()}
            assert time.monotonic() < deadline, f"{complaint}: {logs}"
            time.sleep(0.05)
