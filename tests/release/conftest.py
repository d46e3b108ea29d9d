from pathlib import Path

import pytest

from infra.release.previous import NoHistoryError, extract, recorded


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the previous release; where this clone has no history, the test is skipped."""
    try:
        return extract(tmp_path_factory.mktemp("previous"), recorded())
    except NoHistoryError as error:
        pytest.skip(str(error))
