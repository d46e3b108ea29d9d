"""What the platform stands on in a cluster: valid objects, that fit each other, the functions and the models' names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from infra.local.assembly import ROOT
from shared.sentinel import watched
from shared.settings import Settings
from tests.infrastructure.bundles import FOLDERS, NAMESPACE, PARTS, base, of_kind, rendered, secret_keys, volumes
from tests.manifests.conftest import EVERY_SECRET
from tests.manifests.network import OUTSIDE, Peer, passes, pods
from tests.manifests.references import broken, selects
from tests.manifests.rendering import Object, containers, named, pod_template, title
from tests.manifests.schemas import invalid
from tests.manifests.webhooks import refused

BUNDLES = ("production", "development")
WHOLE = [folder for folder in FOLDERS if folder not in PARTS]
WORKLOADS = ("Deployment", "StatefulSet")
TIERS = ("light", "standard", "heavy")
CONFIGURATIONS = {"production": "litellm_config.prod.yaml", "development": "litellm_config.yaml"}
SECRET = "enterprise-agents"
START_SECONDS = 1800
"""What a model's weights may take to load."""


def spec_of(document: Object) -> Object:
    template = pod_template(document)
    assert template is not None
    spec: Object = template["spec"]
    return spec


def workloads(documents: list[Object]) -> list[Object]:
    return [document for document in documents if pod_template(document) is not None]


def litellm_config(name: str) -> Any:
    return yaml.safe_load((ROOT / "infra" / "litellm" / name).read_text())


def ports(service: Object) -> set[int]:
    return {port["port"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_renders_to_objects_that_a_cluster_takes(folder: str) -> None:
    documents = rendered(folder)
    assert documents
    assert [reason for document in documents for reason in invalid(document, None)] == []
    assert [reason for document in documents for reason in refused(document)] == []


@pytest.mark.parametrize("folder", WHOLE)
def test_a_folder_can_be_applied_alone(folder: str) -> None:
    """What its pods take from ConfigMaps, volumes and accounts is there, but for the Secret and the functions' ConfigMap."""
    documents = rendered(folder)
    there = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for document in documents:
        assert document["metadata"].get("namespace", NAMESPACE) == NAMESPACE
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "enterprise-agent-platform"
    for workload in workloads(documents):
        template = pod_template(workload)
        assert template is not None
        assert set(volumes(template)) <= there
        assert ("ServiceAccount", template["spec"]["serviceAccountName"]) in there


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_and_the_functions_name_nothing_that_is_not_there(bundle: str) -> None:
    assert broken([*base(), *rendered(bundle)], EVERY_SECRET) == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_whatever_stays_is_probed_bounded_and_spared_the_services_variables(bundle: str) -> None:
    for workload in workloads(rendered(bundle)):
        spec = spec_of(workload)
        # <NAME>_PORT=tcp://... of a Service would be read by vLLM and others as a setting of theirs.
        assert spec["enableServiceLinks"] is False, title(workload)
        for container in containers(workload):
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), title(workload)
            assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
        for container in spec["containers"] if workload["kind"] in WORKLOADS else ():
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), title(workload)


@pytest.mark.parametrize("folder", WHOLE)
def test_images_have_a_version(folder: str) -> None:
    images = {container["image"] for document in rendered(folder) for container in containers(document)}
    assert all(re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image) for image in images), images


def test_compose_runs_the_versions_that_a_cluster_runs() -> None:
    there = {c["image"] for folder in WHOLE for document in rendered(folder) for c in containers(document)}
    compose = (ROOT / "infra" / "compose" / "docker-compose.yml").read_text()
    here = set(re.findall(r"^ +image: ([^$\s]+)$", compose, re.MULTILINE))
    assert {image.rpartition(":")[0] for image in here} >= {"pgvector/pgvector", "redis", "ollama/ollama"}
    assert here <= there


