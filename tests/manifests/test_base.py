"""The base agrees with the code: entry points, event types, variables, limits."""

import ast
import os
import re
from pathlib import Path

import pytest
import yaml

from infra.local.assembly import MANIFESTS, ROOT
from infra.local.manifests import Container, Service, Trigger, load
from shared import guards
from shared.events import CONSUMED, EVENT_TYPES, INFERENCE_REQUESTED, INGESTION_RECEIVED
from shared.settings import Settings
from tests.manifests.conftest import SECRETS, files_on_disk
from tests.manifests.rendering import Object, containers, kustomize, title

LOADED = load(MANIFESTS)
assert LOADED.migration is not None
SERVICES = sorted(LOADED.services)
CONTAINERS = [
    *(service.container for service in LOADED.services.values()),
    *(source.container for source in LOADED.sources),
    *(sink.container for sink in LOADED.job_sinks.values()),
    LOADED.migration,
]
INFERENCE = {tier: f"inference-{tier}" for tier in ("light", "standard", "heavy")}
# Answer when the work is done, so that the first byte may take as long as the whole.
EVENT_DRIVEN = sorted(
    {trigger.subscriber.service for trigger in LOADED.triggers if trigger.subscriber.service}
    | {ping.sink.service or "" for ping in LOADED.pings}
    | {trigger.delivery.dead_letter.service or "" for trigger in LOADED.triggers if trigger.delivery.dead_letter}
)
RUN_BESIDE_SERVICES = ["ContainerSource/relay", "Job/migrate-release"]
# Knative's default limit, revision-timeout max (config-defaults).
LONGEST_TIMEOUT_SECONDS = 600
HEARTBEAT_SECONDS = 15
USER = 65532
"""The image's."""


def pod(document: Object) -> Object:
    spec: Object = document["spec"]["template"]["spec"]
    return spec


def container(document: Object) -> Object:
    only: Object = pod(document)["containers"][0]
    return only


def entry_points(service: Service) -> set[str]:
    source = service.literal("FUNCTION_SOURCE")
    assert source is not None
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_file_is_listed_in_the_kustomization(objects: dict[str, Object]) -> None:
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert {MANIFESTS / name for name in listed} == files_on_disk()
    assert objects


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_entry_point_exists(name: str) -> None:
    service = LOADED.services[name]
    assert service.literal("FUNCTION_TARGET") in entry_points(service)


def test_only_the_tiers_of_inference_share_an_entry_point() -> None:
    services: dict[tuple[str | None, str | None], set[str]] = {}
    for name, service in LOADED.services.items():
        point = service.literal("FUNCTION_SOURCE"), service.literal("FUNCTION_TARGET")
        services.setdefault(point, set()).add(name)
    assert {frozenset(names) for names in services.values() if len(names) > 1} == {frozenset(INFERENCE.values())}


def test_every_source_starts_a_module_that_exists() -> None:
    for source in LOADED.sources:
        python, dash_m, module = source.container.command
        assert (python, dash_m) == ("python", "-m")
        assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()


def test_what_the_database_emits_and_the_event_catalogue_agree() -> None:
    texts = [path.read_text() for path in (ROOT / "sql").rglob("*.sql")]
    emitted = {found for text in texts for found in re.findall(r"'(com\.enterprise-agents\.[\w.]+)'", text)}
    assert emitted == EVENT_TYPES


