"""Jobs for what takes longer than a request may: wider limits than the Service's, one inside the other, and no more rights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from functions.ingestion import job
from infra.local.assembly import MANIFESTS, ROOT
from infra.local.manifests import load
from shared import guards
from shared.settings import Settings
from tests.manifests.rendering import Object

LOADED = load(MANIFESTS)
SINKS = sorted(LOADED.job_sinks)
SECRET = {"DATABASE_URL": "postgresql://app:made-up@postgres:5432/enterprise_agents"}
BROKER_RETRY_SECONDS = 2**11
"""Ten retries from one second on, each after twice the time."""


def pod(objects: dict[str, Object], name: str) -> Object:
    found: Object = objects[f"JobSink/{name}"]["spec"]["job"]["spec"]["template"]["spec"]
    return found


def variables(objects: dict[str, Object], name: str) -> dict[str, str]:
    """Return what the container of a JobSink sees in a cluster."""
    config: dict[str, str] = objects["ConfigMap/enterprise-agents"]["data"]
    return LOADED.job_sinks[name].container.environment(config, SECRET)


def settings(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> Settings:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    return Settings()


@pytest.mark.parametrize("name", SINKS)
def test_a_job_starts_a_module_that_exists(name: str) -> None:
    python, dash_m, module = LOADED.job_sinks[name].container.command
    assert (python, dash_m) == ("python", "-m")
    assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()


@pytest.mark.parametrize("name", SINKS)
def test_a_job_has_a_name_that_knative_can_add_a_digest_to(objects: dict[str, Object], name: str) -> None:
    """Its pods carry the label by which policies know them, which is the JobSink's name."""
    assert len(name) + 1 + 32 <= 63
    template = objects[f"JobSink/{name}"]["spec"]["job"]["spec"]["template"]
    assert template["metadata"]["labels"] == {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/part-of": "enterprise-agent-platform",
    }


@pytest.mark.parametrize("name", SINKS)
def test_a_job_is_bounded_and_has_no_rights(objects: dict[str, Object], name: str) -> None:
    spec = pod(objects, name)
    [container] = spec["containers"]
    [service] = objects["Service/ingestion-worker"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "enterprise-agent-platform"
    assert container["securityContext"] == service["securityContext"]
    assert set(container["resources"]["requests"]) == set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert objects[f"ServiceAccount/{spec['serviceAccountName']}"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", SINKS)
def test_a_job_sees_no_secret_but_its_login(name: str) -> None:
    named = {v.name: v.secret_key for v in LOADED.job_sinks[name].container.variables if v.secret_key}
    assert named == {"DATABASE_URL": "DATABASE_URL"}


@pytest.mark.parametrize("name", SINKS)
def test_a_job_may_start_in_production(objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = settings(monkeypatch, variables(objects, name))
    assert found.environment == "prod"
    assert set(job.READ) <= set(Settings.model_fields)
    assert guards.problems(found, read=job.READ) == []


def test_the_process_of_a_job_says_what_keeps_it_from_starting() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "functions.ingestion.job"],
        env={**os.environ, "ENVIRONMENT": "prod", "DATABASE_URL": "mysql://x"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Refusing to start: DATABASE_URL" in done.stderr


@pytest.mark.parametrize("name", SINKS)
def test_the_limits_of_a_job_are_inside_one_another_and_wider_than_the_services(
    objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service = settings(monkeypatch, {**objects["ConfigMap/enterprise-agents"]["data"], **SECRET})
    own = settings(monkeypatch, variables(objects, name))
    sink = LOADED.job_sinks[name]
    assert service.extraction_timeout_seconds < own.extraction_timeout_seconds
    assert sink.deadline is not None
    assert own.extraction_timeout_seconds < sink.deadline / 2, "what follows the reading has as much time again"
    assert service.extraction_memory_bytes < own.extraction_memory_bytes
    limit = pod(objects, name)["containers"][0]["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    assert own.extraction_memory_bytes < int(limit.removesuffix("Gi")) * 1024**3
    # The largest document that is taken in reaches a job, or none would by its size.
    assert own.large_document_bytes <= own.max_document_bytes


@pytest.mark.parametrize("name", SINKS)
def test_an_event_that_comes_again_finds_its_job(name: str) -> None:
    kept = LOADED.job_sinks[name].kept
    assert kept is not None
    assert kept > BROKER_RETRY_SECONDS