def test_litellm_is_the_version_that_is_tested() -> None:
    [locked] = re.findall(
        r"^litellm(?:\[proxy\])?==(\S+)", (ROOT / "tests/litellm/requirements.lock").read_text(), re.MULTILINE
    )
    [container] = containers(named(rendered("litellm"), "Deployment/litellm"))
    assert container["image"].endswith(f":v{locked}")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_where_there_are_several_pods_not_all_are_evicted_at_once(bundle: str) -> None:
    documents = rendered(bundle)
    budgets = [budget["spec"] for budget in of_kind(documents, "PodDisruptionBudget").values()]
    for workload in of_kind(documents, *WORKLOADS).values():
        template = pod_template(workload)
        assert template is not None
        covered = [budget for budget in budgets if selects(budget["selector"], template["metadata"]["labels"])]
        if workload["spec"]["replicas"] > 1:
            assert [budget["maxUnavailable"] for budget in covered] == [1], title(workload)


def test_a_pod_that_holds_a_volume_or_a_gpu_goes_before_its_successor_comes() -> None:
    for workload in of_kind(rendered("production"), "Deployment").values():
        template = pod_template(workload)
        assert template is not None
        if any(kind == "PersistentVolumeClaim" for kind, _ in volumes(template)):
            assert workload["spec"]["strategy"] == {"type": "Recreate"}, title(workload)
            assert workload["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("folder", "name", "way", "message"),
    [
        ("monitoring", "PodMonitor/functions", ("selector", "matchLabel"), "unknown field matchLabel"),
        ("monitoring", "PodMonitor/vllm", ("podMetricsEndpoints", 0, "intervall"), "unknown field intervall"),
        (
            "monitoring",
            "PrometheusRule/enterprise-agents",
            ("groups", 0, "rules", 0, "expression"),
            "unknown field expr",
        ),
        ("monitoring", "PrometheusRule/enterprise-agents", ("groups", 0, "rules", 0, "for"), "does not match"),
        (
            "external-secrets",
            "ExternalSecret/enterprise-agents",
            ("target", "template", "datas"),
            "unknown field datas",
        ),
        ("external-secrets", "ClusterSecretStore/enterprise-agents", ("provider", "vaults"), "unknown field vaults"),
    ],
)
def test_a_mistake_in_another_operators_object_is_found(
    folder: str, name: str, way: tuple[str | int, ...], message: str
) -> None:
    document: Any = named(rendered(folder), name)
    parent = document["spec"]
    for step in way[:-1]:
        parent = parent[step]
    parent[way[-1]] = "wrong"
    assert any(message in reason for reason in invalid(document, None))


# --- the models ---


def vllm(tier: str) -> tuple[Object, Mapping[str, str]]:
    """Return a tier's container and the variables that its arguments are made of."""
    documents = rendered("vllm")
    deployment = named(documents, f"Deployment/vllm-{tier}")
    [container] = spec_of(deployment)["containers"]
    [source] = container["envFrom"]
    data: Mapping[str, str] = named(documents, f"ConfigMap/{source['configMapRef']['name']}")["data"]
    return container, data


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_has_as_many_gpus_as_its_model_is_split_over(tier: str) -> None:
    container, data = vllm(tier)
    gpus = {container["resources"][kind]["nvidia.com/gpu"] for kind in ("requests", "limits")}
    assert gpus == {int(data["TENSOR_PARALLEL_SIZE"])}
    assert gpus == ({2} if tier == "heavy" else {1})


@pytest.mark.parametrize("tier", TIERS)
def test_a_model_is_named_once_and_its_arguments_have_no_variable_that_is_not_set(tier: str) -> None:
    container, data = vllm(tier)
    used = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))
    assert used == set(data)
    assert container["args"][0] == "$(MODEL)"


@pytest.mark.parametrize("tier", TIERS)
def test_a_model_is_fetched_before_the_start_and_never_after(tier: str) -> None:
    deployment = named(rendered("vllm"), f"Deployment/vllm-{tier}")
    spec = spec_of(deployment)
    [download] = spec["initContainers"]
    [server] = spec["containers"]
    offline = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
    assert offline <= {variable["name"] for variable in server["env"] if variable.get("value") == "1"}
    assert not offline & {variable["name"] for variable in download["env"]}
    homes = [
        {variable["name"]: variable.get("value") for variable in container["env"]}["HF_HOME"]
        for container in (download, server)
    ]
    mounts = [
        {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]} for container in (download, server)
    ]
    assert homes[0] == homes[1]
    assert homes[0].startswith("/models/")
    assert mounts[0]["/models"] == mounts[1]["/models"] == "models"
    assert ("PersistentVolumeClaim", f"vllm-models-{tier}") in set(volumes(deployment["spec"]["template"]))


