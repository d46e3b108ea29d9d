"""What the compose files say, held against the Compose specification, the manifests, the settings and the local stack."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from jsonschema import Draft202012Validator

from infra.local import manifests, ports
from infra.local.assembly import MANIFESTS, ROOT
from shared.settings import Settings
from tests.compose.reading import (
    DEVELOPMENT,
    FOLDER,
    OVERRIDES,
    PRODUCTION,
    Document,
    UnsetError,
    environment,
    parse,
    render,
    variables,
)

FILES = [PRODUCTION, DEVELOPMENT, OVERRIDES]
STORES = {"db": 5432, "redis": 6379, "litellm": 4000, "ollama": 11434}
"""What the platform stands on, and the operators' ports of it."""
JOBS = {"migrate"}
EVENTING = {"broker", "relay", "job-sink"}
"""What Knative Eventing is in a cluster."""
INSIDE = 8080
"""The port of a function in its container."""
OF_COMPOSE = {
    *("IMAGE", "TAG", "PUBLISH", "OLLAMA_GPUS", "DB_SHARED_BUFFERS", "LITELLM_CONFIG_PATH"),
    *("POSTGRES_PASSWORD", "APP_PASSWORD", "RELAY_PASSWORD", "REDIS_PASSWORD", "RELAY_DATABASE_URL"),
}
"""Variables that only the compose files hear."""
DEVELOPED = {"ENVIRONMENT", "PUBLIC_BASE_URL", "CORS_ALLOWED_ORIGINS", "OIDC_ISSUER_URL"}
"""Of the ConfigMap: what is required here, because an example address would be no default."""
MEMORY = {"m": "Mi", "g": "Gi"}


def loaded() -> dict[str, Document]:
    """Return the manifests' Services and sources, and the ConfigMap, by name."""
    found = {}
    for path in MANIFESTS.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document and (
                document["kind"] in {"ConfigMap", "ContainerSource"}
                or document["apiVersion"].startswith("serving.knative.dev/")
            ):
                found[document["metadata"]["name"]] = document
    return found


MANIFEST = loaded()
SERVICES = sorted(manifests.load(MANIFESTS).services)


def container(name: str) -> Document:
    [found] = MANIFEST[name]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def names(name: str) -> set[str]:
    """Return the variables of a workload of the manifests."""
    return {*MANIFEST["enterprise-agents"]["data"], *(variable["name"] for variable in container(name)["env"])}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_follows_the_compose_specification(path: Path) -> None:
    # Its code is not used, and what that needs is not installed.
    carrier = importlib.metadata.distribution("check-jsonschema")
    vendored = Path(str(carrier.locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")))
    validator = Draft202012Validator(json.loads(vendored.read_text()))
    # The schema knows no tags.
    document = json.loads(json.dumps(parse(path), default=lambda _: {}))
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(document)] == []
    document["services"] = {"chat": {"imagine": "chat"}}
    assert list(validator.iter_errors(document)), "the schema refuses nothing"


@pytest.mark.parametrize("path", [PRODUCTION, DEVELOPMENT], ids=lambda path: path.name)
def test_docker_compose_reads_a_file(path: Path, filled_in: dict[str, str]) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no docker compose on this machine")
    command = ["docker", "compose", "--file", str(path), "config", "--format", "json"]
    environ = filled_in if path == PRODUCTION else {}
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/usr/local/bin", **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == {*STORES, *JOBS, *SERVICES, *EVENTING}


@pytest.mark.parametrize("name", [*SERVICES, "relay"])
def test_a_workload_is_that_of_its_manifest(production: Document, filled_in: dict[str, str], name: str) -> None:
    service, manifest = production["services"][name], container(name)
    own = environment(service, filled_in)
    injected = {"K_SINK", "K_CE_OVERRIDES"} if name == "relay" else set()
    assert set(service["environment"]) - injected == names(name)
    for variable in manifest["env"]:
        if "value" in variable:
            assert own[variable["name"]] == variable["value"]
    default = ["python", "-m", "shared.serving"]  # the image's
    assert service.get("command", default) == manifest["command"]
    limits = manifest["resources"]["limits"]
    memory = str(service["mem_limit"])
    assert memory[:-1] + MEMORY[memory[-1]] == limits["memory"]
    assert f"{float(service['cpus']) * 1000:g}m" in {
        limits["cpu"],
        f"{float(limits['cpu'].removesuffix('m')) * 1000:g}m",
    }


def test_the_configuration_is_the_config_maps(production: Document) -> None:
    data = MANIFEST["enterprise-agents"]["data"]
    own = environment(production["services"]["chat"], {})
    differing = {name for name, value in data.items() if own[name] != value}
    assert differing <= DEVELOPED
    # With these the functions start in production.
    assert own["ENVIRONMENT"] == "prod"


def test_every_service_of_the_manifests_is_here_and_nothing_else(production: Document) -> None:
    assert set(production["services"]) == {*SERVICES, *EVENTING, *JOBS, *STORES}


def test_every_variable_exists() -> None:
    known = {name.upper() for name in Settings.model_fields} | OF_COMPOSE
    for path in FILES:
        assert not variables(path.read_text()) - known
    for file in ("dev.env", ".env.example"):
        assert not set(dotenv_values(FOLDER / file)) - known
    example = (FOLDER / ".env.example").read_text()
    assert not set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE)) - known - {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}


