"""Settings from the command line: text -> the typed fields of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

import pydantic

from ckl_bench.errors import UserError, expected, unknown
from ckl_bench.stacks.plugins import canonical


def split_setting(setting: str) -> tuple[str, str]:
    """`key=value` -> (key, value); UserError where there is no `=`."""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting}: expected key=value, as in --set lora.r=64")
    return key.strip(), value.strip()


def unique_settings(settings: Iterable[str]) -> dict[str, str]:
    """Every `key=value` by its key; UserError for a key that stands there twice, of which one would be dropped."""
    found: dict[str, str] = {}
    for key, value in map(split_setting, settings):
        if key in found:
            raise UserError(f"--set {key} is given twice, {found[key]} and {value}; give it once")
        found[key] = value
    return found


def settings_over(below: Iterable[str], typed: Sequence[str]) -> list[str]:
    """Settings from a file, a preset or a record with those `typed`, which win."""
    keys = {_key(setting) for setting in typed}
    return [*(setting for setting in below if _key(setting) not in keys), *typed]


def _key(setting: str) -> str:
    part, dot, field = split_setting(setting)[0].rpartition(".")
    return f"{canonical(part)}{dot}{field}"


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
            raise UserError(f"--set {where}{key}={text}: {expected(error)}") from error
    return typed
