"""As much of JSON schema (draft 4) as the agent's published schema uses, with nothing but Python.

The hosts of the sandbox need no package for it. A test holds it against the library jsonschema.
"""

from __future__ import annotations

import re
from typing import Any

TYPES = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "object": dict,
    "string": str,
}
# Keywords of draft 4 that the schema does not use, so far.
NOT_IMPLEMENTED = {
    "additionalItems",
    "dependencies",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "multipleOf",
    "patternProperties",
}


def mistakes(value: Any, schema: dict, root: dict | None = None, where: str = "") -> list[str]:
    """Name what is wrong with `value`, each with its place, such as ``/logs/logs_collected``."""
    root = schema if root is None else root
    if "$ref" in schema:
        return mistakes(value, _resolve(schema["$ref"], root), root, where)
    unknown = set(schema) & NOT_IMPLEMENTED
    if unknown:
        raise NotImplementedError(f"schema at {where or '/'}: {', '.join(sorted(unknown))}")
    place = where or "/"
    if "type" in schema and not _is(value, schema["type"]):
        return [f"{place}: {value!r} is not of type {schema['type']}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place}: {value!r} is not one of {', '.join(map(str, schema['enum']))}")
    for branch in schema.get("allOf", []):
        found += mistakes(value, branch, root, where)
    for word, fits in (("anyOf", lambda count: count >= 1), ("oneOf", lambda count: count == 1)):
        if word in schema:
            tried = [mistakes(value, branch, root, where) for branch in schema[word]]
            if not fits(sum(not wrong for wrong in tried)):
                reasons = "; or ".join(", ".join(wrong) for wrong in tried if wrong)
                found.append(f"{place}: does not fit {word}: {reasons or 'fits more than one'}")
    if "not" in schema and not mistakes(value, schema["not"], root, where):
        found.append(f"{place}: {value!r} is not allowed")
    if isinstance(value, dict):
        found += _object(value, schema, root, where)
    elif isinstance(value, list):
        found += _array(value, schema, root, where)
    elif isinstance(value, str):
        found += _size(len(value), schema, "Length", place)
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{place}: {value!r} does not match {schema['pattern']}")
    elif isinstance(value, int) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            found.append(f"{place}: {value} is less than {schema['minimum']}")
        if value > schema.get("maximum", value):
            found.append(f"{place}: {value} is more than {schema['maximum']}")
    return found


def _object(value: dict, schema: dict, root: dict, where: str) -> list[str]:
    found = [f"{where or '/'}: {key} is missing" for key in schema.get("required", []) if key not in value]
    found += _size(len(value), schema, "Properties", where or "/")
    others = schema.get("additionalProperties", True)
    for key, item in value.items():
        if key in schema.get("properties", {}):
            found += mistakes(item, schema["properties"][key], root, f"{where}/{key}")
        elif others is False:
            found.append(f"{where or '/'}: unknown key {key}")
        elif isinstance(others, dict):
            found += mistakes(item, others, root, f"{where}/{key}")
    return found


def _array(value: list, schema: dict, root: dict, where: str) -> list[str]:
    found = _size(len(value), schema, "Items", where or "/")
    if schema.get("uniqueItems") and any(item in value[:index] for index, item in enumerate(value)):
        found.append(f"{where or '/'}: an entry stands twice")
    if "items" in schema:
        for index, item in enumerate(value):
            found += mistakes(item, schema["items"], root, f"{where}/{index}")
    return found


def _size(size: int, schema: dict, what: str, place: str) -> list[str]:
    if size < schema.get(f"min{what}", size):
        return [f"{place}: shorter than {schema[f'min{what}']}"]
    if size > schema.get(f"max{what}", size):
        return [f"{place}: longer than {schema[f'max{what}']}"]
    return []


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and not (kind == "integer" and isinstance(value, bool))


def _resolve(reference: str, root: dict) -> dict:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found
