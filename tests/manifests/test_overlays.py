"""What each overlay is for."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from infra.local.assembly import ROOT
from infra.release.revisions import Release
from shared.settings import DEV_ORIGINS
from tests.manifests.rendering import (
    FOLDERS,
    OVERLAYS,
    Object,
    containers,
    kustomize,
    named,
    pod_template,
    rendered,
    title,
)
from tests.manifests.schemas import invalid
from tests.manifests.webhooks import refused

COMPONENTS = OVERLAYS.parent / "components"

REGIONS = ["ap-southeast-1", "eu-west-1", "us-east-1"]
CLIENTS_CALL = ["chat", "health", "identity", "ingestion", "openai-api", "retrieval", "routing"]
CONFIG = "ConfigMap/enterprise-agents"


def hosts(documents: list[Object]) -> dict[str, str]:
    """Return the Service behind each host."""
    found = [document for document in documents if document["kind"] == "DomainMapping"]
    return {document["metadata"]["name"]: document["spec"]["ref"]["name"] for document in found}


def image(documents: list[Object]) -> str:
    """Return the platform's image, which is one."""
    [name] = {container["image"] for container in containers(named(documents, "Service/chat"))}
    return str(name)


def test_there_is_an_overlay_for_each_place() -> None:
    assert sorted(FOLDERS.keys() - {"base"}) == sorted(["dev", "prod", *REGIONS])


@pytest.mark.parametrize("place", ["prod", *REGIONS])
def test_production_keeps_events_and_the_heavy_tier(place: str) -> None:
    documents = rendered(place)
    broker = named(documents, "Broker/default")
    assert broker["metadata"]["annotations"]["eventing.knative.dev/broker.class"] == "Kafka"
    assert broker["spec"]["config"]["namespace"] == "knative-eventing"
    assert broker["spec"]["delivery"]["retry"] == 10
    least = {
        document["metadata"]["name"]: template["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"]
        for document in documents
        if document["apiVersion"] == "serving.knative.dev/v1"
        for template in [document["spec"]["template"]]
    }
    assert {name for name, number in least.items() if number != "0"} == {"inference-heavy"}
    budgets = {d["metadata"]["name"] for d in documents if d["kind"] == "PodDisruptionBudget"}
    assert {name for name, number in least.items() if number != "0"} | {"relay"} <= budgets
    assert named(documents, CONFIG)["data"]["ENVIRONMENT"] == "prod"


@pytest.mark.parametrize("place", ["prod", *REGIONS])
def test_no_host_of_production_takes_a_token_in_clear(place: str) -> None:
    mappings = [document for document in rendered(place) if document["kind"] == "DomainMapping"]
    assert mappings
    for mapping in mappings:
        assert mapping["metadata"]["annotations"] == {"networking.knative.dev/http-protocol": "redirected"}
        assert mapping["spec"]["tls"]["secretName"]


@pytest.mark.parametrize("place", ["prod", *REGIONS])
def test_production_pins_its_image_and_names_the_migration_after_it(place: str) -> None:
    name, _, tag = image(rendered(place)).rpartition(":")
    assert name.partition("/")[2] == "enterprise-agent-platform"
    assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
    jobs = [title(document) for document in rendered(place) if document["kind"] == "Job"]
    assert jobs == [f"Job/migrate-{Release(tag).label}"]


@pytest.mark.parametrize("version", ["newTag: 0.2.0", f"digest: sha256:{64 * 'a'}"])
def test_an_image_is_named_by_port_and_digest_as_well(tmp_path: Path, version: str) -> None:
    for folder in ("knative", "infra"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    overlay = tmp_path / "knative" / "overlays" / "prod"
    text = (overlay / "kustomization.yaml").read_text()
    changed = text.replace("registry.example.com/", "registry.example.com:5000/")
    changed = re.sub(r"newTag: [\d.]+", version, changed)
    assert "registry.example.com:5000/" in changed
    (overlay / "kustomization.yaml").write_text(changed)
    documents = kustomize(overlay)
    reference = image(documents)
    assert reference.startswith("registry.example.com:5000/enterprise-agent-platform")
    assert reference.endswith(version.partition(": ")[2])
    [job] = [document for document in documents if document["kind"] == "Job"]
    assert re.fullmatch(r"migrate(-[a-z0-9]+)+", job["metadata"]["name"])
    [container] = containers(job)
    assert container["image"] == reference
    assert [reason for document in documents for reason in (*invalid(document, None), *refused(document))] == []


@pytest.mark.parametrize("place", ["dev", "prod", "eu-west-1"])
def test_with_a_private_registry_every_pod_pulls_with_its_login(place: str, tmp_path: Path) -> None:
    def listed(folder: Path) -> str:
        return os.path.relpath(folder, tmp_path.resolve())

    own = {"resources": [listed(FOLDERS[place])], "components": [listed(COMPONENTS / "private-registry")]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    documents = kustomize(tmp_path)
    accounts = {d["metadata"]["name"]: d for d in documents if d["kind"] == "ServiceAccount"}
    assert all(account["imagePullSecrets"] == [{"name": "registry"}] for account in accounts.values())
    used = {template["spec"]["serviceAccountName"] for d in documents if (template := pod_template(d)) is not None}
    assert {"chat", "relay", "ingestion-job", "migrate"} <= used <= set(accounts)
    assert [reason for account in accounts.values() for reason in invalid(account, None)] == []


def test_the_tag_is_the_projects_version() -> None:
    version = re.search(r'^version = "(.+)"$', (OVERLAYS.parents[1] / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert image(rendered("prod")).endswith(f":{version[1]}")


def test_every_function_that_clients_call_has_a_host_and_no_other() -> None:
    documents = rendered("prod")
    assert hosts(documents) == {f"{name}.agents.example.com": name for name in CLIENTS_CALL}
    private = "networking.knative.dev/visibility"
    services = [document for document in documents if document["apiVersion"] == "serving.knative.dev/v1"]
    public = {d["metadata"]["name"] for d in services if private not in d["metadata"].get("labels", {})}
    assert public == set(CLIENTS_CALL)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_production_with_a_name_and_hosts_of_its_own(region: str) -> None:
    documents, production = rendered(region), rendered("prod")
    own = {f"{name}.{region}.agents.example.com": name for name in CLIENTS_CALL}
    assert hosts(documents) == hosts(production) | own
    data, common = named(documents, CONFIG)["data"], named(production, CONFIG)["data"]
    told = {"REGION": region, "S3_REGION": region, "PUBLIC_BASE_URL": f"https://{region}.agents.example.com"}
    assert data == common | told
    rest = [d for d in documents if title(d) != CONFIG and d["metadata"]["name"] not in own]
    assert rest == [d for d in production if title(d) != CONFIG]


def test_regions_differ_by_their_names_alone() -> None:
    assert len({json.dumps(rendered(region)).replace(region, "here") for region in REGIONS}) == 1


def test_development_takes_its_own_tokens_and_is_small() -> None:
    documents = rendered("dev")
    data = named(documents, CONFIG)["data"]
    assert data["ENVIRONMENT"] == "dev"
    assert json.loads(data["CORS_ALLOWED_ORIGINS"]) == list(DEV_ORIGINS)
    assert hosts(documents) == {}
    # Knative looks a tag up at its registry, but for these hosts (config-deployment, registries-skipping-tag-resolving).
    assert image(documents).partition("/")[0] in {"kind.local", "ko.local", "dev.local"}
    for document in documents:
        if document["apiVersion"] == "serving.knative.dev/v1":
            scale = document["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"]
            assert scale == "1", title(document)
