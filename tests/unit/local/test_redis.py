import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.local.ports import HOST, free
from infra.local.process import PartError, birth
from infra.local.redis import EmbeddedRedis

Make = Callable[[], EmbeddedRedis]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    servers: list[EmbeddedRedis] = []

    def build() -> EmbeddedRedis:
        server = EmbeddedRedis(tmp_path / "with space", free(["server"])["server"])
        servers.append(server)
        return server

    yield build
    for server in servers:
        server.stop()


def test_what_was_stored_outlives_a_stop(make: Make) -> None:
    first = make()
    first.start()
    with redis.Redis.from_url(first.url) as client:
        client.set("key", "value")
    first.stop()
    with make() as second, redis.Redis.from_url(second.url) as client:
        assert client.get("key") == b"value"


def test_only_who_knows_the_password_is_let_in(make: Make) -> None:
    with make() as server, redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(redis.AuthenticationError):
            client.ping()
        assert stat.S_IMODE((server.data_dir / "password").stat().st_mode) == 0o600


def test_no_list_of_processes_shows_the_password(make: Make) -> None:
    with make() as server:
        password = server.url.split(":")[2].split("@")[0]
        assert server.pid is not None
        shown = Path(f"/proc/{server.pid}/cmdline")
        if not shown.exists():
            pytest.skip("there is no /proc on this system")
        assert password.encode() not in shown.read_bytes()


def test_a_stopped_server_is_gone(make: Make) -> None:
    server = make()
    server.start()
    pid = server.pid
    assert pid is not None
    server.stop()
    assert birth(pid) is None


def test_a_server_that_was_killed_is_started_again(make: Make) -> None:
    with make() as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        while server.running:
            time.sleep(0.01)
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()


def test_a_taken_port_is_reported_with_the_servers_own_words(make: Make) -> None:
    server = make()
    with (
        socket.create_server((HOST, server.port)),
        pytest.raises(PartError, match=r"(?i)address already in use"),
    ):
        server.start()
    assert not server.running
