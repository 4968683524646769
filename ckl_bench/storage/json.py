"""JSON as the standard has it: values to text that is always the same, text to values within bounds, and seals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ckl_bench.errors import UserError

CHECKSUM = "checksum"


def canonical_json(value: object) -> str:
    """JSON that is the same for equal values, whatever the order of keys: the text that gets hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_json(value: object) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def json_text(value: object) -> str:
    """A value as indented JSON; numbers that JSON cannot hold (NaN, infinities) are refused."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def jsonl(rows: Iterable[object]) -> str:
    """Rows as JSON Lines text."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def parse_json(text: str | bytes, where: str, *, once: bool = False) -> Any:
    """JSON as the standard has it: no NaN, nothing nested without end, no half characters; with `once` no key twice.

    Raises UserError that begins with `where`.
    """
    try:
        pairs = _each_once if once else None
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=pairs)
        if b"\\ud" in (text if isinstance(text, bytes) else text.encode()).lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can be written, but is no text
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg})") from error
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UserError(f"{where}: not valid UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits, NaN
        raise UserError(f"{where}: not valid JSON ({error})") from error
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)[:60]}' stands twice in an object")
    return made


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is too large")
    return number


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with a checksum of its content, which `unsealed` verifies."""
    return {**value, CHECKSUM: sha256_json(value)}


def unsealed(value: Any, where: str) -> dict[str, Any]:
    """An object that `sealed` made, without its checksum; UserError that begins with `where` where it is another."""
    if not isinstance(value, dict) or CHECKSUM not in value:
        raise UserError(f"{where} has no {CHECKSUM}, so it was not written by this version; make it again")
    found = value.pop(CHECKSUM)
    if found != sha256_json(value):
        raise UserError(f"{where} is not as it was written (its {CHECKSUM} differs); restore it or make it again")
    return value
