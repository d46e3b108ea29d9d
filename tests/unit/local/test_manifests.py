from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.assembly import MANIFESTS
from infra.local.manifests import Delivery, Destination, ManifestError, load
from infra.local.ports import DEFAULTS
from infra.local.ports import JOB_SINK as JOB_SINK_PART
from tests.unit.local.conftest import BROKER, JOB, JOB_SINK, PING, SERVICE, SOURCE, TO_JOB_SINK, TRIGGER

Kustomization = Callable[..., Path]


def test_service_is_read_with_its_limits(kustomization: Kustomization) -> None:
    service = load(kustomization(SERVICE)).services["worker"]
    assert (service.cluster_local, service.concurrency, service.timeout_seconds) == (True, 2, 7.0)
    assert service.container.command == ("python", "-m", "shared.serving")
    assert service.literal("FUNCTION_TARGET") == "work"
    assert service.literal("DATABASE_URL") is None


def test_variables_come_from_literals_config_and_secret_keys(kustomization: Kustomization) -> None:
    container = load(kustomization(SERVICE)).services["worker"].container
    environment = container.environment({"PLACE": "eu", "DEBUG": "1"}, {"WORKER_URL": "db", "OTHER": "hidden"})
    assert environment == {
        "PLACE": "eu",
        "DEBUG": "1",
        "FUNCTION_TARGET": "work",
        "DATABASE_URL": "db",
        "REGION": "eu",
    }


def test_a_required_key_without_a_value_is_named(kustomization: Kustomization) -> None:
    container = load(kustomization(SERVICE)).services["worker"].container
    with pytest.raises(ManifestError, match=r"DATABASE_URL.*WORKER_URL"):
        container.environment({"PLACE": "eu"}, {})


def test_trigger_is_read_with_filter_and_delivery(kustomization: Kustomization) -> None:
    (trigger,) = load(kustomization(TRIGGER, SERVICE)).triggers
    assert trigger.attributes == {"type": "work.wanted.v1"}
    assert trigger.subscriber == Destination(service="worker")
    assert trigger.delivery == Delivery(retry=4, exponential=False, backoff=0.01, timeout=8.0)


def test_a_trigger_without_delivery_has_the_brokers(kustomization: Kustomization) -> None:
    document = "\n".join(line for line in TRIGGER.splitlines() if "delivery" not in line)
    (trigger,) = load(kustomization(document, SERVICE, BROKER)).triggers
    assert trigger.delivery == Delivery(retry=2, exponential=True, backoff=3.0)


def test_a_dead_letter_sink_is_a_destination(kustomization: Kustomization) -> None:
    document = TRIGGER.replace("retry: 4", "retry: 4, deadLetterSink: {uri: 'http://letters/'}")
    (trigger,) = load(kustomization(document, SERVICE)).triggers
    assert trigger.delivery.dead_letter == Destination(uri="http://letters/")


def test_the_brokers_dead_letter_sink_may_be_a_service_that_comes_later(kustomization: Kustomization) -> None:
    trigger = "\n".join(line for line in TRIGGER.splitlines() if "delivery" not in line)
    sink = "deadLetterSink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: worker}}"
    broker = BROKER.replace("retry: 2", f"retry: 2, {sink}")
    (read,) = load(kustomization(broker, trigger, SERVICE)).triggers
    assert read.delivery.dead_letter == Destination(service="worker")
    with pytest.raises(ManifestError, match="there is no Service 'nobody'"):
        load(kustomization(broker.replace("name: worker", "name: nobody"), trigger, SERVICE))


def test_the_job_that_migrates_is_read(kustomization: Kustomization) -> None:
    assert load(kustomization(SERVICE)).migration is None
    migration = load(kustomization(JOB)).migration
    assert migration is not None
    assert migration.command == ("python", "-m", "alembic", "upgrade", "head")


def test_ping_source_has_schedule_data_and_knatives_source(kustomization: Kustomization) -> None:
    (ping,) = load(kustomization(PING, SERVICE)).pings
    assert ping.schedule.minutes == frozenset(range(0, 60, 5))
    assert (ping.data, ping.sink) == ('{"a": 1}', Destination(service="worker", uri="/tick"))
    assert ping.source == "/apis/v1/namespaces/here/pingsources/tick"


def test_container_source_has_command_sink_and_extensions(kustomization: Kustomization) -> None:
    (source,) = load(kustomization(SOURCE)).sources
    assert source.container.command == ("python", "-m", "functions.relay.main")
    assert (source.sink, source.extensions) == (Destination(broker="default"), {"region": "here"})


def test_job_sink_is_read_with_its_limits(kustomization: Kustomization) -> None:
    sink = load(kustomization(JOB_SINK)).job_sinks["long-work"]
    assert (sink.backoff_limit, sink.deadline, sink.kept) == (2, 60.0, None)
    assert sink.container.command == ("python", "-m", "work.job")
    assert sink.container.environment({"REGION": "eu"}, {"WORKER_URL": "db"}) == {"REGION": "eu", "DATABASE_URL": "db"}


