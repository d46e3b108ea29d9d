"""Which processes make up a stack, with what command and environment; nothing is started here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local import environment
from infra.local.manifests import ManifestError
from infra.local.pgbouncer import STATISTICS_ROLE, Pgbouncer
from infra.local.ports import BROKER, HOST, JOB_SINK, MODEL_SERVER, PGBOUNCER, POSTGRES, REDIS
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import ChildProcess, program
from infra.local.redis import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.local.environment import Connections, Variables
    from infra.local.manifests import ContainerSource, Manifests, Service
    from infra.local.state import StateDir

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "knative" / "base"

_ROLES = (environment.FUNCTIONS_ROLE, environment.RELAY_ROLE)

# A function with an open stream would wait for its end; on a laptop Ctrl-C means now.
_STOP_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that a stack starts.

    `postgres`, `redis` and `model_server` are None where a real one is, `pgbouncer` where none stands before PostgreSQL.

    `job_sink` runs the JobSinks, and is None where there are none. `functions` are the Services by name, `sources` the
    ContainerSources, `urls` where each part is reached.
    """

    connections: Connections
    postgres: EmbeddedPostgres | None
    pgbouncer: Pgbouncer | None
    redis: EmbeddedRedis | None
    model_server: ChildProcess | None
    migration: ChildProcess
    broker: ChildProcess
    job_sink: ChildProcess | None
    functions: Mapping[str, ChildProcess]
    sources: Mapping[str, ChildProcess]
    urls: Mapping[str, str]


def parts(manifests: Manifests, external: frozenset[str], *, pooled: bool = False) -> list[str]:
    """Return the parts that listen on a port, PgBouncer among them where connections are pooled."""
    pool = (PGBOUNCER,) if pooled else ()
    every = (POSTGRES, *pool, REDIS, MODEL_SERVER, BROKER, *_job_sink(manifests), *manifests.services)
    return [part for part in every if part not in external]


def _job_sink(manifests: Manifests) -> tuple[str, ...]:
    return (JOB_SINK,) if manifests.job_sinks else ()


def assemble(
    manifests: Manifests,
    state: StateDir,
    ports: Mapping[str, int],
    environ: Mapping[str, str],
    *,
    postgres_settings: Mapping[str, str],
    folder: Path = MANIFESTS,
    code: Path = ROOT,
) -> Assembly:
    """Return the parts of a stack on these ports; what has no port here is external.

    `folder` is the manifests', `code` that of the functions and sources: it may be another release's than the rest.
    """
    postgres = _postgres(state, ports, postgres_settings)
    pgbouncer = None if postgres is None else _pgbouncer(postgres, state, ports)
    redis = _redis(state, ports)
    connections = environment.connections(
        environ,
        embedded_database=None if postgres is None else _database_urls(postgres, pgbouncer, state),
        embedded_redis=None if redis is None else redis.url,
        model_port=ports.get(MODEL_SERVER),
    )
    variables = environment.variables(environ, connections, embedded_models=MODEL_SERVER in ports)
    build = _Builder(state, ports, variables, code)
    return Assembly(
        connections=connections,
        postgres=postgres,
        pgbouncer=pgbouncer,
        redis=redis,
        model_server=build.model_server() if MODEL_SERVER in ports else None,
        migration=build.migration(manifests),
        broker=build.broker(manifests, folder),
        job_sink=build.job_sink(manifests, folder) if manifests.job_sinks else None,
        functions={name: build.function(service) for name, service in manifests.services.items()},
        sources={source.name: build.source(source) for source in manifests.sources},
        urls={
            **{name: build.url(name) for name in (*manifests.services, BROKER, *_job_sink(manifests))},
            MODEL_SERVER: connections.model_url,
        },
    )


