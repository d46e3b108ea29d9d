"""A platform between two LiteLLM proxies: one is its model endpoint, the other is its client.

    client -> LiteLLM in front -> openai-api -> ... -> inference -> LiteLLM as upstream -> model servers

These tests are run when they are asked for by name (`make test-litellm`): LiteLLM is big to install.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.litellm.proxy import LiteLLM, configuration, model
from tests.servers import server
from tests.stack.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SERVICE = "openai-api"
MODEL_KEY = "sk-model-server"
EMBEDDING_MODEL = "local/all-minilm-l6-v2"
EXTRACTIVE = ("local/extractive-light", "local/extractive-standard")
MOCK = "mock/heavy"
_LIGHT, _STANDARD = EXTRACTIVE


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out unless it, or something in it, was named."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(HERE) for path in named) else True


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    """LiteLLM in front of the stand-in model server and of the mock one, which has fixed answers and calls tools."""
    folder = tmp_path_factory.mktemp("upstream")
    with (
        server("model-server", "infra.local.model_server", folder, LITELLM_API_KEY=MODEL_KEY) as (extractive_url, _),
        server("mock", "tests.benchmarks.upstream", folder) as (mock_url, _),
    ):
        models = [model(name, extractive_url, MODEL_KEY) for name in (*EXTRACTIVE, EMBEDDING_MODEL)]
        with LiteLLM(folder, configuration([*models, model(MOCK, mock_url)])) as proxy:
            yield proxy


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, upstream: LiteLLM) -> Iterator[Platform]:
    """A platform whose only model endpoint is LiteLLM."""
    platform = Platform.in_folder(
        tmp_path_factory.mktemp("platform") / "state",
        LITELLM_BASE_URL=upstream.url,
        LITELLM_API_KEY=upstream.key,
        LITELLM_EMBEDDING_MODEL=EMBEDDING_MODEL,
        EMBEDDING_DIMENSIONS="384",
        CHUNK_SIZE_TOKENS="192",
        CHUNK_OVERLAP_TOKENS="32",
        LITELLM_DEFAULT_MODEL=_STANDARD,
        MODEL_LIGHT=_LIGHT,
        MODEL_STANDARD=_STANDARD,
        MODEL_HEAVY=MOCK,
    )
    with platform.stack:
        yield platform


@pytest.fixture(scope="session")
def in_front(tmp_path_factory: pytest.TempPathFactory, platform: Platform) -> Iterator[LiteLLM]:
    """LiteLLM with the platform's OpenAI API as its provider."""
    urls = platform.stack.urls
    key = platform.service_key("litellm")
    models = [model(name, urls[SERVICE], key) for name in ("auto", "heavy", MOCK, EMBEDDING_MODEL, "no/such-model")]
    with LiteLLM(tmp_path_factory.mktemp("in-front"), configuration(models)) as proxy:
        yield proxy
