"""What a benchmark of single processes stands on: a migrated PostgreSQL and a Redis in a throw-away folder."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.local import environment, manifests, ports, provision
from infra.local.assembly import MANIFESTS, Assembly, assemble, parts
from infra.local.process import PartError
from infra.local.state import StateDir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIGRATION_TIMEOUT_SECONDS = 120.0


@contextmanager
def throw_away_stores(folder: Path) -> Iterator[Assembly]:
    """Yield the parts of a stack with only its stores started; its functions are there to be started and stopped.

    Compiled modules are kept in the folder, whatever the caller's environment says of them: an image ships them.
    """
    environ = environment.embedded_only(os.environ) | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    state = StateDir(folder / "state")
    state.create()
    services = manifests.load(MANIFESTS)
    numbers = ports.free(parts(services, frozenset()))
    assembly = assemble(services, state, numbers, environ, postgres_settings={"fsync": "off"})
    server, redis = assembly.postgres, assembly.redis
    if server is None or redis is None:
        raise PartError("a benchmark runs on embedded stores")
    with server, redis:
        provision.create_database(server.superuser_url, environment.DATABASE)
        assembly.migration.start()
        try:
            if assembly.migration.wait(_MIGRATION_TIMEOUT_SECONDS) != 0:
                raise PartError(f"the migration failed:\n{assembly.migration.log_tail()}")
        finally:
            assembly.migration.stop()
        role = environment.FUNCTIONS_ROLE
        provision.set_passwords(server.superuser_url, {role: state.password(role)})
        yield assembly