REQUIRED = [
    *("PUBLIC_BASE_URL", "CORS_ALLOWED_ORIGINS", "OIDC_ISSUER_URL", "SECRET_KEY", "LITELLM_API_KEY"),
    *("POSTGRES_PASSWORD", "APP_PASSWORD", "RELAY_PASSWORD", "REDIS_PASSWORD"),
]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_missing_is_named(filled_in: dict[str, str], name: str, value: str | None) -> None:
    without = {key: text for key, text in filled_in.items() if key != name}
    with pytest.raises(UnsetError, match=f"^{name}: .+"):
        render(PRODUCTION, without if value is None else {**without, name: value})


def test_the_example_has_what_is_required_and_development_needs_nothing() -> None:
    assert set(dotenv_values(FOLDER / ".env.example")) == set(REQUIRED)
    services = render(DEVELOPMENT, {})["services"]
    assert environment(services["chat"], {})["ENVIRONMENT"] == "dev"
    # What .env.dev or the shell says wins.
    assert environment(render(DEVELOPMENT, {"REGION": "eu"})["services"]["chat"], {})["REGION"] == "eu"


def published(service: Document) -> dict[int, int]:
    """Return the ports of this machine by those of the container."""
    return {int(port.split(":")[2]): int(port.split(":")[1]) for port in service.get("ports", [])}


def test_ports_are_those_of_the_local_stack(production: Document) -> None:
    for name, service in manifests.load(MANIFESTS).services.items():
        expected = {} if service.cluster_local else {INSIDE: ports.DEFAULTS[name]}
        assert published(production["services"][name]) == expected, name
    assert ports.DEFAULTS["health"] == 8000
    services = render(DEVELOPMENT, {})["services"]
    assert {name: published(services[name]) for name in STORES} == {name: {port: port} for name, port in STORES.items()}


def test_no_port_is_open_to_the_network_unless_it_is_asked_for(production: Document) -> None:
    for services in (production["services"], render(DEVELOPMENT, {})["services"]):
        for service in services.values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("path", [PRODUCTION, DEVELOPMENT], ids=lambda path: path.name)
def test_every_container_is_hardened_and_its_image_is_pinned(path: Path, filled_in: dict[str, str]) -> None:
    for name, service in render(path, filled_in)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"]), name
        if name != "ollama":  # a new volume is root's
            assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert not service.get("privileged")


def test_the_image_is_that_of_this_release(production: Document) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ours = {name for name, service in production["services"].items() if name not in STORES}
    assert {production["services"][name]["image"] for name in ours} == {f"enterprise-agent-platform:{version}"}
    # One build for all of them.
    assert [name for name, service in production["services"].items() if "build" in service] == ["migrate"]
    build = production["services"]["migrate"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()
    users = re.findall(r"^USER (\S+)$", (FOLDER / build["context"] / build["dockerfile"]).read_text(), re.MULTILINE)
    assert {production["services"][name]["user"] for name in ours} == set(users)


def test_up_can_wait_until_everything_is_well(production: Document) -> None:
    services = production["services"]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"relay", *JOBS}
    for name in SERVICES:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert services[name]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert services["migrate"]["depends_on"]["db"]["condition"] == "service_healthy"
    assert services["migrate"]["restart"] == "no"


def test_whatever_is_mounted_is_there(filled_in: dict[str, str]) -> None:
    for path in (PRODUCTION, DEVELOPMENT):
        document = render(path, filled_in)
        for service in document["services"].values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                assert (FOLDER / source).exists() if source.startswith(".") else source in document["volumes"], volume


def test_the_broker_reaches_whoever_receives_events(production: Document) -> None:
    told = json.loads(production["services"]["broker"]["environment"]["LOCAL_SUBSCRIBERS"])
    found = manifests.load(MANIFESTS)
    receivers = [trigger.subscriber for trigger in found.triggers] + [ping.sink for ping in found.pings]
    receivers += [trigger.delivery.dead_letter for trigger in found.triggers if trigger.delivery.dead_letter]
    expected = {to.service: f"http://{to.service}:{INSIDE}" for to in receivers if to.service}
    jobs = production["services"]["job-sink"]["environment"]
    assert told == expected | {"job-sink": f"http://job-sink:{jobs['PORT']}"}
    # A Job's variables are this process's own.
    for sink in found.job_sinks.values():
        assert {variable.secret_key for variable in sink.container.variables if variable.secret_key} <= set(jobs)
        assert set(MANIFEST["enterprise-agents"]["data"]) <= set(jobs)
    own = production["services"]["relay"]["environment"]
    [relay] = found.sources
    assert own["K_SINK"] == f"http://broker:{production['services']['broker']['environment']['PORT']}/"
    assert json.loads(own["K_CE_OVERRIDES"]).get("extensions", {}) == dict(relay.extensions)


def test_development_reloads_every_function_and_needs_no_gpu() -> None:
    services = render(DEVELOPMENT, {})["services"]
    for name in SERVICES:
        assert services[name]["command"][:2] == ["watchmedo", "auto-restart"]
        assert services[name]["command"][-3:] == ["python", "-m", "shared.serving"]
        assert "../../functions:/app/functions:ro" in services[name]["volumes"]
    assert "deploy" not in services["ollama"]


def test_production_gives_ollama_its_gpus(production: Document) -> None:
    reservations: dict[str, Any] = production["services"]["ollama"]["deploy"]["resources"]["reservations"]
    assert reservations["devices"] == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
