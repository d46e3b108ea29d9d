"""Every Service, the relay and the jobs in containers of the image."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from infra.local import manifests
from infra.local.assembly import MANIFESTS, ROOT
from infra.local.process import ChildProcess
from infra.local.readiness import answers
from tests.asking import PATIENCE_SECONDS, ask_about, key_of
from tests.benchmarks.launch import start_once
from tests.documents import PDF, readable_documents
from tests.functions.platform import until
from tests.image.conftest import REPORT
from tests.image.deployment import LARGE_BYTES, quantity

if TYPE_CHECKING:
    from tests.image.deployment import Deployment

SERVICES = sorted(manifests.load(MANIFESTS).services)
ROUNDS = 5


def status_of(pid: int) -> dict[str, str]:
    """Return the fields of /proc/<pid>/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_as_its_manifest_says_and_is_well(deployment: Deployment, service: str) -> None:
    url = deployment.urls[service]
    assert answers(f"{url}/health/live")
    assert answers(f"{url}/health/ready")


@pytest.mark.parametrize("name", [*SERVICES, "relay", "broker", "job-sink"])
def test_a_process_has_no_rights_to_speak_of(deployment: Deployment, name: str) -> None:
    container = deployment.containers[name]
    pid = container.init
    status = status_of(pid)
    user = deployment.built.config["User"].split(":")
    assert status["Uid"].split() == user[:1] * 4
    assert status["Gid"].split() == user[1:] * 4
    assert {status[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    [options] = [fields[5] for fields in mounts if fields[4] == "/"]
    assert "ro" in options.split(",")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_memory_of_its_manifest_and_no_more(deployment: Deployment, service: str) -> None:
    pid = deployment.containers[service].init
    groups = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    [path] = [group for _, controllers, group in groups if controllers == "memory"] or [groups[0][2]]
    limits = [Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"), Path(f"/sys/fs/cgroup{path}/memory.max")]
    [limit] = [int(file.read_text()) for file in limits if file.is_file()]
    assert limit == quantity(deployment.limits(service)["memory"])


def test_a_document_is_read_and_a_question_about_it_answered(deployment: Deployment) -> None:
    """Seeded, uploaded, read by ingestion's child, embedded, found and told, by way of outbox, relay and broker."""
    key = key_of(deployment.job("seed", ["python", "-m", "infra.seed"]))
    [document] = [document for document in readable_documents() if document.media_type == PDF]
    question = f"What is written about {document.text}?"
    answer = asyncio.run(ask_about(deployment.urls, key, document.name, document.content, PDF, question))
    assert [citation["document"] for citation in answer.citations] == [document.name]


def test_a_large_document_is_a_job(deployment: Deployment) -> None:
    key = key_of(deployment.job("seed-large", ["python", "-m", "infra.seed"], TENANT="large"))
    content = "".join(
        f"The pump of hall {hall} is tested in week {hall}.\n\n" for hall in range(LARGE_BYTES // 40)
    ).encode()
    assert len(content) > LARGE_BYTES
    asyncio.run(
        ask_about(deployment.urls, key, "pumps.md", content, "text/markdown", "When is the pump of hall 7 tested?")
    )

    def jobs() -> dict[str, int]:
        with urllib.request.urlopen(deployment.urls["job-sink"] + "/status") as response:  # noqa: S310 - a loopback address
            told: dict[str, int] = json.load(response)
        return told

    # Its process ends after what it has made is there to be asked for.
    asyncio.run(until(lambda: not jobs()["active"]))
    assert jobs()["complete"] == 1


def test_a_process_that_is_asked_to_end_says_goodbye(deployment: Deployment) -> None:
    """SIGTERM reaches Python, which is the container's first process, and not a shell."""
    container = deployment.containers["health"]
    container.signal("SIGTERM")
    assert container.wait(PATIENCE_SECONDS) == 0, container.log_tail()


def test_a_cold_start_of_chat(deployment: Deployment, tmp_path: Path) -> None:
    """Told, not judged: how long it takes in the container, and beside it the same process outside."""
    deployment.containers["chat"].stop()
    service = deployment.manifests.services["chat"]
    inside = deployment.function(service, "chat-again")
    variables = service.container.environment(deployment.config, deployment.secret) | deployment.address("chat")
    variables["EMBEDDING_TOKENIZER"] = ""
    python = ROOT / ".venv/bin/python"
    outside = ChildProcess(
        "outside",
        (str(python), *service.container.command[1:]),
        env={"PATH": os.environ["PATH"], "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), **variables},
        cwd=ROOT,
        log_path=tmp_path / "chat.log",
    )
    port = int(variables["PORT"])
    start_once(outside, port, "/health/ready")
    pairs = [
        (start_once(inside, port, "/health/ready").seconds, start_once(outside, port, "/health/ready").seconds)
        for _ in range(ROUNDS)
    ]
    here, there = (median(pair[place] for pair in pairs) for place in (0, 1))
    REPORT.append(
        f"chat from start to ready: {here * 1000:.0f} ms in its container, {there * 1000:.0f} ms outside,"
        f" {median(one / other for one, other in pairs):.2f} times (runc's own start included)"
    )
