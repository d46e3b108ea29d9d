"""What rules, dashboard and docs/monitoring.md tell of is what running functions really export."""

import re
from collections.abc import Iterator

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from infra.local.assembly import ROOT
from shared.problems import PROBLEM_TYPES
from tests.functions.asgi import call
from tests.functions.platform import Platform
from tests.functions.talk import Talk, serving
from tests.infrastructure.promql import asked, expressions, grouped

DOCUMENT = ROOT / "docs" / "monitoring.md"
TARGET = {"namespace", "pod", "container", "endpoint", "job", "instance", "function", "revision"}
"""Labels that the Prometheus operator and the PodMonitor give to whatever they measure."""
VLLM = {
    name: {"model_name", "engine", "tier"}
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
}
"""What vLLM 0.33 exports of itself (vllm/v1/metrics/loggers.py), with the label that its PodMonitor adds."""
VALUES = {
    "code": {*PROBLEM_TYPES, "refusal_unaudited", "job_unsweepable"},
    "step": {"auth", "rate_limit", "embedding", "begin_turn", "first_token"},
}


async def exported(platform: Platform) -> dict[str, dict[str, set[str]]]:
    """Return the values of every label of every metric that the functions export once each kind of thing has happened."""
    assert (await platform.upload("a.md", b"# Limits\n\nThe limit is seven.")).status == 202
    await platform.deliver()
    assert (await platform.ask("What is the limit?")).status == 200
    assert (await platform.call("chat", "GET", "/turns", headers={"Authorization": "Bearer none"})).status >= 400
    async with (
        aiohttp.ClientSession() as session,
        serving(platform.serve("chat")) as server,
        Talk(session, f"{server.url}/ws", platform.bearer()) as talk,
    ):
        await talk.opened()
        await talk.say("ask", message="What is the limit?", stream=False)
        await talk.hear()
    assert (await platform.tick()).status == 200
    found: dict[str, dict[str, set[str]]] = {}
    for function in ("chat", "sweep"):
        assert (await call(platform.serve(function), "GET", "/health/ready")).status == 200
        text = (await call(platform.serve(function), "GET", "/metrics")).body.decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return found


async def test_rules_and_dashboard_ask_for_what_is_exported_by_the_labels_it_has(platform: Platform) -> None:
    there = await exported(platform)
    wrong = []
    for title, expression in expressions().items():
        known: set[str] = set(TARGET)
        for one in asked(expression):
            labels = VLLM.get(one.metric) or set(there.get(one.metric, {})) | TARGET
            if one.metric not in there and one.metric not in VLLM:
                wrong.append(f"{title}: {one.metric} is exported by nobody")
            known |= labels
            for name, operator, value in one.matchers:
                values = there.get(one.metric, {}).get(name, set()) | VALUES.get(name, set())
                if name not in labels:
                    wrong.append(f"{title}: {one.metric} has no label {name}")
                elif operator == "Equal" and name not in TARGET and value not in values:
                    wrong.append(f"{title}: {one.metric} is never of the {name} {value}")
        if strange := grouped(expression) - known:
            wrong.append(f"{title}: nothing has the label {strange}")
    assert wrong == []


def told() -> Iterator[tuple[str, set[str]]]:
    """Yield the metrics of the document's table, with their labels."""
    for name, labels in re.findall(r"^\| `(enterprise_agent_\w+)` \| ([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE):
        yield name, set(re.findall(r"`(\w+)`", labels))


async def test_the_document_tells_of_every_metric_and_of_its_labels(platform: Platform) -> None:
    of_histograms = re.compile(r"_(bucket|sum|count|created)$")
    there = {
        of_histograms.sub("", name): set(labels) - {"le"}
        for name, labels in (await exported(platform)).items()
        if name.startswith("enterprise_agent_") and not name.endswith("_created")
    }
    documented = list(told())
    assert len(documented) == len(dict(documented))
    assert dict(documented) == there
