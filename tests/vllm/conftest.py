"""A platform whose models are real vLLM processes: one chats, one embeds and puts in order.

These tests are run when they are asked for by name, with the program that is meant: `make test-vllm VLLM=/path/to/vllm`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stack.platform import Platform
from tests.vllm.serving import KEY, Vllm, both

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out unless it, or something in it, was named."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(HERE) for path in named) else True


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vllm, Vllm]]:
    """The one that chats, and the one that embeds."""
    yield from both(os.environ["VLLM"], tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def chat(models: tuple[Vllm, Vllm]) -> Vllm:
    return models[0]


@pytest.fixture(scope="session")
def embedder(models: tuple[Vllm, Vllm]) -> Vllm:
    return models[1]


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, chat: Vllm, embedder: Vllm) -> Iterator[Platform]:
    """A platform that asks the one for embeddings and order, and the other, by its own endpoint, for answers."""
    light, standard, heavy = chat.models
    [model] = embedder.models
    platform = Platform.in_folder(
        tmp_path_factory.mktemp("platform") / "state",
        LITELLM_BASE_URL=embedder.url,
        LITELLM_API_KEY=KEY,
        LITELLM_EMBEDDING_MODEL=model,
        RERANK_MODEL=model,
        EMBEDDING_DIMENSIONS="384",
        CHUNK_SIZE_TOKENS="192",
        CHUNK_OVERLAP_TOKENS="32",
        LITELLM_DEFAULT_MODEL=standard,
        MODEL_LIGHT=light,
        MODEL_STANDARD=standard,
        MODEL_HEAVY=heavy,
    )
    with platform.stack:
        platform.query("UPDATE routing.models SET endpoint = %s", [chat.url])
        yield platform
