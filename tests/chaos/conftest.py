"""Processes that are killed at random moments, and deliveries that go astray: `make chaos`.

These tests are run when they are asked for by name, because they take minutes. SEED repeats a run, ROUNDS says how many moments
each part is killed at.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from infra.local.ports import free
from tests.chaos.chance import REPEATED
from tests.chaos.faulty_broker import FaultyBroker, behind
from tests.chaos.scene import Scene, start
from tests.stack.platform import leaking
from tests.stack.reader import connections

HERE = Path(__file__).parent
TALLIES: dict[str, Counter[str]] = {}


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out unless it, or something in it, was named."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(HERE) for path in named) else True


def pytest_report_header() -> str:
    """Say how the run can be repeated."""
    return f"chaos: {REPEATED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was done and what came of it, and again how it can be repeated."""
    terminalreporter.section(f"chaos: {REPEATED}")
    for done, tally in TALLIES.items():
        came = ", ".join(f"{count} {what}" for what, count in tally.items() if what != "times" and count)
        terminalreporter.write_line(f"{done}, {tally['times']} times: {came}")


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A platform whose parts are killed; whatever happens to them, no secret is in its logs."""
    platform = start(tmp_path_factory.mktemp("chaos"))
    with platform.stack:
        yield asyncio.run(Scene.of(platform, TALLIES))
        secrets_ = platform.secrets()
    assert not leaking(platform.stack.state.logs, secrets_)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with connections() as session:
        yield session


@pytest.fixture(scope="session")
def patient_port() -> int:
    return free(["faulty"])["faulty"]


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory, patient_port: int) -> Iterator[Scene]:
    """A platform whose leases outlast every test, and whose relay sends to a broker of the test's own."""
    folder = tmp_path_factory.mktemp("patient")
    platform = start(
        folder,
        manifests=behind(folder, patient_port),
        JOB_LEASE_SECONDS="600",
        SHUTDOWN_SECONDS="1",
        MODEL_TOKENS_PER_SECOND="40",
    )

    async def prepare() -> Scene:
        async with FaultyBroker(patient_port, platform.stack.urls["broker"]):
            return await Scene.of(platform, TALLIES)

    with platform.stack:
        yield asyncio.run(prepare())


@pytest.fixture
async def broker(patient: Scene, patient_port: int) -> AsyncIterator[FaultyBroker]:
    """The broker of `patient`, which passes everything on until it is told otherwise."""
    async with FaultyBroker(patient_port, patient.platform.stack.urls["broker"]) as broker:
        yield broker
