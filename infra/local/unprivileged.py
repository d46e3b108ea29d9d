"""The account a server runs under when the supervisor itself is root (PostgreSQL refuses to run as root)."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Account:
    """A system account by its numeric ids."""

    name: str
    uid: int
    gid: int


def is_root() -> bool:
    """Whether this process has root's rights."""
    return os.geteuid() == 0


def ensure_account(name: str) -> Account:
    """Return the system account `name`, creating it (no home, no login) when it does not exist; needs root.

    Raises OSError when the account neither exists nor can be created.
    """
    found = _lookup(name)
    if found is not None:
        return found
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise OSError(f"user {name!r} is needed to run a server as root, and there is no useradd to create it")
    done = subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
        capture_output=True,
        text=True,
        check=False,
    )
    # Another process may have created it in between, so existence decides, not the exit status.
    found = _lookup(name)
    if found is None:
        raise OSError(f"cannot create user {name!r}: {done.stderr.strip() or f'useradd exited {done.returncode}'}")
    return found


def allow_traversal(path: Path) -> None:
    """Let every account reach `path`: add search permission (o+x, nothing else) where a parent lacks it."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def allow_reading(tree: Path) -> None:
    """Let every account read (and run what its owner can run of) a tree of public files, as a wheel's."""
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            path.chmod(wanted)


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
