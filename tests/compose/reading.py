"""Compose files as `docker compose config` renders them, as far as these files go: merges, `include`, variables.

The Compose specification has more; what is used beyond this is an error here, never ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from dotenv import dotenv_values

from infra.local.assembly import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = ROOT / "infra" / "compose"
PRODUCTION = FOLDER / "docker-compose.yml"
DEVELOPMENT = FOLDER / "docker-compose.dev.yml"
OVERRIDES = FOLDER / "development.yml"

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REPLACED = frozenset({"command", "test"})
"""Lists that an override replaces; others are joined."""

Document = dict[str, Any]


class Reset:
    """The value of `!reset`: what was said before is taken back."""


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own tag, and without YAML 1.1's numbers to the base of sixty (ports such as 22:22)."""


_Loader.add_constructor("!reset", lambda _, __: Reset())


class UnsetError(ValueError):
    """A variable is not set that must be; the message names it and says what it is."""


def parse(path: Path) -> Document:
    """Return a file as it stands, without its `x-` parts, which are there to be referred to."""
    document = yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    return {name: value for name, value in document.items() if not name.startswith("x-")}


def render(path: Path, environ: Mapping[str, str]) -> Document:
    """Return a file with what it includes, and variables replaced; raises UnsetError."""
    document = parse(path)
    for included in document.pop("include", []):
        defaults = {k: v for k, v in dotenv_values(path.parent / included["env_file"], interpolate=False).items() if v}
        told: Document = {}
        for name in included["path"]:
            told = merged(told, parse(path.parent / name))
        document = merged(interpolated(told, {**defaults, **environ}), document)
    return dict(interpolated(document, environ))


def merged(below: Any, above: Any, key: str = "") -> Any:
    """Return one value with another on top of it, as Compose merges files."""
    if isinstance(below, dict) and isinstance(above, dict):
        both = {name: merged(below.get(name), value, name) for name, value in above.items()}
        return {name: value for name, value in {**below, **both}.items() if not isinstance(value, Reset)}
    if isinstance(below, list) and isinstance(above, list) and key not in REPLACED:
        return [*below, *above]
    return above


def interpolated(value: Any, environ: Mapping[str, str]) -> Any:
    """Return a value with its variables replaced, in depth; raises UnsetError."""
    if isinstance(value, dict):
        return {name: interpolated(inner, environ) for name, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, environ) for inner in value]
    return substitute(value, environ) if isinstance(value, str) else value


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with `${NAME}`, `${NAME-default}`, `${NAME:-default}` and `${NAME:?message}` replaced; `$$` is a dollar."""
    parts = []
    while "$" in text:
        before, _, text = text.partition("$")
        parts.append(before)
        if text.startswith("$"):
            parts.append("$")
            text = text[1:]
            continue
        assert text.startswith("{"), f"a variable in braces is expected: ${text}"
        inner, text = _braces(text)
        parts.append(_value(inner, environ))
    return "".join(parts) + text


def _braces(text: str) -> tuple[str, str]:
    """Split `{...}rest` at the brace that closes the first one."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[1:place], text[place + 1 :]
    raise AssertionError(f"a brace is not closed: {text}")


def _value(inner: str, environ: Mapping[str, str]) -> str:
    name = NAME.match(inner)
    assert name is not None, inner
    rest, value = inner[name.end() :], environ.get(name[0])
    if rest.startswith(":"):
        rest, value = rest[1:], value or None
    if value is not None:
        return value
    assert rest == "" or rest[0] in "-?", f"not known here: {inner}"
    if rest.startswith("?"):
        raise UnsetError(f"{name[0]}: {rest[1:]}")
    return substitute(rest[1:], environ)


def variables(text: str) -> set[str]:
    """Return the names of all variables of a file's text."""
    return set(re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)", text))


def environment(service: Document, environ: Mapping[str, str]) -> dict[str, str]:
    """Return a container's variables: those without a value are handed on where they are set."""
    listed: dict[str, Any] = service.get("environment", {})
    handed_on = {name: environ[name] for name, value in listed.items() if value is None and name in environ}
    return {name: str(value) for name, value in listed.items() if value is not None} | handed_on
