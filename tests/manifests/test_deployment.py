"""docs/deployment.md: what needs no cluster is run, and what needs one names folders, labels and Secrets that exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.assembly import ROOT
from tests.manifests.conftest import SECRETS
from tests.manifests.references import selects
from tests.manifests.rendering import FOLDERS, group, kubectl, named, pod_template, rendered

TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
BLOCKS = [re.sub(r"^ +", "", block, flags=re.MULTILINE) for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)]
HERE, CLUSTER = "# run by tests/manifests/test_deployment.py\n", "# needs a cluster\n"
COMMANDS = [
    shlex.split(line)
    for block in BLOCKS
    if block.startswith(CLUSTER)
    for line in block.removeprefix(CLUSTER).replace("\\\n", " ").splitlines()
]


def option(command: list[str], name: str) -> str | None:
    return command[command.index(name) + 1] if name in command else None


def labels(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split(","))


def test_each_command_says_whether_it_needs_a_cluster() -> None:
    assert len(BLOCKS) > 5
    assert [block for block in BLOCKS if not block.startswith((HERE, CLUSTER))] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith(HERE)])
def test_what_needs_no_cluster_is_run(block: str) -> None:
    path = os.pathsep.join((str(Path(kubectl()).parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-euc", block], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kind: Service" in done.stdout


def test_what_is_applied_exists_and_is_everything_that_a_step_needs() -> None:
    applied = [command for command in COMMANDS if command[:2] == ["kubectl", "apply"]]
    kinds: list[set[str]] = []
    for command in applied:
        folder = ROOT / (option(command, "-k") or "")
        if folder.is_relative_to(ROOT / "infra" / "kubernetes"):
            # tests/infrastructure looks into it.
            assert (folder / "kustomization.yaml").is_file()
            continue
        [name] = [name for name, place in FOLDERS.items() if place == folder]
        chosen = labels(option(command, "-l") or "") if option(command, "-l") else {}
        kinds.append(
            {
                document["kind"]
                for document in rendered(name)
                if selects({"matchLabels": chosen}, document["metadata"].get("labels", {}))
            }
        )
    assert kinds[:2] == [{"Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy"}, {"Job"}]
    assert {"Service", "DomainMapping"} <= kinds[2]


def test_the_migration_is_waited_for_by_a_label_that_its_pods_and_the_job_have() -> None:
    [job] = [document for document in rendered("prod") if document["kind"] == "Job"]
    template = pod_template(job)
    assert template is not None
    waited = [option(c, "-l") for c in COMMANDS if c[1] in {"wait", "logs"} and "-l" in c]
    assert waited
    for text in waited:
        for found in (job["metadata"]["labels"], template["metadata"]["labels"]):
            assert selects({"matchLabels": labels(text or "")}, found)


def test_the_secrets_that_are_made_are_those_that_the_manifests_name() -> None:
    made = {command[4]: command for command in COMMANDS if command[1:3] == ["create", "secret"]}
    login = made.pop("registry")
    assert login[3] == "docker-registry"
    assert set(made) == set(SECRETS)
    keys = set(re.findall(r"--from-literal=(\w+)=", " ".join(made["enterprise-agents"])))
    optional = {"DEV_JWT_SECRET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"}
    assert keys == SECRETS["enterprise-agents"] - optional


def test_the_hosts_that_are_asked_exist() -> None:
    hosts = {document["metadata"]["name"] for document in rendered("eu-west-1") if document["kind"] == "DomainMapping"}
    asked = {
        re.sub(r"https?://([^/]+).*", r"\1", word) for c in COMMANDS if c[0] == "curl" for word in c if "://" in word
    }
    assert asked
    assert asked <= hosts


def test_the_containers_whose_logs_are_shown_are_called_so() -> None:
    templates = [pod_template(document) for folder in FOLDERS for document in rendered(folder)]
    there = {container["name"] for template in templates if template for container in template["spec"]["containers"]}
    shown = {
        name
        for path in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"kubectl (?:logs|exec)\b[^`\n]*? (?:-c|--container)[ =](\S+)", path.read_text())
    }
    assert shown
    assert shown <= there


def test_the_cluster_is_asked_beforehand_for_every_kind_that_production_is_made_of() -> None:
    [line] = re.findall(r"^kubectl get crd ((?:.*\\\n)*.*)$", RUNBOOK, re.MULTILINE)
    kinds = {
        f"{re.sub('y$', 'ie', document['kind'].lower())}s.{group(document)}"
        for document in rendered("prod")
        if "." in group(document) and not group(document).endswith(".k8s.io")
    }
    assert set(line.replace("\\\n", " ").split()) == kinds
    broker = next(document for document in rendered("prod") if document["kind"] == "Broker")["spec"]["config"]
    assert f"kubectl get configmap/{broker['name']} --namespace {broker['namespace']}" in RUNBOOK


def test_the_runbook_tells_how_many_turns_the_pods_of_each_tier_take() -> None:
    places = []
    for tier in ("light", "standard", "heavy"):
        template = named(rendered("prod"), f"Service/inference-{tier}")["spec"]["template"]
        pods = int(template["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"])
        places.append(str(pods * template["spec"]["containerConcurrency"]))
    assert "light, standard and heavy take up to {}, {} and {} ".format(*places) in RUNBOOK


@pytest.mark.parametrize("document", ["runbook.md", "deployment.md"])
def test_whatever_the_functions_wait_for_is_waited_for_before_them(document: str) -> None:
    """A function that finds no Redis is not ready, and does not say that its pods have no volume."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    before, _, _ = text.partition("wait --for=condition=Ready ksvc")
    assert "wait --for=condition=Available deployment --all" in before
    for part in (part for part in rendered("prod") if part["kind"] == "StatefulSet"):
        assert f"rollout status statefulset/{part['metadata']['name']} " in before
