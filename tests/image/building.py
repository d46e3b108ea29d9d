"""The image, built here: on a base of Debian's own packages, from wheels fetched beforehand, without a network.

Nothing of a registry is needed. What buildah keeps is in a folder of the run's own, and goes with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.assembly import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAMS = ("debootstrap", "buildah", "runc", "unshare", "make")
BASE, BUILDER = "localhost/platform-base:test", "localhost/platform-builder:test"
IMAGE, TAG = "localhost/platform", "0.0.0-test"
SOURCE = "https://code.example.com/enterprise-agent-platform"
MIRROR = ("http://deb.debian.org/debian", "bookworm")
"""Where this machine's apt does not say another."""


def missing() -> str:
    """Return what this machine lacks for these tests, empty when nothing."""
    if os.geteuid() != 0:
        return "the image is built and run as root (debootstrap, mounts, cgroups): run it as root, on Debian"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(lacking)} (apt-get install debootstrap buildah runc)" if lacking else ""


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; raises RuntimeError with the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{(done.stderr + done.stdout)[-4000:]}")
    return done.stdout


@dataclass(frozen=True)
class Built:
    """The image as it lies on this disk."""

    root: Path
    """Its file system, to be read only."""
    base: Path
    """The file system of its base."""
    config: Mapping[str, Any]
    """Its configuration (OCI image specification): User, Env, Cmd, Labels, ..."""
    sbom: Path
    """The list of its contents that the build has written beside it."""


class Workshop:
    """Buildah with its storage in a folder, which `close` empties."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        configuration = folder / "storage.conf"
        lines = [
            f'graphroot = "{folder / "storage"}"',
            f'runroot = "{folder / "run"}"',
            f'driver = "{os.environ.get("STORAGE_DRIVER", "overlay")}"',
        ]
        configuration.write_text("\n".join(["[storage]", *lines, ""]))
        # Isolation by chroot needs least of the machine; what is built is the same.
        self._environ = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(configuration),
            "BUILDAH_ISOLATION": "chroot",
            "ENGINE": "buildah",
        }

    def build(self) -> Built:
        """Build base and image."""
        self._make_base()
        sbom = self._folder / "sbom.cdx.json"
        variables = {
            "IMAGE": IMAGE,
            "TAG": TAG,
            "BASE": BASE,
            "BUILDER": BUILDER,
            "SOURCE": SOURCE,
            "WHEELS": str(self._wheels()),
            "SBOM": str(sbom),
        }
        # In a network namespace without any interface but an idle loopback.
        run(["unshare", "--net", "make", "--silent", "image"], cwd=ROOT, env={**self._environ, **variables})
        name = f"{IMAGE}:{TAG}"
        inspected = json.loads(self._buildah("inspect", "--type", "image", name))
        return Built(self._mount(name), self._mount(BASE), inspected["OCIv1"]["config"], sbom)

    def close(self) -> None:
        """Unmount and delete everything."""
        self._buildah("umount", "--all")
        self._buildah("rm", "--all")
        self._buildah("rmi", "--all", "--force")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_base(self) -> None:
        mirror, release = _mirror()
        container = self._buildah("from", "scratch").strip()
        root = Path(self._buildah("mount", container).strip())
        run(["debootstrap", "--variant=minbase", "--include=python3", release, str(root), mirror])
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        self._buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        self._buildah("commit", "--quiet", container, BASE)
        # Debian's Python has pip in a package that brings half a compiler along: the pip of these tests is lent to it.
        spec = importlib.util.find_spec("pip")
        assert spec is not None
        assert spec.origin is not None
        container = self._buildah("from", BASE).strip()
        self._buildah("copy", "--quiet", container, str(Path(spec.origin).parent), "/usr/lib/python3/dist-packages/pip")
        self._buildah("commit", "--quiet", container, BUILDER)

    def _wheels(self) -> Path:
        """Return a folder with the wheels of the lock for the Python of the base."""
        folder = self._folder / "wheels"
        with_base = self._mount(BASE)
        version = (with_base / "usr/bin/python3").readlink().name.removeprefix("python")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", f"--python-version={version}", "--require-hashes", f"--dest={folder}"]
        # Conditions are left out: this pip would judge them by its own Python, and what is too much is not installed.
        lock = self._folder / "requirements.txt"
        lock.write_text(re.sub(r" ; [^\\\n]*", " ", (ROOT / "requirements-runtime.lock").read_text()))
        run([*command, f"--requirement={lock}"])
        return folder

    def _mount(self, image: str) -> Path:
        container = self._buildah("from", "--pull-never", image).strip()
        return Path(self._buildah("mount", container).strip())

    def _buildah(self, *arguments: str) -> str:
        return run(["buildah", *arguments], env=self._environ)


def _mirror() -> tuple[str, str]:
    """Return the mirror and the release that this machine's apt uses for Debian itself."""
    if shutil.which("apt-get") is not None:
        listed = run(["apt-get", "indextargets", "--format", "$(LABEL) $(SITE) $(CODENAME) $(COMPONENT)"])
        for line in sorted(set(listed.splitlines())):
            label, *rest = line.split(" ")
            if label == "Debian" and len(rest) == 3 and rest[2] == "main" and "-" not in rest[1]:
                return rest[0], rest[1]
    return MIRROR