class _Builder:
    """Makes child processes with the variables that each may see."""

    def __init__(self, state: StateDir, ports: Mapping[str, int], variables: Variables, code: Path) -> None:
        self._state = state
        self._ports = ports
        self._variables = variables
        self._code = code

    def url(self, part: str) -> str:
        return f"http://{HOST}:{self._ports[part]}"

    def model_server(self) -> ChildProcess:
        secret = {"LITELLM_API_KEY": self._variables.secret["LITELLM_API_KEY"]}
        return self._process(MODEL_SERVER, ("python", "-m", "infra.local.model_server"), secret)

    def migration(self, manifests: Manifests) -> ChildProcess:
        if manifests.migration is None:
            raise ManifestError("there is no Job that migrates the database")
        resolved = manifests.migration.environment(self._variables.config, self._variables.secret)
        return self._process("migrate", manifests.migration.command, resolved)

    def broker(self, manifests: Manifests, folder: Path) -> ChildProcess:
        subscribers = {name: self.url(name) for name in (*manifests.services, *_job_sink(manifests))}
        own = {"LOCAL_SUBSCRIBERS": json.dumps(subscribers), "LOCAL_MANIFESTS": str(folder)}
        return self._process(BROKER, ("python", "-m", "infra.local.broker"), own)

    def job_sink(self, manifests: Manifests, folder: Path) -> ChildProcess:
        resolved = {
            sink.name: sink.container.environment(self._variables.config, self._variables.secret)
            for sink in manifests.job_sinks.values()
        }
        own = {
            "LOCAL_MANIFESTS": str(folder),
            "LOCAL_JOB_VARIABLES": json.dumps(resolved),
            "LOCAL_JOB_EVENTS": str(self._state.path / "jobs"),
            "LOCAL_JOB_LOGS": str(self._state.logs),
        }
        return self._process(JOB_SINK, ("python", "-m", "infra.local.jobs"), own)

    def function(self, service: Service) -> ChildProcess:
        resolved = service.container.environment(self._variables.config, self._variables.secret)
        return self._process(service.name, service.container.command, resolved, self._code)

    def source(self, source: ContainerSource) -> ChildProcess:
        # What Knative's SinkBinding injects into the container of a source.
        sink = source.sink
        base = self.url(BROKER if sink.service is None else sink.service) if not sink.uri else sink.uri
        injected = {"K_SINK": base, "K_CE_OVERRIDES": json.dumps({"extensions": dict(source.extensions)})}
        resolved = source.container.environment(self._variables.config, self._variables.secret)
        return self._process(source.name, source.container.command, {**resolved, **injected}, self._code)

    def _process(self, name: str, command: Sequence[str], own: Mapping[str, str], cwd: Path = ROOT) -> ChildProcess:
        listen = {"HOST": HOST, "PORT": str(self._ports[name])} if name in self._ports else {}
        return ChildProcess(
            name,
            program(command),
            env={**self._variables.inherited, **self._variables.config, **own, **listen},
            cwd=cwd,
            log_path=self._state.logs / f"{name}.log",
            patience=_STOP_PATIENCE_SECONDS,
        )


def _postgres(state: StateDir, ports: Mapping[str, int], settings: Mapping[str, str]) -> EmbeddedPostgres | None:
    if POSTGRES not in ports:
        return None
    log = state.logs / "postgres.log"
    return EmbeddedPostgres(state.postgres, ports[POSTGRES], settings=settings, log_path=log)


def _redis(state: StateDir, ports: Mapping[str, int]) -> EmbeddedRedis | None:
    if REDIS not in ports:
        return None
    return EmbeddedRedis(state.redis, ports[REDIS], log_path=state.logs / "redis.log")


def _pgbouncer(server: EmbeddedPostgres, state: StateDir, ports: Mapping[str, int]) -> Pgbouncer | None:
    if PGBOUNCER not in ports:
        return None
    passwords = {role: state.password(role) for role in (*_ROLES, STATISTICS_ROLE)}
    return Pgbouncer(state.pgbouncer, ports[PGBOUNCER], server.port, passwords, log_path=state.logs / "pgbouncer.log")


def _database_urls(server: EmbeddedPostgres, pgbouncer: Pgbouncer | None, state: StateDir) -> tuple[str, str, str]:
    """Return the URLs of the functions, the relay and the role that migrates, which goes to the server itself."""
    functions, relay = (
        (pgbouncer or server).url(environment.DATABASE, user=role, password=state.password(role)) for role in _ROLES
    )
    return functions, relay, server.url(environment.DATABASE)
