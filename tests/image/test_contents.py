"""What is in the image, and what is not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.assembly import ROOT
from tests.image import building
from tests.image.conftest import REPORT
from tests.image.container import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.image.building import Built

MB = 1_000_000
TOOLS = {
    "cc",
    "gcc",
    "g++",
    "clang",
    "ld",
    "as",
    "make",
    "cmake",
    "rustc",
    "cargo",
    "pip",
    "pip3",
    "curl",
    "wget",
    "git",
}
"""Compilers, installers and what fetches things."""

BYTECODE = """
import importlib.util, json, os, struct, sys, sysconfig
missing, stale, count = [], [], 0
for top in ("/app", "/opt/venv", sysconfig.get_path("stdlib")):
    for folder, _, names in os.walk(top):
        if folder.startswith("/usr/lib/python3/dist-packages"):
            continue
        for name in names:
            if not name.endswith(".py"):
                continue
            source = os.path.join(folder, name)
            count += 1
            try:
                with open(importlib.util.cache_from_source(source), "rb") as file:
                    magic, flags, time, size = struct.unpack("<4sIII", file.read(16))
            except FileNotFoundError:
                missing.append(source)
                continue
            told = os.stat(source)
            fresh = flags == 1 or (flags == 0 and (time, size) == (int(told.st_mtime), told.st_size))
            if magic != importlib.util.MAGIC_NUMBER or not fresh:
                stale.append(source)
print(json.dumps({"count": count, "missing": missing, "stale": stale}))
"""

IMPORTS = """
import importlib, json, pathlib, sys
failed = {}
for path in sorted(pathlib.Path("/app").rglob("*.py")):
    parts = path.relative_to("/app").with_suffix("").parts
    if parts[0] == "migrations":
        continue  # alembic loads those, each in its own way
    try:
        importlib.import_module(".".join(parts))
    except BaseException as error:
        failed["/".join(parts)] = repr(error)
print(json.dumps(failed))
"""

INSTALLED = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"].lower().replace("_", "-").replace(".", "-"): d.version for d in m.distributions()}))
"""

LANDLOCK = "from functions.ingestion.reading.sandbox import landlock_version; print(landlock_version())"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("looks")


@pytest.fixture
def python(built: Built, folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run a script by the image's Python in a container, and return what it printed."""
    name = request.node.name.replace("_", "-")[:60]
    containers: list[Container] = []

    def run(script: str, *, memory_bytes: int = 512 * 1024 * 1024) -> str:
        container = Container(
            f"{name}-{len(containers)}",
            built.root,
            ["python", "-c", script],
            config=built.config,
            environment={},
            folder=folder,
            memory_bytes=memory_bytes,
            cpus=2,
        )
        containers.append(container)
        container.start()
        status = container.wait(120)
        said = container.log_tail(100_000)
        assert status == 0, f"{status}: {said[-3000:]}"
        return said

    yield run
    for container in containers:
        container.stop()


def files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of each file below a root."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            yield f"/{path.relative_to(root)}", path.lstat()


def test_it_says_what_it_is(built: Built) -> None:
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in built.config["Labels"].items()}
    assert labels["revision"].removesuffix("-dirty") == revision.stdout.strip()
    assert (labels["version"], labels["source"], labels["licenses"]) == (building.TAG, building.SOURCE, "Apache-2.0")
    assert labels["title"] == "enterprise-agent-platform"


def test_its_user_is_a_number_that_is_not_roots(built: Built) -> None:
    user, group = built.config["User"].split(":")
    assert user.isdigit()
    assert group.isdigit()
    assert int(user) > 0
    assert int(group) > 0


def test_nothing_in_it_can_be_changed_by_its_user(built: Built) -> None:
    user, group = map(int, built.config["User"].split(":"))
    theirs = [
        path
        for path, status in files(built.root)
        if status.st_uid == user
        or status.st_gid == group
        or (status.st_mode & stat.S_IWOTH and stat.S_ISREG(status.st_mode))
    ]
    assert not theirs


def test_all_of_the_platform_can_be_read_by_its_user(built: Built) -> None:
    closed = [
        path for top in ("app", "opt") for path, status in files(built.root / top) if not status.st_mode & stat.S_IROTH
    ]
    assert not closed


