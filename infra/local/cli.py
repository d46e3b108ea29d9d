"""The commands of the local stack: `python -m infra.local dev|status|stop|reset|logs|env|token|ingest|demo`."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local import environment, manifests, ports
from infra.local.assembly import MANIFESTS, ROOT, parts
from infra.local.environment import ConfigurationError
from infra.local.logs import tail
from infra.local.manifests import ManifestError
from infra.local.ports import BROKER, PortError
from infra.local.process import PartError
from infra.local.readiness import answers, health_path
from infra.local.stack import Stack
from infra.local.state import Record, StateDir, StateError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from infra.local.state import Running

_STOP_TIMEOUT_SECONDS = 60.0
_NOT_RUNNING = 3
_QUESTION = "Which command starts the platform on a laptop?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; errors are one message, not a trace."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (PartError, PortError, StateError, ManifestError, ConfigurationError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); Python's own flush at exit must not stumble over it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("dev", _dev, "start the platform and keep it running until Ctrl-C")
    command("status", _status, "show what runs")
    command("stop", _stop, "stop a platform that was started elsewhere")
    command("reset", _reset, "stop, and delete all local state")
    command("env", _env, "print the running platform's URLs as shell variables")
    command("token", _token, "print a token of the running platform's demo tenant, good for a day")
    logs = command("logs", _logs, "follow the logs of all parts, or of those named")
    logs.add_argument("parts", nargs="*", metavar="PART")
    logs.add_argument("-n", "--lines", type=int, default=10, help="lines of each log to begin with (default: 10)")
    logs.add_argument("--no-follow", action="store_true", help="end after these lines")
    command(
        "ingest",
        _ingest,
        "upload the folder DIR and wait until all of it is indexed; COLLECTION, URL and TOKEN say where",
    )
    command("demo", _demo, "ingest documents, ask questions, print grounded answers; DOCS and ASK choose them")
    return parser


def _state() -> StateDir:
    return StateDir(Path(os.environ.get("LOCAL_STATE_DIR") or ROOT / ".local"))


def _dev(_: argparse.Namespace) -> int:
    wanted = parts(manifests.load(MANIFESTS), environment.external(os.environ), pooled=environment.pooled(os.environ))
    numbers = ports.from_environment(wanted, os.environ)
    started = time.monotonic()

    def report(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(f"  {time.monotonic() - started:6.1f} s  {line}", flush=True)

    stack = Stack(_state().path, port_numbers=numbers, report=report)
    asked = threading.Event()

    def ask_to_stop(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            return  # already stopping; a second Ctrl-C must not leave anything behind
        asked.set()
        raise KeyboardInterrupt(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    print(f"Starting the platform; state and logs in {stack.state.path}", flush=True)
    try:
        with stack:
            print(_welcome(stack, time.monotonic() - started), flush=True)
            try:
                asked.wait()
            except KeyboardInterrupt:
                print("\nStopping ...", flush=True)
    except KeyboardInterrupt:
        print("\nStopped during the start.", flush=True)
        return 130
    print("Stopped; nothing is left running. The state is kept.", flush=True)
    return 0


_WELCOME = """
The platform is ready ({seconds:.1f} s). Ctrl-C stops it.

{addresses}
  Stores: `make dev-env` prints their URLs.

A token of the demo tenant, good for a day:

  export TOKEN={token}

Hand over a document:

  curl -H "Authorization: Bearer {token}" -H "Content-Type: text/markdown" \\
    --data-binary @README.md "{ingestion}/documents?name=README.md"

Ask:

  curl -N -H "Authorization: Bearer {token}" -H "Content-Type: application/json" \\
    -d '{{"message": "{question}"}}' {chat}/chat
