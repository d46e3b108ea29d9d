"""Strict validation against the structural schemas of CustomResourceDefinitions: unknown fields are errors.

It knows the keywords that the CRDs in use have, and raises on one that it does not, so that nothing passes unchecked.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_IGNORED = {"description", "default", "example", "title", "format", "nullable", "x-kubernetes-list-type"}
_IGNORED |= {"x-kubernetes-list-map-keys", "x-kubernetes-map-type", "externalDocs"}
_KNOWN = {"type", "properties", "required", "items", "additionalProperties", "enum", "pattern", "minimum", "maximum"}
_KNOWN |= {"minLength", "maxLength", "minItems", "maxItems", "oneOf", "anyOf", "not"}
_KNOWN |= {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}

Schema = Mapping[str, Any]


def schemas(folder: Path) -> dict[tuple[str, str], Schema]:
    """Return the schema of each served version by (apiVersion, kind)."""
    found: dict[tuple[str, str], Schema] = {}
    for path in sorted(folder.glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if not crd or crd["kind"] != "CustomResourceDefinition":
                continue
            for version in crd["spec"]["versions"]:
                if version["served"]:
                    key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                    found[key] = version["schema"]["openAPIV3Schema"]
    return found


def errors(value: object, schema: Schema, where: str = "") -> Iterator[str]:
    """Yield what is wrong with a value, each with the way to it."""
    unknown = set(schema) - _KNOWN - _IGNORED
    if unknown:
        raise NotImplementedError(f"{where}: schema keywords {sorted(unknown)}")
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield f"{where}: a whole number or text is expected"
        return
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{where}: {kind} is expected, not {value!r}"
        return
    yield from _limits(value, schema, where)
    yield from _combinations(value, schema, where)
    if isinstance(value, dict):
        yield from _fields(value, schema, where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from errors(item, schema.get("items", {}), f"{where}[{index}]")


def _fields(value: dict[str, object], schema: Schema, where: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where}: {name} is missing"
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for name, item in value.items():
        if name in properties:
            yield from errors(item, properties[name], f"{where}.{name}")
        elif isinstance(others, Mapping):
            yield from errors(item, others, f"{where}.{name}")
        elif not others and not schema.get("x-kubernetes-preserve-unknown-fields") and schema.get("type"):
            yield f"{where}: unknown field {name}"


def _limits(value: object, schema: Schema, where: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{where}: {value!r} does not match {schema['pattern']}"
        yield from _range(len(value), schema, "minLength", "maxLength", where)
    elif isinstance(value, list):
        yield from _range(len(value), schema, "minItems", "maxItems", where)
    elif isinstance(value, int | float):
        yield from _range(value, schema, "minimum", "maximum", where)


def _range(number: float, schema: Schema, low: str, high: str, where: str) -> Iterator[str]:
    if number < schema.get(low, number):
        yield f"{where}: {number} is below {low} {schema[low]}"
    if number > schema.get(high, number):
        yield f"{where}: {number} is above {high} {schema[high]}"


def _combinations(value: object, schema: Schema, where: str) -> Iterator[str]:
    for keyword, allowed in (("oneOf", {1}), ("anyOf", range(1, 100)), ("not", {0})):
        if keyword in schema:
            branches = schema[keyword] if keyword != "not" else [schema[keyword]]
            if sum(not any(errors(value, branch, where)) for branch in branches) not in allowed:
                yield f"{where}: does not satisfy {keyword}"
