from collections.abc import Iterator

import pytest

from infra.local.model_server.embeddings import Encoder


@pytest.fixture(scope="session")
def encoder() -> Iterator[Encoder]:
    """One loaded model for all tests: loading takes a fraction of a second and the encoder keeps no state."""
    encoder = Encoder()
    yield encoder
    encoder.close()