def test_a_job_sink_that_names_no_limits_has_those_of_kubernetes(kustomization: Kustomization) -> None:
    document = JOB_SINK.replace("backoffLimit: 2", "ttlSecondsAfterFinished: 5").replace(
        "activeDeadlineSeconds: 60", ""
    )
    sink = load(kustomization(document)).job_sinks["long-work"]
    assert (sink.backoff_limit, sink.deadline, sink.kept) == (6, None, 5.0)


def test_a_trigger_may_lead_to_a_job_sink(kustomization: Kustomization) -> None:
    (trigger,) = load(kustomization(TO_JOB_SINK, JOB_SINK)).triggers
    assert trigger.subscriber == Destination(job_sink="long-work")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (TO_JOB_SINK, "there is no JobSink 'long-work'"),
        (JOB_SINK.replace("Never", "OnFailure"), "restartPolicy: the local stack knows Never"),
        (JOB_SINK.replace("backoffLimit: 2", "parallelism: 2"), "parallelism: the local stack cannot"),
        (JOB_SINK.replace("backoffLimit: 2", "suspend: true"), "suspend: the local stack cannot"),
        (JOB_SINK.replace("command: [python, -m, work.job]", "args: []"), "command is missing"),
        (TRIGGER.replace("name: worker", "name: nobody"), "there is no Service 'nobody'"),
        (TRIGGER.replace("kind: Service", "kind: Deployment"), "not to Deployment"),
        (TRIGGER.replace("  filter:", "  filters: [{exact: {type: a}}]\n  filter:"), "filters: the local stack cannot"),
        (TRIGGER.replace("PT8S", "8s"), "timeout: not an ISO 8601 duration"),
        (TRIGGER.replace("linear", "random"), "backoffPolicy"),
        (TRIGGER.replace("retry: 4", "retry: many"), "retry: a whole number"),
        (TRIGGER.replace("{ref: ", "{uri: /relative, other: "), "absolute uri"),
        (PING.replace("*/5 * * * *", "@every 5s"), "schedule: a schedule has five fields"),
        (PING.replace("  data:", "  timezone: Europe/Berlin\n  data:"), "timezone: the local stack cannot"),
        (SOURCE.replace("          command: [python, -m, functions.relay.main]\n", ""), "command is missing"),
        (
            SERVICE.replace("- image: platform", "- image: a\n          command: [b]\n        - image: c"),
            "one container",
        ),
        (SERVICE.replace("configMapRef", "secretRef"), "secretRef: the local stack cannot"),
        (SERVICE, "a second Service worker"),
        (f"{JOB}---{JOB}", "one Job, the migration"),
        (JOB.replace("batch/v1", "example.com/v1"), "does not know example.com/Job"),
        ("apiVersion: v1\nkind: Service\n", "does not know /Service"),
        ("apiVersion: flows.knative.dev/v1\nkind: Sequence\n", "does not know flows.knative.dev/Sequence"),
        ("kind: Sequence\n", "apiVersion is missing"),
        ("a: [", "expected"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(kustomization: Kustomization, document: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        load(kustomization(SERVICE, document))


@pytest.mark.parametrize(
    "kind",
    [
        "v1 ConfigMap",
        "v1 Namespace",
        "v1 ServiceAccount",
        "eventing.knative.dev/v1alpha1 EventPolicy",
        "networking.k8s.io/v1 NetworkPolicy",
        "policy/v1 PodDisruptionBudget",
        "serving.knative.dev/v1beta1 DomainMapping",
    ],
)
def test_what_means_nothing_on_a_laptop_is_left_out(kustomization: Kustomization, kind: str) -> None:
    version, _, name = kind.partition(" ")
    assert load(kustomization(SERVICE, f"apiVersion: {version}\nkind: {name}\n")) == load(kustomization(SERVICE))
    with pytest.raises(ManifestError, match=f"does not know example.com/{name}"):
        load(kustomization(SERVICE, f"apiVersion: example.com/v1\nkind: {name}\n"))


def test_a_kustomization_that_changes_its_resources_is_refused(kustomization: Kustomization) -> None:
    with pytest.raises(ManifestError, match="patches: the local stack cannot"):
        load(kustomization(SERVICE, extra="patches: [{path: other.yaml}]"))


def test_a_folder_without_kustomization_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"kustomization\.yaml is missing"):
        load(tmp_path)


def test_the_platforms_own_manifests_can_be_run_here() -> None:
    manifests = load(MANIFESTS)
    assert {*manifests.services, JOB_SINK_PART} <= set(DEFAULTS)
    assert list(manifests.job_sinks) == ["ingestion-job"]
    assert manifests.triggers
    assert [source.name for source in manifests.sources] == ["relay"]
