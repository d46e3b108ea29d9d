"""How well the platform finds: `make eval-retrieval` (DIR=folder in BEIR's layout, SPLIT=test, SWEEP=1, JSON=file, CHECK=1)."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infra.evaluation import report
from infra.evaluation.collection import Collection, CollectionError, read
from infra.evaluation.run import Evaluation, evaluate
from infra.evaluation.stand import cache_path, stand
from infra.evaluation.sweep import sweep
from infra.local.assembly import ROOT
from infra.local.environment import ConfigurationError
from infra.local.process import PartError
from infra.local.state import StateError
from shared.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OWN = ROOT / "tests" / "data" / "retrieval"
_TERMINATED = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate one collection; return 1 when it cannot be done, or with --check when the default hybrid is not the best."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = report.WIDTH
    # Asked to end, it takes its processes with it, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        collection = read(options.folder, options.split)
        evaluation, model = _evaluate(console, collection)
        swept = sweep(evaluation) if options.sweep else None
    except (CollectionError, PartError, StateError, ConfigurationError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    except Problem as problem:
        console.print(f"error: {problem.code}: {problem.detail}", style="red", markup=False)
        return 1
    except psycopg.Error as error:
        console.print(f"error: {error.diag.message_primary or error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; the vectors so far are kept for the next run.")
        return _TERMINATED + signal.SIGINT
    report.show(console, evaluation)
    if swept is not None:
        report.show_sweep(console, swept)
    if options.json is not None:
        about = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "split": options.split,
            "embedding_model": model,
        }
        text = json.dumps(report.as_json(evaluation, swept, about), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if options.check and evaluation.beaten_by() else 0


def _evaluate(console: Console, collection: Collection) -> tuple[Evaluation, str]:
    columns = (
        TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        starting = progress.add_task("PostgreSQL and model server", total=1)
        with stand() as settings:
            progress.advance(starting)

            def begin(step: str, total: int) -> Callable[[int], None]:
                task = progress.add_task(step, total=total)
                return lambda count: progress.advance(task, count)

            url, cache = settings.migration_url("postgresql"), cache_path()
            return evaluate(collection, url, settings, cache, begin), settings.litellm_embedding_model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.evaluation", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=OWN, help="the collection; the tests' own by default")
    parser.add_argument("--split", default="test", help="which file of qrels/ (default: test)")
    parser.add_argument("--sweep", action="store_true", help="try other weights of the fusion on the same legs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measures, also by query")
    parser.add_argument("--check", action="store_true", help="fail when another method has the higher nDCG@10")
    return parser


if __name__ == "__main__":
    sys.exit(main())
