"""Plain data as people write it: a number is a number in JSON, in YAML and in a request, and text is no number."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _strict(schema: Any) -> Any:
    """The schema with every number in it checked before Pydantic would make one of text."""
    if isinstance(schema, list | tuple):
        return type(schema)(_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return schema
    inner = {name: item if name in _NOT_SCHEMAS else _strict(item) for name, item in schema.items()}
    if inner.get("type") in _NUMBERS:
        return core_schema.no_info_before_validator_function(_NUMBERS[inner["type"]], inner)
    return {**inner, "strict": True} if inner.get("type") == "bool" else inner


_NOT_SCHEMAS = ("default", "metadata", "expected", "config", "ref")


def _number(noun: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, str | bytes | bool):
            what = "a truth value" if isinstance(value, bool) else "text"
            raise PydanticCustomError("number_type", f"Input should be a valid {noun}, not {what}")
        return value

    return check


_NUMBERS = {"int": _number("integer"), "float": _number("number")}


class StrictNumbers(BaseModel):
    """A model that does not guess: neither `"3"` nor `true` is 3, and `1` is not `true`. `3.0` is 3, as in JSON."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        found: CoreSchema = _strict(handler(source))
        return found


class Spec(StrictNumbers):
    """Frozen; a field nobody knows is refused with the nearest known name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096)

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_fields(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    near = difflib.get_close_matches(str(name)[:100], cls.model_fields, n=1, cutoff=0.5)
                    hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown field {name!r}; {hint}")
        return value


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML takes `1e-3` for text, as YAML 1.1 did."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(text: str | bytes) -> Any:
    """Plain data from YAML, of which JSON is a part; raises `yaml.YAMLError` or UnicodeDecodeError."""
    return yaml.load(text, _Yaml)