@pytest.mark.parametrize("path", sorted((MANIFESTS / "services").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_answer_is_cut_for_silence_before_it_may_begin(path: Path) -> None:
    """The queue-proxy counts silence from the request on, so that a shorter idle time-out would win."""
    spec = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    assert spec.get("idleTimeoutSeconds", LONGEST_TIMEOUT_SECONDS) >= spec.get("responseStartTimeoutSeconds", 0)


def test_triggers_and_the_event_catalogue_agree() -> None:
    assert {trigger.attributes["type"] for trigger in LOADED.triggers} == CONSUMED


def test_each_event_reaches_one_subscriber_by_its_type_a_job_by_its_tier_too_and_a_document_by_its_size() -> None:
    reached = {
        (t.attributes["type"], t.attributes.get("tier") or t.attributes.get("size")): t.subscriber
        for t in LOADED.triggers
    }
    assert len(reached) == len(LOADED.triggers), "two Triggers take the same event"
    assert all(set(trigger.attributes) <= {"type", "tier", "size"} for trigger in LOADED.triggers)
    divided = {INFERENCE_REQUESTED: set(INFERENCE), INGESTION_RECEIVED: {"small", "large"}}
    others = {(kind, None) for kind in CONSUMED - divided.keys()}
    assert reached.keys() == others | {(kind, value) for kind, values in divided.items() for value in values}
    assert {tier: reached[INFERENCE_REQUESTED, tier].service for tier in INFERENCE} == INFERENCE
    assert reached[INGESTION_RECEIVED, "small"].service == "ingestion-worker"
    assert reached[INGESTION_RECEIVED, "large"].job_sink == "ingestion-job"


@pytest.mark.parametrize("trigger", LOADED.triggers, ids=lambda trigger: trigger.name)
def test_a_delivery_outlasts_the_service_it_goes_to(trigger: Trigger) -> None:
    service = LOADED.services.get(trigger.subscriber.service or "")
    assert trigger.delivery.timeout is not None
    # A JobSink answers at once.
    assert trigger.delivery.timeout >= (1 if service is None else service.timeout_seconds)
    assert trigger.delivery.retry > 0


def test_functions_that_take_events_are_private_and_the_others_public() -> None:
    private = sorted(name for name, service in LOADED.services.items() if service.cluster_local)
    assert private == EVENT_DRIVEN


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_scales_to_zero_and_not_without_limit(objects: dict[str, Object], name: str) -> None:
    annotations = objects[f"Service/{name}"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == "0"
    assert int(annotations["autoscaling.knative.dev/max-scale"]) >= 1
    assert LOADED.services[name].concurrency >= 1


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_timeouts_fit_each_other(objects: dict[str, Object], name: str) -> None:
    spec = pod(objects[f"Service/{name}"])
    assert 0 < spec["responseStartTimeoutSeconds"] <= spec["timeoutSeconds"] <= LONGEST_TIMEOUT_SECONDS
    if name in EVENT_DRIVEN:
        assert spec["responseStartTimeoutSeconds"] == spec["timeoutSeconds"]
    if "idleTimeoutSeconds" in spec:
        assert 2 * HEARTBEAT_SECONDS <= spec["idleTimeoutSeconds"] <= spec["timeoutSeconds"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_probed_where_the_function_answers(objects: dict[str, Object], name: str) -> None:
    spec = container(objects[f"Service/{name}"])
    assert spec["readinessProbe"]["httpGet"] == {"path": "/health/ready"}
    assert spec["livenessProbe"]["httpGet"] == {"path": "/health/live"}


@pytest.mark.parametrize("name", [*(f"Service/{name}" for name in SERVICES), *RUN_BESIDE_SERVICES])
def test_a_container_is_bounded_and_has_no_rights(objects: dict[str, Object], name: str) -> None:
    spec = container(objects[name])
    assert spec["image"] == "enterprise-agent-platform"
    assert set(spec["resources"]["requests"]) == set(spec["resources"]["limits"]) == {"cpu", "memory"}
    assert spec["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod(objects[name])["automountServiceAccountToken"] is False


UNSET = {"DEBUG": "on in dev, off elsewhere, and refused in prod"}
"""Variables that are no secret and stand in no manifest, each with the reason."""


def test_every_variable_is_one_the_platform_reads_and_the_reverse(objects: dict[str, Object]) -> None:
    known = {name.upper() for name in Settings.model_fields}
    config = set(objects["ConfigMap/enterprise-agents"]["data"])
    assert config <= known
    assert known - config == set(UNSET) | (SECRETS["enterprise-agents"] & known)
    named = {variable.name for container in CONTAINERS for variable in container.variables}
    assert named <= known | {"FUNCTION_SOURCE", "FUNCTION_TARGET"}
    assert SECRETS["enterprise-agents"] & known <= named


def test_the_config_map_holds_no_secret(objects: dict[str, Object]) -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert secret
    assert not secret & set(objects["ConfigMap/enterprise-agents"]["data"])
    assert not any(name.startswith("Secret/") for name in objects)


def test_functions_never_see_the_relays_login_nor_the_relay_theirs() -> None:
    for service in LOADED.services.values():
        assert "RELAY_DATABASE_URL" not in {variable.secret_key for variable in service.container.variables}
    for source in LOADED.sources:
        assert "DATABASE_URL" not in {variable.secret_key for variable in source.container.variables}


def test_config_values_are_valid_settings(objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch) -> None:
    data = objects["ConfigMap/enterprise-agents"]["data"]
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {**data, "ENVIRONMENT": "dev"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.embedding_dimensions == int(data["EMBEDDING_DIMENSIONS"])
    assert data["ENVIRONMENT"] == "prod"


SECRET = {
    "DATABASE_URL": "postgresql://app:made-up@postgres:5432/enterprise_agents",
    "MIGRATION_DATABASE_URL": "postgresql://owner:made-up@postgres:5432/enterprise_agents",
    "RELAY_DATABASE_URL": "postgresql://relay:made-up@postgres:5432/enterprise_agents",
    "REDIS_URL": "rediss://:made-up@redis:6379/0",
    "LITELLM_API_KEY": "sk-made-up",
    "SECRET_KEY": "made-up-" * 4,
}
"""What the Secret holds in production: DEV_JWT_SECRET is left out."""


def in_cluster(container: Container, objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that a container sees in a cluster."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in container.environment(objects["ConfigMap/enterprise-agents"]["data"], SECRET).items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_start_in_production(
    objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = in_cluster(LOADED.services[name].container, objects, monkeypatch)
    assert settings.environment == "prod"
    assert guards.problems(settings) == []


def test_a_source_may_start_in_production(objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch) -> None:
    [relay] = LOADED.sources
    settings = in_cluster(relay.container, objects, monkeypatch)
    assert settings.environment == "prod"
    assert settings.database_dsn() == SECRET["RELAY_DATABASE_URL"]
    assert guards.problems(settings, read=("database_url",)) == []


def test_the_migration_has_a_login_of_its_own(objects: dict[str, Object], monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOADED.migration is not None
    settings = in_cluster(LOADED.migration, objects, monkeypatch)
    assert settings.migration_url("postgresql") == SECRET["MIGRATION_DATABASE_URL"]
    assert {v.secret_key for v in LOADED.migration.variables} == {"MIGRATION_DATABASE_URL"}
    others = [c for c in CONTAINERS if c is not LOADED.migration]
    assert "MIGRATION_DATABASE_URL" not in {v.secret_key for c in others for v in c.variables}


def test_the_secrets_keys_are_those_that_the_config_map_tells_of() -> None:
    named = {v.secret_key: v.optional for c in CONTAINERS for v in c.variables if v.secret_key}
    assert {key for key, optional in named.items() if not optional} == set(SECRET)
    assert {key for key, optional in named.items() if optional} == {
        "DEV_JWT_SECRET",
        "S3_ACCESS_KEY_ID",
        "S3_SECRET_ACCESS_KEY",
    }
    assert set(named) == SECRETS["enterprise-agents"]


def test_kustomize_puts_everything_into_one_namespace(base: list[Object], objects: dict[str, Object]) -> None:
    assert sorted(map(title, base)) == sorted(objects)
    spaces = {document["metadata"].get("namespace") for document in base if document["kind"] != "Namespace"}
    assert spaces == {"enterprise-agents"}


def test_an_image_set_by_kustomize_reaches_every_container(tmp_path: Path) -> None:
    overlay = {
        "resources": [os.path.relpath(MANIFESTS, tmp_path)],
        "images": [{"name": "enterprise-agent-platform", "newName": "registry/x", "newTag": "1.2.3"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    images = [one["image"] for document in kustomize(tmp_path) for one in containers(document)]
    assert images == ["registry/x:1.2.3"] * len(CONTAINERS)
