"""The operators' runbook holds what it says: its commands are run, or where they need a cluster, looked at."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from infra.local import ports
from tests.infrastructure.bundles import of_kind, secret_keys
from tests.manifests.references import pod_labels
from tests.manifests.rendering import containers, kubectl, pod_template, rendered, title
from tests.runbook.fences import NEEDS, ROOT, Fence, fences

TIMEOUT_SECONDS = 900
MAKE_TARGET = re.compile(r"\bmake (?:-s )?([a-z][a-z-]*)")
KUSTOMIZATION = re.compile(r"(?:kubectl kustomize|-k) (\S+)")
PATHS = re.compile(r"(?<![\w/.])((?:knative|infra|docs|migrations|sql|tests)/[\w./-]+)")
MODULE = re.compile(r'"python", "-m", "([\w.]+)"')
PROGRAMS = ("kubectl", "make")
OURS = "app.kubernetes.io/part-of=enterprise-agent-platform"
REACH = {
    "doctor": (OURS, "app.kubernetes.io/name=chat", "serving.knative.dev/service=doctor"),
    "seed": (OURS,),
}
"""The labels by which a pod reaches what it needs: the doctor all that chat reaches, the seed PostgreSQL."""
NAMESPACE = re.compile(r"--namespace[ =](\S+)")
VARIABLES = ("TOKEN", "URL", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "SHELL", "DIR", "COLLECTION")

# A terminal of its own goes on while the next commands run. `make dev` is waited for, as its last words say.
PROLOGUE = r"""
set -eE -o pipefail
trap 'echo "FAILED, near line $FENCE of the runbook: $BASH_COMMAND" >&2' ERR
terminals=()
trap 'for pid in "${terminals[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done; wait || true' EXIT
trap 'exit 143' TERM
terminal() {
  setsid bash -c "$1" > "terminal-$FENCE.log" 2>&1 < /dev/null &
  terminals+=($!)
  if [[ $1 == *"make dev"[[:space:]]* ]]; then
    until grep -q "The platform is ready" "terminal-$FENCE.log"; do
      kill -0 "${terminals[-1]}" || { cat "terminal-$FENCE.log" >&2; return 1; }
      sleep 0.2
    done
  else
    until [[ -s "terminal-$FENCE.log" ]]; do kill -0 "${terminals[-1]}" || return 1; sleep 0.1; done
  fi
}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository as a new operator has it, with what `make install` has installed, and compiled as after its first use."""
    folder = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    names = [name for name in listed.decode().split("\0") if name]
    compiled = [cache_from_source(name) for name in names if name.endswith(".py")]
    for name in (*names, *compiled):
        source, copy = ROOT / name, folder / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    # Installed already, however old the files of this copy are.
    os.utime(folder / "requirements.lock", (0, 0))
    return folder


@pytest.fixture
def offset() -> int:
    """So far the ports are moved, where nobody listens on any of them."""
    for offset in range(10_000, 20_000, 100):
        if all(ports.is_free(port + offset) for port in ports.DEFAULTS.values()):
            return offset
    pytest.fail("there is no room for all ports")


@pytest.fixture
def environment(offset: int, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A shell in which nothing is set, but where the ports are."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in VARIABLES and not name.startswith(("PORT_", "BACKUP_", "LOCAL_")) and "_URL" not in name
    }
    state = tmp_path / "state"
    yield {**inherited, "PORT_OFFSET": str(offset), "LOCAL_STATE_DIR": str(state), "SHELL": "/bin/sh"}
    assert not state.exists(), "the last command of the runbook deletes the state"


def script(blocks: list[Fence], offset: int) -> str:
    """Return the commands as one script, with the ports where they are."""
    parts = [PROLOGUE]
    for fence in blocks:
        commands = re.sub(r"(127\.0\.0\.1:)(\d+)", lambda m: f"{m[1]}{int(m[2]) + offset}", fence.commands)
        parts.append(f"FENCE={fence.line}")
        parts.append(f"terminal {shell_quoted(commands)}" if fence.needs == "terminal" else commands)
    return "\n".join([*parts, "echo THE END OF THE RUNBOOK\n"])


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.stack
def test_a_new_operator_meets_no_command_that_fails(checkout: Path, environment: dict[str, str], offset: int) -> None:
    for program in ("make", "curl", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    blocks = [fence for fence in fences() if fence.needs in (None, "terminal")]
    assert len(blocks) > 15
    log = checkout / "operator.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["bash", "-c", script(blocks, offset)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as shell,
    ):
        try:
            shell.wait(TIMEOUT_SECONDS)
        except BaseException:
            os.killpg(shell.pid, signal.SIGTERM)
            raise
        finally:
            told = log.read_text(errors="replace")
            sys.stdout.write(told[-8000:])
    assert shell.returncode == 0
    assert told.rstrip().endswith("THE END OF THE RUNBOOK")
    # What the commands are there for, not only that they end well.
    assert "PASS: an answer is streamed" in told
    assert "FAIL" not in told
    assert "0 failures, 0 warnings" in told
    assert re.search(r"Restored: \d+ tables, revision \w+", told)
    assert ports.is_free(ports.DEFAULTS["chat"] + offset)


@pytest.mark.parametrize("fence", fences(), ids=lambda fence: f"line {fence.line}")
def test_every_block_of_commands_is_shell_and_says_what_it_needs(fence: Fence) -> None:
    assert fence.needs in NEEDS
    done = subprocess.run(["bash", "-n", "-c", fence.commands], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("fence", fences(), ids=lambda fence: f"line {fence.line}")
def test_what_commands_name_exists(fence: Fence) -> None:
    assert set(MAKE_TARGET.findall(fence.commands)) <= targets()
    assert set(NAMESPACE.findall(fence.commands)) <= {"enterprise-agents", "knative-serving", "knative-eventing"}
    made = {"migrations/versions/900_notes", "migrations/versions/900_notes.py"}
    assert [path for path in PATHS.findall(fence.commands) if path not in made and not (ROOT / path).exists()] == []
    for module in MODULE.findall(fence.commands):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize(
    "folder", sorted({path for fence in fences() for path in KUSTOMIZATION.findall(fence.commands)})
)
def test_what_is_applied_can_be_rendered(folder: str) -> None:
    assert (ROOT / folder / "kustomization.yaml").is_file()
    done = subprocess.run([kubectl(), "kustomize", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kind: Service" in done.stdout


def test_what_undoes_a_release_does_not_put_it_back() -> None:
    """Whoever copies a block has all of it run."""
    undone = [fence.commands.partition("db-rollback")[2] for fence in fences() if "db-rollback" in fence.commands]
    assert len(undone) > 1
    assert not [rest for rest in undone if re.search(r"\bmake migrate\b", rest)]


def test_each_region_is_a_cluster_of_its_own() -> None:
    regions = {path.parent.name for path in (ROOT / "knative" / "overlays").glob("*/region.yaml")}
    applied = [
        call
        for fence in fences()
        if any(f"overlays/{region}" in fence.commands for region in regions)
        for call in called(fence.commands, "kubectl")
        if "apply" in call
    ]
    assert sorted(applied) == [
        ["--context", region, "apply", "-k", f"knative/overlays/{region}"] for region in sorted(regions)
    ]


def test_an_overlay_is_applied_only_before_the_first_release() -> None:
    """Afterwards Knative refuses it."""
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    emergency = text.partition("## 15. Emergency restore\n")[2].partition("\n## 16.")[0]
    cluster = [fence.commands for fence in fences() if fence.needs == "cluster" and fence.commands in emergency]
    assert "domainmappings" in cluster[0]
    assert [call for call in called(cluster[-1], "make") if call[0] == "release"] == [
        ["release", "VERSION=1.1.0", "OVERLAY=prod", "CANARY=100"]
    ]


def called(commands: str, program: str) -> list[list[str]]:
    """Return the arguments of each call of a program, as the shell makes them; no command is run."""
    stubs = "\n".join(f"{name}() {{ printf '%s\\0' {name} \"$@\" >&3; printf '\\1' >&3; }}" for name in PROGRAMS)
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-euc", f"exec 3>&1 >/dev/null\n{stubs}\n{commands}"],
        env={"TOKEN": "token", "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    calls = [call.split("\0")[:-1] for call in done.stdout.split("\1")[:-1]]
    return [call[1:] for call in calls if call[0] == program]


@pytest.mark.parametrize("fence", [f for f in fences() if "--overrides" in f.commands], ids=lambda f: f"line {f.line}")
def test_a_pod_of_its_own_has_the_deployments_variables(fence: Fence) -> None:
    [run] = [arguments for arguments in called(fence.commands, "kubectl") if arguments[0] == "run"]
    [overrides] = [json.loads(a.removeprefix("--overrides=")) for a in run if a.startswith("--overrides=")]
    [container] = overrides["spec"]["containers"]
    assert (container["name"], f"--image={container['image']}") == (run[1], next(a for a in run if "--image" in a))
    assert container["command"][:2] == ["python", "-m"]
    # By its account it pulls from a registry that asks for a login.
    assert overrides["spec"]["serviceAccountName"] in of_kind(rendered("base"), "ServiceAccount")
    # A NetworkPolicy lets pods of these labels out, and no others.
    [labels] = [a.removeprefix("--labels=").split(",") for a in run if a.startswith("--labels=")]
    assert set(REACH[run[1]]) == set(labels)
    assert container["envFrom"] == [
        {"configMapRef": {"name": "enterprise-agents"}},
        {"secretRef": {"name": "enterprise-agents"}},
    ]


def test_a_changed_secret_reaches_every_workload_that_stays() -> None:
    commands = "".join(f.commands for f in fences() if f.needs == "cluster" and "rollout restart" in f.commands)
    commands += "".join(f.commands for f in fences() if "rollout status" in f.commands)
    ended = [labels.partition("=") for labels in re.findall(r"delete pods .*--selector (\S+)", commands)]
    restarted = set(re.findall(r"deployment/(\S+)", commands))
    missed = []
    for workload in rendered("prod"):
        template = pod_template(workload)
        if template is None or workload["kind"] in {"Job", "JobSink"}:
            continue
        labels = pod_labels(workload)
        whole = [{"configMapRef": {"name": "enterprise-agents"}}, {"secretRef": {"name": "enterprise-agents"}}]
        taken = [source for container in containers(workload) for source in container.get("envFrom", ())]
        read = any(source in whole for source in taken) or any(True for _ in secret_keys(template))
        if read and not (
            workload["metadata"]["name"] in restarted
            or any(labels.get(key) == value if equals else key in labels for key, equals, value in ended)
        ):
            missed.append(title(workload))
    assert ended
    assert missed == []


def test_the_secret_is_made_as_it_is_written(tmp_path: Path) -> None:
    """By kubectl itself, which asks no server for it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    path = f"{Path(kubectl()).parent}:{os.environ['PATH']}"
    [commands] = [fence.commands for fence in fences() if "create secret" in fence.commands]
    draw, create, _ = commands.strip().split("\n", 2)
    script = f"{draw}\n{create} --dry-run=client --output=json"
    (tmp_path / "secrets.env").write_text("DATABASE_URL=postgresql://app:word@pgbouncer:6432/enterprise_agents\n")
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "KUBECONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    secret = json.loads(done.stdout)
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == ("enterprise-agents", "enterprise-agents")
    assert set(secret["data"]) == {"SECRET_KEY", "LITELLM_API_KEY", "DATABASE_URL"}
    assert len(base64.b64decode(secret["data"]["SECRET_KEY"])) == 64


def test_every_make_target_of_operations_is_in_the_runbook() -> None:
    """Those of the contract with operators."""
    wanted = {
        "dev", "dev-status", "dev-stop", "dev-reset", "dev-logs", "dev-logs-api", "dev-shell", "migrate", "migrate-create",
        "seed", "db-shell", "db-health", "db-maintenance", "db-backup", "db-restore", "db-rollback", "doctor", "smoke",
    }  # fmt: skip
    assert wanted <= targets()
    assert wanted <= set(MAKE_TARGET.findall("\n".join(fence.commands for fence in fences())))
