# SPDX-License-Identifier: Apache-2.0
"""Checks a JSON value against a schema of tests/data/openai/responses.json: the few keywords that those use."""
import json
import os

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
with open(os.path.join(ROOT, "tests/data/openai/responses.json"), encoding="utf-8") as f:
    SCHEMAS = json.load(f)

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def _is_type(v, name):
    if name == "integer":
        return isinstance(v, int) and not isinstance(v, bool)
    if name == "number":
        return isinstance(v, (int, float)) and not isinstance(v, bool)
    return isinstance(v, TYPES[name])


def problems(v, schema, where="$"):
    """What is wrong with v, as a list of sentences."""
    if v is None and schema.get("nullable"):
        return []
    if "$ref" in schema:
        return problems(v, SCHEMAS[schema["$ref"].rsplit("/", 1)[1]], where)
    out = []
    for key in ("anyOf", "oneOf"):
        if key in schema:
            tried = [problems(v, s, where) for s in schema[key]]
            if all(tried):
                out += min(tried, key=len)
    for s in schema.get("allOf", []):
        out += problems(v, s, where)
    kind = schema.get("type")
    if kind and not any(_is_type(v, k) for k in ([kind] if isinstance(kind, str) else kind)):
        return out + [f"{where}: {v!r} is not of type {kind}"]
    if "enum" in schema and v not in schema["enum"]:
        out.append(f"{where}: {v!r} is not one of {schema['enum']}")
    if isinstance(v, dict):
        known = schema.get("properties", {})
        out += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in v]
        for name, item in v.items():
            if name in known:
                out += problems(item, known[name], f"{where}.{name}")
            elif isinstance(schema.get("additionalProperties"), dict):
                out += problems(item, schema["additionalProperties"], f"{where}.{name}")
    if isinstance(v, list) and "items" in schema:
        for i, item in enumerate(v):
            out += problems(item, schema["items"], f"{where}[{i}]")
    return out


def check(value, name):
    """AssertionError unless value fits the schema called name."""
    wrong = problems(value, SCHEMAS[name])
    if wrong:
        raise AssertionError(f"not a {name}: " + "; ".join(wrong))
