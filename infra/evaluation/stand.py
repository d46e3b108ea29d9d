"""What an evaluation runs on: a throw-away PostgreSQL and the local model server, or those of the environment."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from infra.local import environment, manifests, ports, provision
from infra.local.assembly import MANIFESTS, ROOT, assemble, parts
from infra.local.ports import MODEL_SERVER
from infra.local.process import PartError
from infra.local.readiness import health_path, wait_until_ready
from infra.local.state import StateDir
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIGRATION_TIMEOUT_SECONDS = 120.0
_READY_TIMEOUT_SECONDS = 60.0
_POSTGRES = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "512MB", "max_wal_size": "4GB",
}  # fmt: skip
"""A database that ends with the run needs no durability."""


def cache_path() -> Path:
    """Return where vectors are kept between runs: in the local platform's folder, which `make dev-reset` deletes."""
    state = StateDir(Path(os.environ.get("LOCAL_STATE_DIR") or ROOT / ".local"))
    state.create()
    return state.path / "evaluation" / "vectors.sqlite"


@contextmanager
def stand() -> Iterator[Settings]:
    """Yield the settings of a migrated database and an embedding endpoint.

    DATABASE_URL (with MIGRATION_DATABASE_URL, whose rights the internal functions need) and LITELLM_BASE_URL each replace
    an embedded part; such a database is migrated already. Raises PartError, ConfigurationError.
    """
    environ = dict(os.environ)
    external = environment.external(environ)
    services = manifests.load(MANIFESTS)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="evaluation-", ignore_cleanup_errors=True))
        state = StateDir(Path(folder) / "state")
        state.create()
        assembly = assemble(
            services, state, ports.free(parts(services, external)), environ, postgres_settings=_POSTGRES
        )
        if assembly.model_server is not None:
            stack.callback(assembly.model_server.stop)
            assembly.model_server.start()
        if assembly.postgres is not None:
            server = stack.enter_context(assembly.postgres)
            provision.create_database(server.superuser_url, environment.DATABASE)
            stack.callback(assembly.migration.stop)
            assembly.migration.start()
            if assembly.migration.wait(_MIGRATION_TIMEOUT_SECONDS) != 0:
                raise PartError(f"the migration failed:\n{assembly.migration.log_tail()}")
        if assembly.model_server is not None:
            url = assembly.connections.model_url + health_path(MODEL_SERVER)
            wait_until_ready(assembly.model_server, url, timeout=_READY_TIMEOUT_SECONDS, abort=Event())
        chosen = environment.variables(environ, assembly.connections, embedded_models=assembly.model_server is not None)
        given: dict[str, Any] = {**chosen.config, **chosen.secret}
        yield Settings(**{name.lower(): value for name, value in given.items()})
