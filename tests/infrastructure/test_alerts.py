"""Alerts and dashboard: every expression parses, every alert fires when it must and is told of, and nothing else does."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.assembly import ROOT
from tests.infrastructure.bundles import base, rendered
from tests.infrastructure.promql import asked, dashboard, expressions, panels, rules, scenarios
from tests.manifests.rendering import named, title

MINUTES = 30
PODS = 120
DOCUMENT = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
ROLLING = re.compile(r"another each (\d+) seconds")


def promtool() -> str:
    """Return Prometheus' own program; skips where it is not installed, unless REQUIRE_PROMTOOL is set."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("REQUIRE_PROMTOOL"):
            pytest.fail("there is no promtool, and REQUIRE_PROMTOOL is set")
        pytest.skip("there is no promtool (Debian's package prometheus)")
    return found


def check(folder: Path, *arguments: str) -> None:
    done = subprocess.run([promtool(), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the rules as Prometheus reads them."""
    groups = named(rendered("monitoring"), "PrometheusRule/enterprise-agents")["spec"]
    (tmp_path / "rules.yml").write_text(json.dumps(groups))
    return tmp_path


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions().keys())
def test_an_expression_parses_and_asks_for_something(expression: str) -> None:
    assert list(asked(expression))


def test_prometheus_takes_the_rules(folder: Path) -> None:
    check(folder, "check", "rules", "rules.yml")


def series(given: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield promtool's input series."""
    for name, values in given.items():
        if 'pod="*"' not in name:
            yield {"series": name, "values": values}
            continue
        rolling = ROLLING.fullmatch(values)
        for pod in range(PODS):
            start = pod * int(rolling[1]) if rolling else 0
            lived = f"{f'_x{-(-start // 60)} ' if start else ''}{start}x1" if rolling else values
            yield {"series": name.replace('pod="*"', f'pod="{pod}"'), "values": lived}


def test_each_alert_fires_when_it_must_and_not_otherwise(folder: Path) -> None:
    tried = scenarios()
    assert set(tried) == {rule["alert"] for rule in rules()}
    tests = []
    for alert, cases in tried.items():
        for fires, given in [(True, one) for one in cases["fires"]] + [(False, one) for one in cases["quiet"]]:
            expression = f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
            samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if fires else []
            tests.append(
                {
                    "name": f"{alert} {'fires' if fires else 'is quiet'}: {given}",
                    "interval": "1m",
                    "input_series": list(series(dict(given))),
                    "promql_expr_test": [{"expr": expression, "eval_time": f"{MINUTES}m", "exp_samples": samples}],
                }
            )
        assert {bool(cases["fires"]), bool(cases["quiet"])} == {True}
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yml").write_text(json.dumps(document))
    check(folder, "test", "rules", "tests.yml")


def test_each_alert_is_grave_as_it_says_and_leads_to_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        page, _, anchor = rule["annotations"]["runbook_url"].rpartition("#")
        assert page.endswith("/monitoring.md")
        assert f"\n### {rule['alert']}\n" in DOCUMENT
        assert anchor == rule["alert"].lower()


def test_the_document_tells_of_each_alert_as_it_is() -> None:
    told = dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", DOCUMENT, re.MULTILINE))
    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    assert re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE) == [rule["alert"] for rule in rules()]


def test_the_dashboard_is_one_that_grafana_finds_and_draws() -> None:
    config = named(rendered("monitoring"), "ConfigMap/enterprise-agents-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    identifiers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        area = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not area & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= area
    assert len({panel["title"] for panel in panels()}) == len(panels())
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())


def test_the_functions_are_measured_by_the_labels_and_ports_that_knative_gives_their_pods() -> None:
    monitor = named(rendered("monitoring"), "PodMonitor/functions")["spec"]
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["user-port", "http-usermetric"]
    services = [document for document in base() if document["apiVersion"].startswith("serving.knative.dev/")]
    for service in services:
        labels = service["spec"]["template"]["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items(), title(service)
