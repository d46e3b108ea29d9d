"""The release before this one, taken from the repository's history."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("PREVIOUS")


class NoHistoryError(Exception):
    """This checkout has no history, or only the newest part of it."""


class UnknownReleaseError(Exception):
    """The history is there, and the recorded release is not in it."""


def recorded(record: Path = RECORD) -> str:
    """Return the tag or commit that is recorded as the previous release."""
    lines = record.read_text(encoding="utf-8").splitlines()
    [name] = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return name


def extract(folder: Path, name: str, repository: Path = ROOT) -> Path:
    """Write the files of a tag or commit into a folder and return it; raises NoHistoryError and UnknownReleaseError."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        raise NoHistoryError(f"{repository} is no git repository")
    if _git(repository, "cat-file", "-e", f"{name}^{{commit}}").returncode != 0:
        if _git(repository, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            raise NoHistoryError(f"this clone is shallow and does not hold {name}: git fetch --unshallow")
        raise UnknownReleaseError(
            f"{name}, which {RECORD.relative_to(ROOT)} records, is not in this repository's history"
        )
    archive = _git(repository, "archive", "--format=tar", name)
    archive.check_returncode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _git(repository: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(repository), *command], capture_output=True, check=False)  # noqa: S603, S607
