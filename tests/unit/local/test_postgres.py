import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local.ports import HOST, free
from infra.local.postgres import EmbeddedPostgres, PostgresError
from infra.local.process import birth

FAST = {"fsync": "off", "shared_buffers": "16MB"}
Make = Callable[[], EmbeddedPostgres]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    servers: list[EmbeddedPostgres] = []

    def build() -> EmbeddedPostgres:
        server = EmbeddedPostgres(tmp_path / "with space" / "data", free(["server"])["server"], settings=FAST)
        servers.append(server)
        return server

    yield build
    for server in servers:
        server.stop()


def ask(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def test_cluster_is_made_once_and_keeps_its_data(make: Make) -> None:
    first = make()
    first.start()
    with psycopg.connect(first.superuser_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    first.stop()
    second = make()
    second.start()
    assert ask(second, "SELECT n FROM kept") == 7
    assert second.superuser_password == first.superuser_password


def test_server_is_utf8_has_the_extensions_and_obeys_settings(make: Make) -> None:
    with make() as server:
        assert ask(server, "SHOW server_encoding") == "UTF8"
        assert ask(server, "SHOW fsync") == "off"
        names = "SELECT count(*) FROM pg_available_extensions WHERE name IN ('vector', 'pg_trgm')"
        assert ask(server, names) == 2
        assert ask(server, "SELECT lower('ÄÉ')") == "äé"


def test_only_the_right_password_is_let_in_over_loopback(make: Make) -> None:
    with make() as server:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url("postgres", password="wrong"))
        assert ask(server, "SHOW listen_addresses") == HOST
        assert ask(server, "SHOW unix_socket_directories") == ""


def test_secrets_and_data_are_for_the_owner_only(make: Make) -> None:
    with make() as server:
        password = server.data_dir.with_name("data.password")
        assert stat.S_IMODE(password.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def test_a_stopped_server_is_gone(make: Make) -> None:
    server = make()
    server.start()
    pid = server.pid
    assert pid is not None
    server.stop()
    assert birth(pid) is None
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, server.port), timeout=1)


def test_a_server_that_was_killed_is_started_again(make: Make) -> None:
    with make() as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        while server.running:
            time.sleep(0.01)
        server.start()
        assert ask(server, "SELECT 1") == 1


def test_a_left_over_pid_file_of_another_process_is_no_obstacle(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    (server.data_dir / "postmaster.pid").write_text(f"1\n{server.data_dir}\n")
    server.start()
    assert ask(server, "SELECT 1") == 1


def test_an_interrupted_initialisation_is_begun_again(make: Make) -> None:
    server = make()
    rest = server.data_dir.with_name("data.new")
    rest.mkdir(parents=True)
    (rest / "PG_VERSION").write_text("18\n")
    server.start()
    assert not rest.exists()
    assert ask(server, "SELECT 1") == 1


def test_two_servers_cannot_share_a_cluster(make: Make) -> None:
    with make(), pytest.raises(PostgresError, match="in use by another process"):
        make().start()


def test_a_taken_port_is_reported_with_the_servers_own_words(make: Make) -> None:
    server = make()
    with (
        socket.create_server((HOST, server.port)),
        pytest.raises(PostgresError, match=f'could not bind IPv4 address "{HOST}"'),
    ):
        server.start()
    assert not server.running


def test_a_lost_password_is_reported(make: Make) -> None:
    with make() as server:
        server.data_dir.with_name("data.password").unlink()
    with pytest.raises(PostgresError, match="password is missing"):
        _ = make().superuser_password


def test_url_quotes_what_it_is_given(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", 5999)
    assert server.url("a b", user="me", password="p:/@") == "postgresql://me:p%3A%2F%40@127.0.0.1:5999/a%20b"
    assert server.url("db", user="me") == "postgresql://me@127.0.0.1:5999/db"


def test_client_programs_come_with_the_server(make: Make) -> None:
    assert {"postgres", "pg_dump", "psql"} <= {path.name for path in make().bin_dir.iterdir()}
