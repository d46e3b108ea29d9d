"""Builds the image (`make image`): `python -m infra.image`, with whichever of docker, podman and buildah is there.

Variables: IMAGE and TAG name the image, BASE what it stands on, BUILDER the same with pip where BASE has none, WHEELS a folder
of wheels instead of the package index, PIP_CONF a pip.conf with an index of one's own, SOURCE the address of the code, ENGINE
the program, SBOM where the list of the contents goes. Only the standard library is used: nothing is installed beforehand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = "infra/image/Containerfile"
NAME = "enterprise-agent-platform"
SBOM = "sbom.cdx.json"
ENGINES = {"docker": ("docker", "info"), "podman": ("podman", "info"), "buildah": ("buildah", "info")}
"""What each is asked to show that it can build: docker's client is often there without its engine."""


class ImageError(RuntimeError):
    """The image cannot be built; the message says what is missing."""


def engine(environ: Mapping[str, str]) -> str:
    """Return the program that builds: ENGINE, or the first of ENGINES that answers. Raises ImageError."""
    if chosen := environ.get("ENGINE"):
        return chosen
    for name, question in ENGINES.items():
        if shutil.which(name) and subprocess.run(question, capture_output=True, check=False).returncode == 0:
            return name
    raise ImageError(f"none of {', '.join(ENGINES)} is installed and can build here (set ENGINE=... to name one)")


def version() -> str:
    """Return the platform's version."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def revision() -> str:
    """Return the commit that is built, `-dirty` with changes on top, `unknown` without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def name(environ: Mapping[str, str]) -> str:
    """Return what the image is called: IMAGE and TAG, by default the manifests' name and the platform's version."""
    return f"{environ.get('IMAGE') or NAME}:{environ.get('TAG') or version()}"


def command(program: str, environ: Mapping[str, str]) -> list[str]:
    """Return how the engine is called, up to the target and the folder."""
    arguments = {"VERSION": environ.get("TAG") or version(), "REVISION": revision()}
    arguments |= {key: environ[key] for key in ("BASE", "BUILDER", "SOURCE") if environ.get(key)}
    options = [f"--file={CONTAINERFILE}", *(f"--build-arg={key}={value}" for key, value in arguments.items())]
    if wheels := environ.get("WHEELS"):
        options.append(f"--build-context=wheels={Path(wheels).resolve()}")
    if configuration := environ.get("PIP_CONF"):
        options.append(f"--secret=id=pip,src={Path(configuration).resolve()}")
    # Buildah keeps no layers between builds unless it is asked to: the second target would build everything again.
    return [program, "build", *(["--layers"] if program == "buildah" else []), *options]


def build(environ: Mapping[str, str]) -> str:
    """Build the image, write its list of contents to SBOM if that is set, and return its name. Raises ImageError."""
    program = engine(environ)
    build_it = command(program, environ)
    _run([*build_it, f"--tag={name(environ)}", "."])
    if wanted := environ.get("SBOM"):
        with tempfile.TemporaryDirectory() as folder:
            _run([*build_it, "--target=sbom", f"--output=type=local,dest={folder}", "."])
            Path(wanted).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / SBOM, wanted)
    return name(environ)


def _run(arguments: Sequence[str]) -> None:
    done = subprocess.run(arguments, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise ImageError(f"{arguments[0]} failed ({done.returncode})")


def main() -> int:
    """Build what the environment describes."""
    try:
        built = build(os.environ)
    except ImageError as error:
        sys.stderr.write(f"No image was built: {error}\n")
        return 1
    sys.stdout.write(f"{built}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
