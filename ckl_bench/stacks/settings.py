"""Settings from the command line: text -> the typed fields of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

import pydantic

from ckl_bench.errors import UserError, unknown


def split_setting(setting: str) -> tuple[str, str]:
    """`key=value` -> (key, value); UserError where there is no `=`."""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting}: expected key=value, as in --set lora.r=64")
    return key.strip(), value.strip()


def typed_settings(cls: type, settings: Mapping[str, str], where: str = "") -> dict[str, Any]:
    """Text values turned into the types of a dataclass' fields; `where` (`lora.`) stands before the key in errors.

    Raises UserError for a key that is no field (with the closest one) and for a value of another type.
    """
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name for field in dataclasses.fields(cls)}
    typed: dict[str, Any] = {}
    for key, text in settings.items():
        if key not in fields:
            raise unknown(f"setting of {where[:-1]}" if where else "setting", key, fields)
        try:
            value: object = None if text.lower() == "none" else text
            typed[key] = pydantic.TypeAdapter(hints[key]).validate_python(value)
        except pydantic.ValidationError as error:
            kind = getattr(hints[key], "__name__", None) or str(hints[key])
            raise UserError(
                f"--set {where}{key}={text}: expected {kind} ({error.errors()[0]['msg'].lower()})"
            ) from error
    return typed