"""


def _welcome(stack: Stack, seconds: float) -> str:
    urls = {**stack.urls, BROKER: stack.urls[BROKER] + "/status"}
    return _WELCOME.format(
        seconds=seconds,
        addresses="\n".join(f"  {name:<17} {url}" for name, url in urls.items()),
        token=stack.token,
        ingestion=stack.urls["ingestion"],
        chat=stack.urls["chat"],
        question=_QUESTION,
    )


def _status(_: argparse.Namespace) -> int:
    state = _state()
    supervisor = state.holder()
    if supervisor is None:
        print(f"No stack runs in {state.path}.")
        return _NOT_RUNNING
    print(f"Running in {state.path} (pid {supervisor})\n")
    record = state.read_record() or Record()
    for name, process in record.processes.items():
        url = record.urls.get(name, "")
        print(f"  {name:<17} {_condition(name, process, url):<10} pid {process.pid:<8} {url}")
    return 0


def _condition(name: str, process: Running, url: str) -> str:
    if not process.alive:
        return "down"
    if not url:
        return "running"
    return "ready" if answers(url + health_path(name)) else "not ready"


def _stop(_: argparse.Namespace) -> int:
    state = _state()
    supervisor = state.holder()
    if supervisor is None:
        ended = []
        if state.ours:
            state.acquire()
            ended = state.end_leftovers()
            state.release()
        print(f"Ended what was left behind: {', '.join(ended)}." if ended else f"No stack runs in {state.path}.")
        return 0
    os.kill(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while state.holder() == supervisor:
        if time.monotonic() > deadline:
            raise StateError(f"the stack (pid {supervisor}) does not end; see {state.logs}")
        time.sleep(0.05)
    print(f"Stopped the stack in {state.path}.")
    return 0


def _reset(options: argparse.Namespace) -> int:
    state = _state()
    if not state.path.exists():
        print(f"There is no local state in {state.path}.")
        return 0
    if state.ours:
        _stop(options)
        state.acquire()
    try:
        state.delete()
    finally:
        state.release()
    print(f"Deleted {state.path}: database, Redis snapshot, passwords and logs.")
    return 0


def _env(_: argparse.Namespace) -> int:
    state = _state()
    record = None if state.holder() is None else state.read_record()
    if record is None:
        print(f"No stack runs in {state.path}.", file=sys.stderr)
        return _NOT_RUNNING
    for name, value in record.variables.items():
        variable = "LITELLM_BASE_URL" if name == "model_url" else name.upper()
        print(f"export {variable}={shlex.quote(value)}")
    return 0


def _token(_: argparse.Namespace) -> int:
    state = _state()
    record = None if state.holder() is None else state.read_record()
    if record is None:
        print(f"No stack runs in {state.path}.", file=sys.stderr)
        return _NOT_RUNNING
    print(demo_token(record))
    return 0


def _logs(options: argparse.Namespace) -> int:
    state = _state()
    if not state.logs.is_dir():
        raise StateError(f"there are no logs: no stack was started in {state.path} yet")
    try:
        tail(state.logs, options.parts, last=options.lines, follow=not options.no_follow)
    except KeyboardInterrupt:
        return 0
    return 0


def _ingest(_: argparse.Namespace) -> int:
    from infra.local.folder import run

    url, token = os.environ.get("URL", ""), os.environ.get("TOKEN", "")
    if not (url and token):
        state = _state()
        record = None if state.holder() is None else state.read_record()
        if record is None:
            print(f"No stack runs in {state.path}: start one (make dev), or set URL and TOKEN.", file=sys.stderr)
            return _NOT_RUNNING
        url = url or record.urls["ingestion"]
        token = token or demo_token(record)
    return run(os.environ, url, token)


def demo_token(record: Record) -> str:
    """Return a token of the running stack's demo tenant."""
    from infra.local.provision import demo_tenant
    from shared.auth import issue_dev_token
    from shared.settings import DEV_JWT_SECRET

    tenant = demo_tenant(record.variables["migration_database_url"])
    return issue_dev_token(secret=os.environ.get("DEV_JWT_SECRET") or DEV_JWT_SECRET, tenant_id=tenant, subject="demo")


def _demo(_: argparse.Namespace) -> int:
    from infra.local.demo import run

    # Asked to end, it takes its stack with it, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(os.environ)
