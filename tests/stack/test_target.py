"""Operators' commands work on the deployment that the variables name, or else on the local platform that runs."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.stack.platform import Platform

ROOT = Path(__file__).parents[2]
STORES = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "RELAY_DATABASE_URL", "REDIS_URL", "LITELLM_BASE_URL")


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in STORES}
    return subprocess.run(
        [sys.executable, "-m", "infra.target", *command],
        cwd=ROOT,
        env={**inherited, "LOCAL_STATE_DIR": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_variables_it_is_the_local_platform_with_all_of_its_own(platform: Platform) -> None:
    urls = platform.stack.connections
    wanted = {
        "DATABASE_URL": urls.database_url,
        "MIGRATION_DATABASE_URL": urls.migration_database_url,
        "REDIS_URL": urls.redis_url,
        "LITELLM_BASE_URL": urls.model_url,
        "EMBEDDING_DIMENSIONS": "384",
    }
    told = run(platform.stack.state.path, "printenv", *wanted)
    assert told.stdout.splitlines() == list(wanted.values())


def test_a_database_that_is_named_is_the_one(platform: Platform, tmp_path: Path) -> None:
    named = run(platform.stack.state.path, "printenv", "DATABASE_URL", DATABASE_URL="postgresql://app@db/named")
    assert named.stdout.strip() == "postgresql://app@db/named"
    assert run(tmp_path / "none", "printenv", "DATABASE_URL").stdout == ""


def test_a_command_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "none", "no-such-command")
    assert (done.returncode, done.stderr) == (1, "error: no-such-command: No such file or directory\n")


def test_psql_is_opened_without_the_password_in_its_arguments(platform: Platform) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.shell", "-At"],
        cwd=ROOT,
        env={**os.environ, "LOCAL_STATE_DIR": str(platform.stack.state.path)},
        input="SELECT slug FROM core.tenants WHERE slug = 'demo';\n\\! tr '\\0' ' ' < /proc/$PPID/cmdline\n",
        capture_output=True,
        text=True,
        check=False,
    )
    slug, _, arguments = done.stdout.partition("\n")
    assert slug == "demo", done.stderr
    assert "psql -At" in arguments
    password = urlsplit(platform.stack.connections.migration_database_url).password
    assert password
    assert password not in arguments
