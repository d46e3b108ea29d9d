import pytest

from infra.local.model_server.config import Config, ConfigError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Config.from_environment({}) == Config("127.0.0.1", 4000, None, 200.0)
    assert Config.from_environment({"PORT": "", "LITELLM_API_KEY": ""}) == Config()


def test_every_variable_is_read() -> None:
    environment = {"HOST": "::1", "PORT": "1", "LITELLM_API_KEY": "k", "MODEL_TOKENS_PER_SECOND": "0.5"}
    assert Config.from_environment(environment) == Config("::1", 1, "k", 0.5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "²"),
        ("MODEL_TOKENS_PER_SECOND", "fast"),
        ("MODEL_TOKENS_PER_SECOND", "-1"),
        ("MODEL_TOKENS_PER_SECOND", "nan"),
        ("MODEL_TOKENS_PER_SECOND", "inf"),
    ],
)
def test_an_unusable_value_is_named_in_the_error(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable} .*{value}"):
        Config.from_environment({variable: value})
