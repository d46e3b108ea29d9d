import pytest

from infra.local.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT0.2S", 0.2), ("PT610S", 610.0), ("PT10M", 600.0), ("PT1H30M", 5400.0), ("P1DT2H", 93600.0), ("P2D", 172800.0)],
)
def test_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "10s", "PT1S2M", "P1W", "P1M", "-PT1S", "PT1S "])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an ISO 8601 duration"):
        parse_duration(text)
