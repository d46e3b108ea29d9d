import queue
from collections.abc import Iterator

import pytest

from infra.local.process import PartError
from infra.local.supervision import Supervisor


class FakePart:
    """Ends when told to; fails to start as often as told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.alive = True
        self.pid: int | None = 1
        self.failures = failures

    @property
    def running(self) -> bool:
        return self.alive

    def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise PartError("not now")
        self.pid = (self.pid or 0) + 1
        self.alive = True

    def stop(self) -> None:
        self.alive = False


class Watched:
    def __init__(self, part: FakePart) -> None:
        self.part = part
        self.lines: queue.Queue[str] = queue.Queue()
        self.changes: queue.Queue[None] = queue.Queue()
        self.supervisor = Supervisor({"chat": part}, report=self.lines.put, changed=lambda: self.changes.put(None))


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    watched = Watched(FakePart(failures=getattr(request, "param", 0)))
    watched.supervisor.start()
    yield watched
    watched.supervisor.stop()


def test_a_part_that_ends_is_started_again_and_reported(watched: Watched) -> None:
    watched.part.alive = False
    assert watched.lines.get(timeout=60) == "chat ended by itself; starting it again in 0.2 s"
    assert watched.lines.get(timeout=60) == "chat runs again (pid 2)"
    watched.changes.get(timeout=60)
    assert watched.part.running


def test_the_wait_grows_while_a_part_keeps_ending(watched: Watched) -> None:
    waits = []
    for _ in range(3):
        watched.part.alive = False
        waits.append(watched.lines.get(timeout=60).rpartition(" in ")[2])
        watched.lines.get(timeout=60)
    assert waits == ["0.2 s", "0.4 s", "0.8 s"]


@pytest.mark.parametrize("watched", [1], indirect=True)
def test_a_start_that_fails_is_tried_again(watched: Watched) -> None:
    watched.part.alive = False
    lines = [watched.lines.get(timeout=60) for _ in range(4)]
    assert lines[1] == "chat cannot be started again: not now"
    assert lines[3] == "chat runs again (pid 2)"


def test_after_stop_nothing_is_started(watched: Watched) -> None:
    watched.supervisor.stop()
    watched.part.alive = False
    assert watched.lines.empty()
    assert not watched.part.running
