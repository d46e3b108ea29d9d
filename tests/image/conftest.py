"""The image, really built and run: `make test-image`.

These tests are run when they are asked for by name: they need root, and Debian's packages debootstrap, buildah and runc.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.image.building import Built, Workshop, missing
from tests.image.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.postgres import EmbeddedPostgres
    from infra.local.redis import EmbeddedRedis

HERE = Path(__file__).parent
REPORT: list[str] = []
"""What was measured; printed at the end."""


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out unless it, or something in it, was named."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(HERE) for path in named) else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was measured."""
    if REPORT:
        terminalreporter.section("the image")
        for line in REPORT:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image on this disk."""
    if lacking := missing():
        pytest.fail(lacking, pytrace=False)
    workshop = Workshop(tmp_path_factory.mktemp("image") / "workshop")
    try:
        yield workshop.build()
    finally:
        workshop.close()


@pytest.fixture(scope="session")
def deployment(
    built: Built, postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The whole platform in containers, between stores and a model server of this machine."""
    with Deployment(built, postgres, redis_server, tmp_path_factory.mktemp("containers")) as deployment:
        yield deployment
