import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from infra.local.environment import pooled
from infra.local.pgbouncer import pgbouncer
from tests.stack.platform import Platform, leaking
from tests.stack.reader import User, connections

HERE = Path(__file__).parent

MANUAL = """# Harbour pump P-7

- The relief valve of harbour pump P-7 opens at 31 bar, and the duty officer of the harbour office writes each opening \
down in the green ledger that lies beside the control desk.
- Before the relief valve of harbour pump P-7 is tested, the keeper closes the seaward gate and tells the lock keeper \
by telephone that the basin will be without water for twenty minutes.
- After the relief valve of harbour pump P-7 has opened, a fitter replaces its spring washer, greases the spindle, and \
hangs the yellow tag with the date on the housing.
"""
QUESTION = "What happens with the relief valve of harbour pump P-7?"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in this folder; skip it where it is to run through a PgBouncer that is not there."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("stack")
            if pooled(os.environ) and pgbouncer() is None and not os.environ.get("REQUIRE_PGBOUNCER"):
                item.add_marker(pytest.mark.skip("there is no pgbouncer on PATH (Debian: apt-get install pgbouncer)"))


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose demo tenant has one document; tests may kill its parts, which come back.

    Whatever the tests did, no secret is in its logs.
    """
    platform = Platform.in_folder(tmp_path_factory.mktemp("stack") / "state")

    async def prepare() -> None:
        async with connections() as session:
            await User(platform, session, platform.stack.tenant_id).upload("manual.md", MANUAL)

    with platform.stack:
        asyncio.run(prepare())
        yield platform
        secrets = platform.secrets()
    logs = platform.stack.state.logs
    assert any(logs.glob("chat.log*"))
    assert not leaking(logs, secrets)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with connections() as session:
        yield session


@pytest.fixture
def user(platform: Platform, session: aiohttp.ClientSession) -> User:
    """The demo tenant's user."""
    return User(platform, session, platform.stack.tenant_id)


@pytest.fixture
def stranger(platform: Platform, session: aiohttp.ClientSession) -> User:
    """A user of a tenant of its own, without documents."""
    return User(platform, session, platform.new_tenant())