@pytest.mark.parametrize("tier", TIERS)
def test_loading_weights_is_no_failure(tier: str) -> None:
    deployment = named(rendered("vllm"), f"Deployment/vllm-{tier}")
    [server] = spec_of(deployment)["containers"]
    probe = server["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= START_SECONDS
    assert deployment["spec"]["progressDeadlineSeconds"] > START_SECONDS
    [shm] = [volume for volume in spec_of(deployment)["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in server["volumeMounts"]  # noqa: S108


def upstreams(name: str) -> Iterator[tuple[str, str, int, str]]:
    """Yield provider, host, port and model of every model that a configuration finds in the cluster."""
    for model in litellm_config(name)["model_list"]:
        params = model["litellm_params"]
        if "api_base" in params:
            base_url = urlsplit(params["api_base"])
            provider, _, asked = params["model"].partition("/")
            assert base_url.hostname is not None
            yield provider, base_url.hostname, base_url.port or 80, asked


@pytest.mark.parametrize("name", CONFIGURATIONS.values())
def test_litellm_finds_every_model_that_it_is_configured_with(name: str) -> None:
    bundle = next(bundle for bundle, configured in CONFIGURATIONS.items() if configured == name)
    documents = rendered(bundle)
    # The heavy tier is a vLLM's in development too, where there is one.
    services = of_kind([*documents, *rendered("vllm")], "Service")
    [pull] = spec_of(named(documents, "Deployment/ollama"))["initContainers"]
    pulled = {variable["name"]: variable.get("value") for variable in pull["env"]}["MODELS"].split()
    for provider, host, port, asked in upstreams(name):
        assert port in ports(services[host])
        if provider.startswith("ollama"):
            assert asked in pulled
        else:
            component = services[host]["spec"]["selector"]["app.kubernetes.io/component"]
            assert vllm(component)[1]["SERVED_MODEL_NAME"] == asked


def test_every_pulled_model_is_asked_for() -> None:
    for bundle, name in CONFIGURATIONS.items():
        [pull] = spec_of(named(rendered(bundle), "Deployment/ollama"))["initContainers"]
        pulled = {variable["name"]: variable.get("value") for variable in pull["env"]}["MODELS"].split()
        assert {asked for provider, _, _, asked in upstreams(name) if provider.startswith("ollama")} == set(pulled)


def test_in_production_nothing_is_asked_of_the_cloud() -> None:
    models = litellm_config("litellm_config.prod.yaml")["model_list"]
    assert all("api_base" in model["litellm_params"] for model in models)


@pytest.mark.parametrize("name", CONFIGURATIONS.values())
def test_litellm_serves_every_model_that_the_functions_name(name: str) -> None:
    data = named(base(), "ConfigMap/enterprise-agents")["data"]
    named_by_functions = {data[key] for key in data if key.startswith("MODEL_") and "/" in data[key]}
    named_by_functions |= {data["LITELLM_DEFAULT_MODEL"], data["LITELLM_EMBEDDING_MODEL"]}
    config = litellm_config(name)
    served = {model["model_name"] for model in config["model_list"]}
    assert named_by_functions <= served | config["router_settings"].get("model_group_alias", {}).keys()
    assert set(config["router_settings"].get("model_group_alias", {}).values()) <= served


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_deployment_reads_the_configuration_that_litellm_config_path_names(bundle: str) -> None:
    documents = rendered(bundle)
    deployment = named(documents, "Deployment/litellm")
    [container] = containers(deployment)
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables["LITELLM_CONFIG_PATH"] == CONFIGURATIONS[bundle]
    assert "/etc/litellm/$(LITELLM_CONFIG_PATH)" in container["args"]
    template = pod_template(deployment)
    assert template is not None
    [(_, config)] = [source for source in volumes(template) if source[0] == "ConfigMap"]
    files = named(documents, f"ConfigMap/{config}")["data"]
    assert yaml.safe_load(files[CONFIGURATIONS[bundle]]) == litellm_config(CONFIGURATIONS[bundle])


def test_the_proxys_master_key_is_the_key_that_the_functions_use() -> None:
    [container] = containers(named(rendered("litellm"), "Deployment/litellm"))
    [key] = [variable for variable in container["env"] if variable["name"] == "LITELLM_MASTER_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": SECRET, "key": "LITELLM_API_KEY"}
    for name in CONFIGURATIONS.values():
        assert litellm_config(name)["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"


# --- where the functions find them ---


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_functions_find_litellm(bundle: str) -> None:
    url = urlsplit(named(base(), "ConfigMap/enterprise-agents")["data"]["LITELLM_BASE_URL"])
    assert url.hostname is not None
    assert url.port in ports(of_kind(rendered(bundle), "Service")[url.hostname])


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_port_of_a_service_is_one_that_its_pods_have(bundle: str) -> None:
    documents = rendered(bundle)
    templates = [pod_template(workload) for workload in workloads(documents)]
    for service in of_kind(documents, "Service").values():
        selected = [
            t for t in templates if t and selects({"matchLabels": service["spec"]["selector"]}, t["metadata"]["labels"])
        ]
        assert selected, title(service)
        for template in selected:
            named_ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= named_ports, title(service)


FUNCTIONS = ("chat", "openai-api", "inference-heavy", "embedding", "sweeper")
ALLOWED = {
    "production": [
        *[(function, "litellm", 4000) for function in ("chat", "openai-api", "inference-heavy", "embedding")],
        *[(function, "pgbouncer", 6432) for function in FUNCTIONS],
        *[(function, "redis", port) for function in FUNCTIONS for port in (6379, 26379)],
        ("litellm", "vllm", 8080),
        ("litellm", "ollama", 11434),
        ("redis", "redis", 6379),
        ("redis", "redis", 26379),
    ],
    "development": [
        ("chat", "litellm", 4000),
        ("litellm", "ollama", 11434),
        *[(pod, "postgres", 5432) for pod in ("chat", "relay", "migrate", "postgres-backup")],
        ("chat", "redis", 6379),
    ],
}
FORBIDDEN = {
    "production": [
        ("chat", "vllm", 8080),
        ("inference-heavy", "vllm", 8080),
        ("chat", "ollama", 11434),
        ("litellm", "redis", 6379),
        ("vllm", "ollama", 11434),
        ("ollama", "vllm", 8080),
        ("redis", "litellm", 4000),
    ],
    "development": [("ollama", "redis", 6379), ("postgres", "redis", 6379), ("chat", "ollama", 11434)],
}


def reaches(documents: list[Object], source: str, target: str, port: int) -> bool:
    """Return whether the policies at both ends let a pod reach another one."""
    labels = pods(documents)
    here, there = labels[source], labels[target]
    return passes(documents, "egress", here, Peer(NAMESPACE, tuple(there.items())), port) and passes(
        documents, "ingress", there, Peer(NAMESPACE, tuple(here.items())), port
    )


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_network_lets_through_what_is_needed_and_no_more(bundle: str) -> None:
    documents = [*base(), *rendered(bundle)]
    assert [way for way in ALLOWED[bundle] if not reaches(documents, *way)] == []
    assert [way for way in FORBIDDEN[bundle] if reaches(documents, *way)] == []
    for name in ("litellm", "ollama", "redis"):
        for port in (4000, 11434, 6379, 26379):
            assert not passes(documents, "ingress", pods(documents)[name], OUTSIDE, port)


def test_prometheus_reaches_what_it_is_told_to_measure() -> None:
    documents = [*base(), *rendered("production")]
    labels = pods(documents)
    prometheus = Peer("monitoring", (("app.kubernetes.io/name", "prometheus"),))
    assert passes(documents, "ingress", labels["vllm"], prometheus, 8080)
    for port in (8080, 9091):
        assert passes(documents, "ingress", labels["chat"], prometheus, port)
    assert not passes(documents, "ingress", labels["redis"], prometheus, 6379)


# --- the end of a pod ---


def hook(folder: str, workload: str, container: str) -> tuple[str, int]:
    """Return what a container runs before it is ended, and the seconds that its pod has for its end."""
    spec = spec_of(named(rendered(folder), workload))
    [found] = [one for one in spec["containers"] if one["name"] == container]
    return " ".join(found["lifecycle"]["preStop"]["exec"]["command"]), spec["terminationGracePeriodSeconds"]


def test_sentinel_stays_until_a_master_has_handed_over() -> None:
    asks, grace = hook("redis", "StatefulSet/redis", "redis")
    script = (ROOT / "infra" / "redis" / "leave.sh").read_text()
    assert asks.endswith("leave.sh")
    [tries], [pause] = re.findall(r"seq (\d+)", script), re.findall(r"sleep (\d+)", script)
    stays, _ = hook("redis", "StatefulSet/redis", "sentinel")
    [seconds] = re.findall(r"sleep (\d+)", stays)
    assert int(tries) * int(pause) < int(seconds) < grace


def test_pgbouncer_ends_transactions_before_it_is_ended_itself() -> None:
    command, grace = hook("pgbouncer", "Deployment/pgbouncer", "pgbouncer")
    before, signal, after = command.partition("kill -INT 1")
    assert signal
    [longest] = re.findall(
        r"^idle_transaction_timeout = (\d+)", (ROOT / "infra/pgbouncer/pgbouncer.ini").read_text(), re.MULTILINE
    )
    [lead], [rest] = re.findall(r"sleep (\d+)", before), re.findall(r"sleep (\d+)", after)
    assert int(longest) < int(rest)
    assert int(lead) + int(rest) < grace


# --- secrets ---


def external_secret() -> Object:
    return named(rendered("external-secrets"), "ExternalSecret/enterprise-agents")


def test_the_external_secret_has_every_key_that_a_manifest_asks_for_and_no_other() -> None:
    documents = [*base(), *(document for folder in WHOLE for document in rendered(folder))]
    asked = [key for workload in workloads(documents) for key in secret_keys(pod_template(workload) or {})]
    assert {secret for secret, _, _ in asked} == {SECRET}
    # A development token's secret is never one of production's.
    needed = {key for _, key, _ in asked} - {"DEV_JWT_SECRET"}
    target = external_secret()["spec"]["target"]
    assert target["name"] == SECRET
    assert set(target["template"]["data"]) == needed
    assert EVERY_SECRET[SECRET] - {"DEV_JWT_SECRET"} == needed


def test_what_the_external_secret_puts_together_is_what_the_settings_and_the_services_expect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    password = re.compile(r'\{\{ index \. "([a-z0-9-]+)"( \| urlquery)? \}\}')
    data = {
        name: password.sub("made-up", text)
        for name, text in external_secret()["spec"]["target"]["template"]["data"].items()
    }
    assert not any("{{" in text for text in data.values())
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, text in data.items():
        monkeypatch.setenv(name, text)
    Settings()
    services = {**of_kind(rendered("production"), "Service"), **of_kind(rendered("postgres"), "Service")}
    for name in ("DATABASE_URL", "RELAY_DATABASE_URL", "MIGRATION_DATABASE_URL"):
        url = urlsplit(data[name])
        assert url.hostname is not None
        assert url.port in ports(services[url.hostname]), name
    # Each sentinel by its own name: the addresses of one name would share the time that the client has for one sentinel.
    redis = of_kind(rendered("production"), "StatefulSet")["redis"]["spec"]
    assert 26379 in ports(services[redis["serviceName"]])
    assert list(watched(data["REDIS_URL"]).sentinels) == [
        (f"redis-{number}.{redis['serviceName']}", 26379) for number in range(redis["replicas"])
    ]
    # What holds a session does not go through PgBouncer in transaction mode.
    assert (
        urlsplit(data["RELAY_DATABASE_URL"]).hostname == urlsplit(data["MIGRATION_DATABASE_URL"]).hostname == "postgres"
    )
    assert data["PGBOUNCER_USERLIST"] == f'"{urlsplit(data["DATABASE_URL"]).username}" "made-up"'


def test_no_object_holds_a_secret() -> None:
    for folder in FOLDERS:
        for document in rendered(folder):
            assert document["kind"] != "Secret"
            for container in containers(document):
                values = {v["name"]: v.get("value", "") for v in container.get("env", ())}
                assert not [name for name in values if re.search("PASSWORD|AUTH|_KEY$", name) and values[name]]
