"""What each overlay is for."""

import json
import re

import pytest

from shared.settings import DEV_ORIGINS
from tests.manifests.rendering import FOLDERS, OVERLAYS, Object, containers, named, rendered, title

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
def test_production_pins_its_image_and_names_the_migration_after_it(place: str) -> None:
    name, _, tag = image(rendered(place)).rpartition(":")
    assert name.partition("/")[2] == "enterprise-agent-platform"
    assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
    assert [title(document) for document in rendered(place) if document["kind"] == "Job"] == [f"Job/migrate-{tag}"]


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
