"""The lock of the image: of the same versions and files as the lock of everything, and all that the run time needs."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires

from packaging.markers import default_environment
from packaging.requirements import Requirement

from infra.local.assembly import ROOT

EXTRAS = ("telemetry", "jobs")
"""What the image has beside the dependencies of every function."""
BY_HAND = {"tokenizers"}
"""Distributions whose declared dependencies are left out; pyproject.toml says why."""


def pins(name: str) -> dict[str, tuple[str, set[str]]]:
    """Return version and hashes of each distribution of a lock file."""
    text = (ROOT / name).read_text()
    found = re.findall(r"^([a-z0-9-]+)==(\S+)[^\n]*\n((?:    --hash=\S+[^\n]*\n?)+)", text, re.MULTILINE)
    return {distribution: (version, set(re.findall(r"sha256:\w+", hashes))) for distribution, version, hashes in found}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """Yield those requirements that hold here."""
    for text in requirements:
        requirement = Requirement(text)
        environments = [{**default_environment(), "extra": extra} for extra in (extras or {""})]
        if requirement.marker is None or any(requirement.marker.evaluate(e) for e in environments):  # type: ignore[arg-type]
            yield requirement


def closure() -> set[str]:
    """Return everything that is installed for the image's requirements, by what the distributions here declare."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    waiting, seen = list(needed(direct)), set()
    while waiting:
        requirement = waiting.pop()
        key = (normal(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if key[0] not in BY_HAND:
            waiting += needed(requires(requirement.name) or [], frozenset(requirement.extras))
            waiting += needed(requires(requirement.name) or [])
    return {name for name, _ in seen}


def test_it_pins_what_the_whole_lock_pins() -> None:
    whole, image = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert len(image) > 50
    assert {name: whole.get(name) for name in image} == image


def test_it_has_all_that_the_run_time_needs_and_nothing_else() -> None:
    # What is there for another system or an older Python is in a lock for all of them.
    elsewhere = {"async-timeout", "tzdata"}
    assert set(pins("requirements-runtime.lock")) - elsewhere == closure() - elsewhere
