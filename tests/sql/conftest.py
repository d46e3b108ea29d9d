"""A database that tests may share which need nothing but tenants of their own."""

from collections.abc import Iterator

import pytest

from infra.local.postgres import EmbeddedPostgres
from tests.conftest import new_database
from tests.support import PASSWORDS, Database


@pytest.fixture(scope="module")
def module_database(postgres: EmbeddedPostgres, template: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database of the module's own: a clone for each test would take longer than most of them."""
    name = request.node.name.replace("/", "_").removesuffix(".py")
    with new_database(postgres, name, template):
        urls = {role: postgres.url(name, user=role, password=password) for role, password in PASSWORDS.items()}
        yield Database({"postgres": postgres.url(name), **urls})


@pytest.fixture
def cleared_database(module_database: Database) -> Iterator[Database]:
    """The module's database without any tenant. The audit log, which nobody clears, keeps the chains of those before."""
    yield module_database
    with module_database.connect() as operator:
        operator.run("DELETE FROM core.tenants")
