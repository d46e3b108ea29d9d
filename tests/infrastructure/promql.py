"""The PromQL of rules and dashboards: what an expression asks for."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from tests.infrastructure.bundles import KUBERNETES, rendered
from tests.manifests.rendering import Object, named

DASHBOARD = KUBERNETES / "monitoring" / "enterprise-agents.json"
INTERVAL = ("$__rate_interval", "5m")
"""What Grafana puts into a query before Prometheus sees it."""


@dataclass(frozen=True)
class Asked:
    """A metric that an expression asks for, with the labels it is selected by, as name, operator and value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def rules() -> list[Object]:
    """Return the alerts."""
    rule = named(rendered("monitoring"), "PrometheusRule/enterprise-agents")
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def dashboard() -> Any:
    """Return Grafana's dashboard as it is in the cluster."""
    config = named(rendered("monitoring"), "ConfigMap/enterprise-agents-dashboard")
    return json.loads(config["data"][DASHBOARD.name])


def panels() -> list[Object]:
    """Return the dashboard's panels that ask for something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Return every expression by the alert or panel that it is of."""
    found = {rule["alert"]: str(rule["expr"]) for rule in rules()}
    for panel in panels():
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"].replace(*INTERVAL)
    return found


def asked(expression: str) -> Iterator[Asked]:
    """Yield the metrics of an expression; raises ValueError where it does not parse."""
    found: list[Asked] = []

    def visit(node: promql_parser.Expr) -> None:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector):
            matchers = selector.matchers.matchers
            found.append(
                Asked(str(selector.name), tuple((m.name, str(m.op).rpartition(".")[2], m.value) for m in matchers))
            )

    promql_parser.walk(promql_parser.parse(expression), visit)
    yield from found


def grouped(expression: str) -> set[str]:
    """Return the labels by which an expression puts samples together."""
    labels: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return labels


def scenarios() -> Mapping[str, Mapping[str, list[Mapping[str, str]]]]:
    """Return the series with which each alert fires, and those with which it stays quiet."""
    found: Mapping[str, Mapping[str, list[Mapping[str, str]]]] = yaml.safe_load(
        (KUBERNETES.parents[1] / "tests" / "infrastructure" / "alerts.yaml").read_text()
    )
    return found
