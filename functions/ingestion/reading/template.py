"""The process that documents are read in: it loads the readers once, and forks a fresh child for each document.

`python -I template.py ROOT MODULE:FUNCTION`. It never looks into a document itself, so that each child starts from memory
that no document has touched. A fork of its one thread costs a few milliseconds, a start of the readers a quarter of a second.

It says `ready`, then for each request on standard input answers on standard output:

    request  {"size": bytes, "media_type": "...", "name": "...", "limits": {...}} and a newline, then the bytes
    answer   {"outcome": "answered" | "exited" | "killed" | "timeout", "status": code or signal, "size": bytes} and a newline,
             then that many bytes: the child's JSON, or else the end of what it wrote to standard error

When standard input closes, it ends with its child.
"""

import contextlib
import errno
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any, NoReturn

STDIN, STDOUT, STDERR = 0, 1, 2
CHUNK = 1024 * 1024
MAX_ERROR_BYTES = 4096
EXIT_OUT_OF_MEMORY = 77
EXIT_TOO_LARGE = 78
EXIT_FAILED = 70

Reader = Callable[[bytes, str, str, Any], dict[str, Any]]


def main(root: str, reader: str) -> None:
    """Serve requests until standard input closes."""
    sys.path.insert(0, root)
    module, _, function = reader.partition(":")
    read: Reader = getattr(importlib.import_module(module), function)
    importlib.import_module("functions.ingestion.reading.sandbox")
    # What is there already is looked at by no collection of a child, which would copy it.
    gc.freeze()
    _say({"outcome": "ready"}, -1, 0)
    while header := _line():
        request = json.loads(header)
        original = _exactly(request["size"])
        answer, errors = os.memfd_create("answer"), os.memfd_create("errors")
        template = os.getpid()
        child = os.fork()
        if not child:
            _work(read, original, request, answer, errors, template)
        del original
        outcome, status = _watch(child, request["limits"]["seconds"])
        told = answer if outcome == "answered" else errors
        _say({"outcome": outcome, "status": status}, told, None if outcome == "answered" else MAX_ERROR_BYTES)
        os.close(answer)
        os.close(errors)


def _work(read: Reader, original: bytes, request: dict[str, Any], answer: int, errors: int, template: int) -> NoReturn:
    """Be the child: give up all rights, read the document, write the answer, end."""
    status = EXIT_FAILED
    try:
        os.setsid()
        os.dup2(errors, STDERR)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, STDIN)
        os.dup2(nothing, STDOUT)
        os.close(nothing)
        os.close(errors)
        from functions.ingestion.reading import sandbox
        from functions.ingestion.reading.limits import Limits

        limits = Limits(**request["limits"])
        sandbox.die_with(template)
        sandbox.confine(limits)
        told = json.dumps(read(original, request["media_type"], request["name"], limits), ensure_ascii=False)
        rest = memoryview(told.encode("utf-8", "replace"))
        while rest:
            rest = rest[os.write(answer, rest) :]
        status = 0
    except MemoryError:
        status = EXIT_OUT_OF_MEMORY
    except OSError as error:
        status = EXIT_TOO_LARGE if error.errno == errno.EFBIG else EXIT_FAILED
        traceback.print_exc()
    except BaseException:  # noqa: BLE001 - a panic of the library is no Exception; what it was stands in the errors
        traceback.print_exc()
    finally:
        # Without the interpreter's farewell: threads of the library may still run.
        os._exit(status)


def _watch(child: int, seconds: float) -> tuple[str, int]:
    """Wait for the child, or end it when its time is over; return outcome and status. Ends this process with its client."""
    ends = monotonic() + seconds
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(STDIN, select.POLLIN)
    outcome = ""
    while not outcome:
        ready = {file for file, _ in poll.poll(max(0.0, ends - monotonic()) * 1000)}
        if handle in ready:
            outcome = "ended"
        elif STDIN in ready:
            # Nothing is asked before the answer: whoever asked is gone.
            _end(child)
            sys.exit(0)
        elif monotonic() >= ends:
            outcome = "timeout"
    os.close(handle)
    status = os.waitstatus_to_exitcode(_end(child))
    if outcome == "timeout":
        return outcome, 0
    if status < 0:
        return "killed", -status
    return ("answered" if status == 0 else "exited"), status


def _end(child: int) -> int:
    """Kill the child with all that it may have started, and return its wait status. Until then its id is nobody else's."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status


def _say(header: dict[str, object], told: int, most: int | None) -> None:
    """Write an answer: the header, then the file's contents, or its last `most` bytes."""
    size = 0 if told < 0 else os.fstat(told).st_size
    start = 0 if most is None else max(0, size - most)
    _write(json.dumps({**header, "size": size - start}).encode() + b"\n")
    while start < size:
        start += os.sendfile(STDOUT, told, start, size - start)


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(STDOUT, rest) :]


def _line() -> bytes:
    """Return a request's header, without having read further; empty at the end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(STDIN, 1)
        if not byte:
            return b""
        line += byte
    return bytes(line)


def _exactly(size: int) -> bytes:
    """Return so many bytes of a request; ends this process when its client is gone."""
    parts = []
    while size:
        part = os.read(STDIN, min(size, CHUNK))
        if not part:
            sys.exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main(*sys.argv[1:])
