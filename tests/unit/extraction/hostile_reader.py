"""A reader that does what a document with an exploit would have it do: the document's name says what."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from functions.ingestion.reading.limits import Limits


def read(original: bytes, media_type: str, name: str, limits: Limits) -> dict[str, Any]:  # noqa: ARG001 - a reader's arguments
    """Do it, and tell in the text what came of it."""
    try:
        told = DEEDS[name](original)
    except OSError as error:
        told = f"refused: {error.strerror}"
    return {
        "text": told,
        "format": "text/plain",
        "pages": [],
        "title": "",
        "metadata": {},
        "media_type": "text/plain",
    }


def _hang(_: bytes) -> str:
    while True:
        time.sleep(1)


def _fork_and_hang(_: bytes) -> str:
    if os.fork():
        os._exit(0)
    return _hang(b"")


def _spin(_: bytes) -> str:
    while True:
        pass


def _eat(_: bytes) -> str:
    eaten = []
    while True:
        eaten.append(bytearray(16 * 1024 * 1024))


def _segfault(_: bytes) -> str:
    return str(ctypes.string_at(0))


def _abort(_: bytes) -> str:
    os.abort()


def _raise(_: bytes) -> str:
    raise LookupError


def _leave(_: bytes) -> str:
    os._exit(3)


def _say_nothing(_: bytes) -> str:
    os._exit(0)


def _say_much(_: bytes) -> str:
    return "x" * (200 * 1024 * 1024)


def _tell(original: bytes) -> str:
    """Tell what this process knows: environment, files it holds, who it is."""
    held = {int(number) for number in range(64) if _is_open(number)}
    return json.dumps(
        {"environment": dict(os.environ), "files": sorted(held), "pid": os.getpid(), "length": len(original)}
    )


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _spoil(_: bytes) -> str:
    """Leave a trace in the memory of this process."""
    sys.spoiled = getattr(sys, "spoiled", 0) + 1  # type: ignore[attr-defined]
    return str(sys.spoiled)  # type: ignore[attr-defined]


def _kill(process: int) -> str:
    os.kill(process, signal.SIGKILL)
    return "killed"


def _run_program(_: bytes) -> str:
    return subprocess.run(["/bin/true"], check=True, capture_output=True).stdout.decode()


DEEDS: dict[str, Callable[[bytes], str]] = {
    "hang": _hang,
    "fork and hang": _fork_and_hang,
    "spin": _spin,
    "eat": _eat,
    "segfault": _segfault,
    "abort": _abort,
    "raise": _raise,
    "leave": _leave,
    "say nothing": _say_nothing,
    "say much": _say_much,
    "tell": _tell,
    "spoil": _spoil,
    "kill itself": lambda _: _kill(os.getpid()),
    "kill its parent": lambda _: _kill(os.getppid()),
    "read a file": lambda original: Path(original.decode()).read_text(encoding="utf-8"),
    "write a file": lambda original: str(Path(original.decode()).write_text("x", encoding="utf-8")),
    "read its parent": lambda _: Path(f"/proc/{os.getppid()}/environ").read_text(encoding="utf-8"),
    "connect": lambda original: str(socket.create_connection(("127.0.0.1", int(original)), timeout=5)),
    "run a program": _run_program,
    "load a codec": lambda _: b"\xcf\xf0".decode("cp1251"),
}
