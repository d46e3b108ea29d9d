"""A whole run of our own collection, as `make eval-retrieval` does it, on a database and an endpoint of the environment."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.evaluation.__main__ import OWN, main
from infra.evaluation.run import BM25, DEFAULT, EXACT, HEADLINE, LEG, RIVALS
from infra.evaluation.sweep import default, grid
from infra.local.postgres import EmbeddedPostgres
from tests.conftest import new_database
from tests.servers import server
from tests.support import TEST_ENVIRONMENT


@pytest.fixture(scope="module")
def run(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """The exit status with --check, the report, and where the database is."""
    folder = tmp_path_factory.mktemp("evaluation")
    with (
        new_database(postgres, "evaluation", template),
        server("model-server", "infra.local.model_server", folder, LITELLM_API_KEY="sk-test") as (model, _),
        pytest.MonkeyPatch.context() as patch,
    ):
        url = postgres.url("evaluation")
        for name, value in TEST_ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("DATABASE_URL", url)
        patch.setenv("LITELLM_BASE_URL", model)
        patch.setenv("LOCAL_STATE_DIR", str(folder / "state"))
        status = main(["--check", "--sweep", "--json", str(folder / "report.json")])
        yield status, json.loads((folder / "report.json").read_text(encoding="utf-8")), url


def ndcg(report: dict[str, Any], method: str, kind: str | None = None) -> float:
    """Return the mean over the queries, or over those of one kind."""
    values = [query[HEADLINE][method] for query in report["by_query"].values() if kind is None or query["kind"] == kind]
    return float(sum(values) / len(values))


def test_every_query_is_asked_in_every_way(run: tuple[int, dict[str, Any], str]) -> None:
    report = run[1]
    asked = (OWN / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(report["by_query"]) == report["queries"] == len(asked)
    assert report["passages"] > report["documents"], "some documents are longer than a passage"
    assert set(report["methods"]) > {DEFAULT, *RIVALS}
    for method, row in report["methods"].items():
        assert row[HEADLINE] == pytest.approx(ndcg(report, method))


def test_the_collection_is_hard_and_each_leg_has_its_use(run: tuple[int, dict[str, Any], str]) -> None:
    report = run[1]
    assert 0.6 < ndcg(report, BM25) < 0.9
    assert 0.6 < ndcg(report, EXACT) < 0.9
    assert ndcg(report, EXACT, "paraphrase") > ndcg(report, BM25, "paraphrase") + 0.2
    assert ndcg(report, BM25, "code") > ndcg(report, EXACT, "code") + 0.2
    assert ndcg(report, LEG["trigram"], "misspelt") > 0.3
    assert ndcg(report, DEFAULT, "code") > ndcg(report, EXACT, "code")
    assert ndcg(report, DEFAULT, "paraphrase") > ndcg(report, BM25, "paraphrase")


def test_the_vector_leg_of_a_small_tenant_is_exact(run: tuple[int, dict[str, Any], str]) -> None:
    assert ndcg(run[1], LEG["vector"]) == pytest.approx(ndcg(run[1], EXACT), abs=0.002)


def test_the_status_says_whether_another_method_is_better(run: tuple[int, dict[str, Any], str]) -> None:
    status, report, _ = run
    better = [name for name in RIVALS if ndcg(report, name) > ndcg(report, DEFAULT) + 1e-9]
    assert (status, report["beaten_by"]) == (1 if better else 0, better)


def test_the_sweep_chooses_on_one_half_and_tells_of_the_other(run: tuple[int, dict[str, Any], str]) -> None:
    swept = run[1]["sweep"]
    assert len(swept["settings"]) == len(grid())
    for half in swept["halves"]:
        assert half["held_out"] <= half["headroom"]
    scores = [score for _, score in swept["settings"]]
    assert scores == sorted(scores, reverse=True)
    [of_default] = [score for setting, score in swept["settings"] if setting == asdict(default())]
    # Apart from equal scores, it is what rag.search does.
    assert of_default == pytest.approx(ndcg(run[1], DEFAULT), abs=0.02)


def test_the_database_is_left_as_it_was(run: tuple[int, dict[str, Any], str]) -> None:
    with psycopg.connect(run[2]) as connection:
        left = [
            connection.execute(query).fetchone()
            for query in ("SELECT FROM core.tenants", "SELECT FROM rag.documents", "SELECT FROM rag.chunks")
        ]
    assert left == [None, None, None]


def test_a_broken_collection_ends_with_its_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "there is no such file" in " ".join(capsys.readouterr().out.split())