def test_it_adds_no_file_that_raises_privileges(built: Built) -> None:
    raising = stat.S_ISUID | stat.S_ISGID

    def found(root: Path) -> set[str]:
        return {path for path, status in files(root) if stat.S_ISREG(status.st_mode) and status.st_mode & raising}

    assert found(built.base), "debootstrap's base has some, or this looks in the wrong place"
    assert found(built.root) <= found(built.base)


def test_it_has_no_compiler_and_nothing_that_installs_or_fetches(built: Built) -> None:
    found = dict(files(built.root))
    programs = {path for path, status in found.items() if status.st_mode & stat.S_IXUSR}
    assert "/opt/venv/bin/uvicorn" in programs, "this looks in the wrong place"
    assert not {path for path in programs if path.rpartition("/")[2] in TOOLS}
    assert not {path for path in found if "/pip/" in path or "/ensurepip/" in path}


def test_it_has_the_platform_and_neither_tests_nor_documents_nor_secrets(built: Built) -> None:
    top = {path.name for path in (built.root / "app").iterdir()}
    assert top == {"LICENSE", "functions", "infra", "knative", "migrations", "pyproject.toml", "shared", "sql"}
    sent = {
        *subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines(),
        *subprocess.run(
            ["git", "ls-files", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines(),
    }
    inside = {path.removeprefix("/") for path, _ in files(built.root / "app") if not path.endswith(".pyc")}
    assert not inside - sent, "what git does not know is none of the platform"
    for whole in ("functions/", "shared/", "migrations/", "sql/", "knative/base/"):
        assert {path for path in sent if path.startswith(whole)} <= inside


def test_every_module_has_bytecode_that_is_used(python: Any) -> None:
    found = json.loads(python(BYTECODE))
    assert found["count"] > 3000, "this looks in the wrong place"
    assert not found["missing"]
    assert not found["stale"]


def test_every_module_can_be_imported(python: Any) -> None:
    assert json.loads(python(IMPORTS).splitlines()[-1]) == {}


def test_the_process_of_a_document_can_shut_itself_in(python: Any) -> None:
    """Under the profile of system calls, Landlock is there wherever this machine's kernel has it."""
    from functions.ingestion.reading.sandbox import landlock_version

    assert int(python(LANDLOCK)) == landlock_version()


def test_a_container_is_ended_beyond_its_memory(built: Built, folder: Path) -> None:
    hungry = Container(
        "hungry",
        built.root,
        ["python", "-c", "b'.' * 400_000_000"],
        config=built.config,
        environment={},
        folder=folder,
        memory_bytes=200_000_000,
        cpus=1,
    )
    hungry.start()
    try:
        assert hungry.wait(60) == 137, hungry.log_tail()
    finally:
        hungry.stop()


def test_the_list_of_contents_is_what_is_inside(built: Built, python: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = built.sbom.read_text()
    assert text == (built.root / "opt/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    listed = {c["name"]: c["version"] for c in components if c.get("purl", "").startswith("pkg:pypi/")}
    assert listed == json.loads(python(INSTALLED))
    assert {"psycopg", "xberg", "alembic"} <= set(listed)
    assert all(c.get("licenses") for c in components if c["name"] in listed)
    debian = subprocess.run(
        ["dpkg-query", f"--admindir={built.root / 'var/lib/dpkg'}", "--show", "--showformat=${Package} ${Version}\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = {f"{c['name']} {c['version']}" for c in components if c.get("purl", "").startswith("pkg:deb/")}
    assert packages == set(debian.stdout.splitlines())


def test_its_size(built: Built) -> None:
    """Nothing of the build is left in it: the base, the packages and the platform are all there is."""

    def size(root: Path) -> int:
        return sum(status.st_size for _, status in files(root))

    base, whole = size(built.base), size(built.root)
    packages, own = size(built.root / "opt"), size(built.root / "app")
    REPORT.append(
        f"size: {whole / MB:.0f} MB, of which base {base / MB:.0f}, packages {packages / MB:.0f}, platform {own / MB:.1f}"
    )
    assert whole - base - packages - own < 1 * MB
