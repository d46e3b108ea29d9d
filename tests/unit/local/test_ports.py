import socket
from collections.abc import Iterator

import pytest

from infra.local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((ports.HOST, 0)) as listener:
        yield listener.getsockname()[1]


def test_parts_have_the_runbooks_ports() -> None:
    assert ports.from_environment(["postgres", "redis", "health"], {}) == {
        "postgres": 5432,
        "redis": 6379,
        "health": 8000,
    }


def test_an_offset_moves_every_port_that_is_not_set_itself() -> None:
    moved = ports.from_environment(["chat", "model-server"], {"PORT_OFFSET": "1000", "PORT_MODEL_SERVER": "4001"})
    assert moved == {"chat": 9001, "model-server": 4001}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"PORT_CHAT": "http"}, "PORT_CHAT='http' is no number"),
        ({"PORT_OFFSET": "x"}, "PORT_OFFSET='x' is no number"),
        ({"PORT_OFFSET": "60000"}, "68001 is no port .chat, moved by PORT_CHAT or PORT_OFFSET"),
        ({"PORT_CHAT": "0"}, "0 is no port"),
        ({"PORT_CHAT": "8002"}, "ingestion and chat are both to use port 8002"),
    ],
)
def test_an_unusable_port_is_explained(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ports.PortError, match=message):
        ports.from_environment(["chat", "ingestion"], environ)


def test_a_part_without_a_default_needs_its_variable() -> None:
    with pytest.raises(ports.PortError, match="set PORT_NEW_THING"):
        ports.from_environment(["new-thing"], {})
    assert ports.from_environment(["new-thing"], {"PORT_NEW_THING": "9000"}) == {"new-thing": 9000}


def test_a_taken_port_is_named_with_its_part_and_variable(taken: int) -> None:
    with pytest.raises(ports.PortError, match=rf"port {taken} for ingestion-worker is taken.*PORT_INGESTION_WORKER"):
        ports.check({"ingestion-worker": taken})


def test_free_ports_differ_and_are_free() -> None:
    found = ports.free(ports.DEFAULTS)
    assert len(set(found.values())) == len(ports.DEFAULTS)
    ports.check(found)
