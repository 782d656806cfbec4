"""JSON Schema (draft 2020-12) of the kinds, for editors and CI."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from fos1d.kinds import KINDS, Kind
from fos1d.quantity import duration_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: Kind) -> dict[str, Any]:
    """Return the schema of one kind."""
    schema = _cleaned(kind.model.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, "title": kind.name, **schema}


def schema_of_all() -> dict[str, Any]:
    """Return one schema for a document of any kind."""
    references, definitions = models_json_schema(
        [(kind.model, "validation") for kind in KINDS], by_alias=True
    )
    return {
        "$schema": DIALECT,
        "title": "fos1d manifests",
        "oneOf": [references[kind.model, "validation"] for kind in KINDS],
        **_cleaned(definitions),
    }


def _cleaned(schema: Any) -> Any:
    """Drop generated titles, and write defaults as a manifest would."""
    if isinstance(schema, list):
        return [_cleaned(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned = {
        key: _named(value) if key in ("properties", "$defs") else _cleaned(value)
        for key, value in schema.items()
        if key not in ("title", "default")
    }
    return cleaned | _default(schema)


def _default(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the default, unless it only says that a field may be absent."""
    default = schema.get("default")
    if default is None or isinstance(default, dict):
        return {}
    is_time = isinstance(default, int) and schema.get("type") == "string"
    return {"default": duration_text(default) if is_time else default}


def _named(schemas: dict[str, Any]) -> dict[str, Any]:
    return {name: _cleaned(schema) for name, schema in schemas.items()}
