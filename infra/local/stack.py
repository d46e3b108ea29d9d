"""A whole platform on one machine: stores, model server, every function of the manifests, relay and broker.

`Stack` is what `make dev`, `make demo` and the stack tests share; it can be used inside any process.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Self

from infra.local import environment, manifests, ports, provision
from infra.local.assembly import MANIFESTS, ROOT, Assembly, assemble, parts
from infra.local.ports import PGBOUNCER, POSTGRES, REDIS
from infra.local.process import ChildProcess, Part, PartError
from infra.local.readiness import health_path, wait_until_ready
from infra.local.state import Record, Running, StateDir
from infra.local.supervision import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from uuid import UUID

    from infra.local.environment import Connections

_MIGRATION_TIMEOUT_SECONDS = 300.0
_READY_TIMEOUT_SECONDS = 60.0
# Every function holds a pool of its own.
_POSTGRES_SETTINGS = {"max_connections": "200"}
_UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def silent(_: str) -> None:
    """Report nothing."""


class Stack:
    """The platform in `state_dir`, on `port_numbers` (default: free ones), with `environ` (default: ours).

    DATABASE_URL, REDIS_URL and LITELLM_BASE_URL in `environ` each replace an embedded part by a real one.
    `folder` holds the manifests, `code` the functions. `report` gets a line for each step and for each part that is restarted.
    `processes` holds each part by name.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port_numbers: Mapping[str, int] | None = None,
        environ: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        folder: Path = MANIFESTS,
        code: Path = ROOT,
        report: Callable[[str], None] = silent,
    ) -> None:
        self.state = StateDir(state_dir)
        self.processes: dict[str, Part] = {}
        self._environ = dict(os.environ if environ is None else environ)
        self._folder = folder
        self._code = code
        self._manifests = manifests.load(folder)
        wanted = parts(self._manifests, environment.external(self._environ), pooled=environment.pooled(self._environ))
        numbers = ports.free(wanted) if port_numbers is None else port_numbers
        self._ports = {part: numbers[part] for part in wanted}
        self._postgres_settings = {**_POSTGRES_SETTINGS, **(postgres_settings or {})}
        self._report = report
        self._abort = threading.Event()
        self._record_lock = threading.Lock()
        self._supervisor: Supervisor | None = None
        self._assembly: Assembly | None = None
        self._tenant_id: UUID | None = None

    @classmethod
    def throw_away(
        cls,
        state_dir: Path,
        *,
        release: Path = ROOT,
        report: Callable[[str], None] = silent,
        **variables: str,
    ) -> Self:
        """Return a stack for a test or a demo: free ports, and embedded stores whatever the environment says.

        `release` is the tree whose functions run by its manifests, on the database of this one. `variables` are environment
        variables on top of the process's own. The caller deletes `state_dir`.
        """
        return cls(
            state_dir,
            environ={**environment.embedded_only(os.environ), **variables},
            postgres_settings=_UNSAFE_BUT_FAST,
            folder=release / MANIFESTS.relative_to(ROOT),
            code=release,
            report=report,
        )

    @property
    def urls(self) -> Mapping[str, str]:
        """The base URL of each function by its Service's name, and of `broker` and `model-server`."""
        return self._started().urls

    @property
    def connections(self) -> Connections:
        """The URLs of the stores, by role."""
        return self._started().connections

    @property
    def tenant_id(self) -> UUID:
        """The demo tenant."""
        if self._tenant_id is None:
            raise PartError("the stack was not started")
        return self._tenant_id

    @property
    def token(self) -> str:
        """A bearer token of the demo tenant, good for a day."""
        return self.token_for(self.tenant_id)

    def token_for(self, tenant_id: UUID, *, subject: str = "demo") -> str:
        """Return a bearer token of any tenant, good for a day."""
        from shared.auth import issue_dev_token
        from shared.settings import DEV_JWT_SECRET

        secret = self._environ.get("DEV_JWT_SECRET") or DEV_JWT_SECRET
        return issue_dev_token(secret=secret, tenant_id=tenant_id, subject=subject)

    def start(self) -> None:
        """Start everything and return when it is ready.

        Raises PartError, ports.PortError, state.StateError or manifests.ManifestError, with nothing left
        running.
        """
        self.state.create()
        self.state.acquire()
        try:
            for name in self.state.end_leftovers():
                self._note(f"ended {name}, left behind by a stack that was killed")
            ports.check(self._ports)
            self._start_parts()
            self._supervisor = Supervisor(self.processes, report=self._note, changed=self._record)
            self._supervisor.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, clients before stores; on return nothing is left running."""
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None
        try:
            stores = [self.processes.pop(name) for name in (REDIS, PGBOUNCER, POSTGRES) if name in self.processes]
            clients = list(self.processes.values())
            self.processes.clear()
            self._together([part.stop for part in clients])
            self._together([part.stop for part in stores])
            self.state.forget_record()
        finally:
            self.state.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self) -> Assembly:
        if self._assembly is None:
            raise PartError("the stack was not started")
        return self._assembly

    def _start_parts(self) -> None:
        self._abort.clear()
        assembly = self._assembly = assemble(
            self._manifests,
            self.state,
            self._ports,
            self._environ,
            postgres_settings=self._postgres_settings,
            folder=self._folder,
            code=self._code,
        )
        # The model server loads its weights while the database is made and migrated.
        steps = [partial(self._start_database, assembly)]
        if assembly.redis is not None:
            steps.append(partial(self._start_part, REDIS, assembly.redis))
        if assembly.model_server is not None:
            steps.append(partial(self._start_server, assembly.model_server))
        self._together(steps)
        servers = [assembly.broker, *assembly.functions.values(), *([assembly.job_sink] if assembly.job_sink else [])]
        self._together(partial(self._start_server, process) for process in servers)
        for name, process in assembly.sources.items():
            self._start_part(name, process)

    def _start_database(self, assembly: Assembly) -> None:
        server, urls = assembly.postgres, assembly.connections
        if server is not None:
            self._start_part(POSTGRES, server)
            provision.create_database(server.superuser_url, environment.DATABASE)
        self._migrate(assembly.migration)
        if server is not None:
            roles = (environment.FUNCTIONS_ROLE, environment.RELAY_ROLE)
            provision.set_passwords(server.superuser_url, {role: self.state.password(role) for role in roles})
        if assembly.pgbouncer is not None:
            self._start_part(PGBOUNCER, assembly.pgbouncer)
        self._tenant_id = provision.demo_tenant(urls.migration_database_url)

    def _migrate(self, migration: ChildProcess) -> None:
        deadline = time.monotonic() + _MIGRATION_TIMEOUT_SECONDS
        migration.start()
        try:
            while migration.running:
                if time.monotonic() > deadline or self._abort.wait(0.05):
                    raise PartError(f"the migration was given up:\n{migration.log_tail()}")
            if migration.exit_status != 0:
                raise PartError(f"the migration failed:\n{migration.log_tail()}")
        finally:
            migration.stop()
        self._note("database migrated")

    def _start_server(self, process: ChildProcess) -> None:
        self._start_part(process.name, process)
        health = self.urls[process.name] + health_path(process.name)
        wait_until_ready(process, health, timeout=_READY_TIMEOUT_SECONDS, abort=self._abort)
        self._note(f"{process.name} ready (pid {process.pid})")

    def _start_part(self, name: str, part: Part) -> None:
        self.processes[name] = part
        part.start()
        self._record()
        if name in {POSTGRES, PGBOUNCER, REDIS} or name not in self._ports:
            self._note(f"{name} started (pid {part.pid})")

    def _together(self, steps: Iterable[Callable[[], None]]) -> None:
        """Run steps side by side; when one fails, the others give up, and its error is raised."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            pending = {pool.submit(step) for step in steps}
            try:
                while pending:
                    done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
            except BaseException:
                self._abort.set()
                raise

    def _record(self) -> None:
        pids = {name: part.pid for name, part in list(self.processes.items())}
        record = Record(
            urls=dict(self.urls),
            processes={name: Running.of(pid) for name, pid in pids.items() if pid is not None},
            variables=asdict(self.connections),
        )
        with self._record_lock:
            self.state.write_record(record)

    def _note(self, line: str) -> None:
        with (self.state.logs / "stack.log").open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")
        self._report(line)
