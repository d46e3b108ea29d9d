"""The containers' commands and variables as the compose file gives them, run as processes of this machine.

There is no container engine here: names of hosts become loopback addresses and ports, and the embedded PostgreSQL and Redis and
the local model server stand for db, redis and litellm. What remains the same is what each process is started with.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from infra.local import environment as local
from infra.local import ports, provision
from infra.local.assembly import ROOT
from infra.local.ports import HOST
from infra.local.process import ChildProcess
from infra.local.readiness import answers, wait_until_ready
from tests.asking import PATIENCE_SECONDS, ask_about, key_of
from tests.compose.reading import DEVELOPMENT, PRODUCTION, Document, environment, render
from tests.conftest import undurable
from tests.functions.platform import until
from tests.servers import server
from tests.stack.conftest import MANUAL, QUESTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from infra.local.postgres import EmbeddedPostgres
    from infra.local.redis import EmbeddedRedis

LARGE_BYTES = 4096
INIT = ROOT / "infra" / "postgres" / "init.sql"
MODELS = ("EMBEDDING_DIMENSIONS", "LITELLM_EMBEDDING_MODEL", "MODEL_LIGHT", "MODEL_STANDARD", "MODEL_HEAVY")
pytestmark = pytest.mark.stack


class Composed:
    """The services of a compose file as processes; `urls` by service."""

    def __init__(self, services: Document, environ: Mapping[str, str], hosts: Mapping[str, str], folder: Path) -> None:
        self._services = services
        self._environ = environ
        self._folder = folder
        # What has a health check over HTTP listens on a port.
        self.listening = [
            name for name, service in services.items() if "infra/probe.py" in str(service.get("healthcheck"))
        ]
        numbers = ports.free(self.listening)
        self.urls = {name: f"http://{HOST}:{port}" for name, port in numbers.items()}
        inside = {name: str(self._told(name).get("PORT", "8080")) for name in self.listening}
        self._addresses = {
            **hosts,
            **{f"http://{name}:{inside[name]}": self.urls[name] for name in self.listening},
        }
        self._numbers = numbers

    def process(self, name: str) -> ChildProcess:
        """Return a service's process, which is not started yet."""
        command = self._services[name].get("command", ["python", "-m", "shared.serving"])
        assert command[0] == "python"
        return ChildProcess(
            name,
            (sys.executable, *command[1:]),
            env={"PATH": os.environ["PATH"], **self.variables(name)},
            cwd=ROOT,
            log_path=self._folder / f"{name}.log",
        )

    def variables(self, name: str) -> dict[str, str]:
        """Return a service's variables, with this machine's addresses."""
        told = {key: self._here(value) for key, value in self._told(name).items()}
        return told | ({"HOST": HOST, "PORT": str(self._numbers[name])} if name in self._numbers else {})

    def check(self, name: str) -> int:
        """Run a service's health check and return its exit status."""
        kind, program, *rest = self._services[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        return subprocess.run([sys.executable, *rest], cwd=ROOT, env=self.variables(name), check=False).returncode

    def _told(self, name: str) -> dict[str, str]:
        return environment(self._services[name], self._environ)

    def _here(self, text: str) -> str:
        for inside, here in self._addresses.items():
            text = text.replace(inside, here)
        return text


@pytest.fixture(scope="module")
def environ(filled_in: dict[str, str]) -> dict[str, str]:
    """The example's variables, with the models of the local model server."""
    nowhere = local.Connections("", "", "", "", "")
    models = local.variables({}, nowhere, embedded_models=True).config
    return (
        filled_in
        | {name: models[name] for name in MODELS}
        | {"CHUNK_SIZE_TOKENS": "192", "CHUNK_OVERLAP_TOKENS": "32"}
        | {"LARGE_DOCUMENT_BYTES": str(LARGE_BYTES)}
    )


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server of its own: init.sql gives the roles, which a whole server has in common, other passwords."""
    with undurable(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def composed(
    environ: dict[str, str],
    postgres: EmbeddedPostgres,
    redis_server: EmbeddedRedis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Composed]:
    """The production file, started in the order of its dependencies."""
    folder = tmp_path_factory.mktemp("compose")
    services = render(PRODUCTION, environ)["services"]
    superuser = f"postgres:{environ['POSTGRES_PASSWORD']}@db:5432"
    with ExitStack() as stack:
        models = server(
            "models",
            "infra.local.model_server",
            folder,
            LITELLM_API_KEY=environ["LITELLM_API_KEY"],
            MODEL_TOKENS_PER_SECOND="0",
        )
        model_url, _ = stack.enter_context(models)
        hosts = {
            # This server's superuser has a password of its own; app and relay have those of init.sql.
            superuser: f"postgres:{postgres.superuser_password}@{HOST}:{postgres.port}",
            "db:5432": f"{HOST}:{postgres.port}",
            f"redis://:{environ['REDIS_PASSWORD']}@redis:6379/0": redis_server.url,
            "http://litellm:4000": model_url,
        }
        _initialise(postgres, services["db"])
        made = Composed(services, environ, hosts, folder)
        migration = made.process("migrate")
        migration.start()
        stack.callback(migration.stop)
        assert migration.wait(PATIENCE_SECONDS * 2) == 0, migration.log_tail()
        started = []
        for name in (*made.listening, "relay"):
            process = made.process(name)
            assert name == "relay" or made.check(name) == 1
            process.start()
            stack.callback(process.stop)
            started.append(process)
        for process in started[:-1]:
            wait_until_ready(
                process, made.urls[process.name] + "/health/ready", timeout=PATIENCE_SECONDS, abort=Event()
            )
        yield made


def _initialise(postgres: EmbeddedPostgres, db: Document) -> None:
    """Make the database as the image's entry point does: the init script, by psql, with the container's variables."""
    [mounted] = [volume.split(":")[0] for volume in db["volumes"] if "initdb.d" in volume]
    assert mounted.endswith("/postgres/init.sql")
    name = db["environment"]["POSTGRES_DB"]
    provision.create_database(postgres.superuser_url, name)
    variables = {key: value for key, value in db["environment"].items() if key.endswith("_PASSWORD")}
    command = [str(postgres.bin_dir / "psql"), "--no-psqlrc", "--quiet", "--file", str(INIT), postgres.url(name)]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_health_check_says_that_its_service_is_well(composed: Composed) -> None:
    assert len(composed.listening) > 10
    assert {name: composed.check(name) for name in composed.listening} == dict.fromkeys(composed.listening, 0)


def status(composed: Composed, name: str) -> dict[str, Any]:
    """Return what the broker, or what runs the Jobs, says of itself."""
    with urllib.request.urlopen(composed.urls[name] + "/status") as response:  # noqa: S310 - a loopback address
        told: dict[str, Any] = json.load(response)
    return told


def test_turns_go_through_the_broker_of_the_compose_file(composed: Composed, postgres: EmbeddedPostgres) -> None:
    seed = subprocess.run(
        [sys.executable, "-m", "infra.seed"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **composed.variables("migrate")},
        capture_output=True,
        text=True,
        check=True,
    )
    key = key_of(seed.stdout)
    documents = {"manual.md": MANUAL.encode()}
    documents["large.md"] = "".join(f"\n{MANUAL.replace('P-7', f'Q-{n}')}" for n in range(LARGE_BYTES // 500)).encode()
    assert len(documents["manual.md"]) < LARGE_BYTES < len(documents["large.md"])
    for name, content in documents.items():
        answer = asyncio.run(ask_about(composed.urls, key, name, content, "text/markdown", QUESTION))
        assert {citation["document"] for citation in answer.citations} & {"manual.md"}
    # A Job's process ends after what it has made is there to be asked for.
    asyncio.run(until(lambda: not status(composed, "job-sink")["active"]))
    assert status(composed, "job-sink")["complete"] == 1
    triggers = status(composed, "broker")["triggers"]
    assert triggers["ingestion-received"]["delivered"] == triggers["ingestion-received-large"]["delivered"] == 1
    with psycopg.connect(postgres.url("enterprise_agents")) as connection:
        assert connection.execute("SELECT status FROM chat.turns").fetchall() == [("completed",), ("completed",)]


def test_development_takes_up_a_change_of_the_code(environ: dict[str, str], composed: Composed, tmp_path: Path) -> None:
    service = render(DEVELOPMENT, environ)["services"]["health"]
    for volume in service["volumes"]:
        source, target, _ = volume.split(":")
        if target in {"/app/functions", "/app/shared"}:
            shutil.copytree(ROOT / source.removeprefix("../../"), tmp_path / target.removeprefix("/app/"))
    watchmedo, *rest = service["command"]
    at_python = rest.index("python")
    command = (*rest[:at_python], sys.executable, *rest[at_python + 1 :])
    [port] = ports.free(["reloaded"]).values()
    process = ChildProcess(
        "reloaded",
        (sys.executable, "-m", f"watchdog.{watchmedo}", *command),
        env={"PATH": os.environ["PATH"], **composed.variables("health"), "PORT": str(port)},
        cwd=tmp_path,
        log_path=tmp_path / "reloaded.log",
    )
    process.start()
    try:
        wait_until_ready(process, f"http://{HOST}:{port}/health", timeout=PATIENCE_SECONDS, abort=Event())
        handler = tmp_path / "functions" / "health" / "main.py"
        handler.write_text(handler.read_text().replace('"/health"', '"/changed"'))
        wait_until_ready(process, f"http://{HOST}:{port}/changed", timeout=PATIENCE_SECONDS, abort=Event())
        assert not answers(f"http://{HOST}:{port}/health")
    finally:
        process.stop()
