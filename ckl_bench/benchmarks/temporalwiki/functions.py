"""Parser functions of MediaWiki (`{{#if:...}}`, `{{padleft:...}}`) -> the words that they give; the table names them.

Each takes the arguments by place, `1` being what stands behind the colon, and returns None where it can give none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping

from .quantities import Arguments

_PAD = 200  # characters that are filled up at most
_LONG = 200  # characters of a sum at most
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*|\.\d+)|(mod|div|round|and|or|not|<=|>=|<>|!=|[-−+*/^()<>=]))", re.I)
_BINDS = {
    **{"or": 1, "and": 2, "=": 3, "<>": 3, "!=": 3, "<": 3, ">": 3, "<=": 3, ">=": 3, "round": 4, "+": 5, "-": 5},
    **{"*": 6, "/": 6, "div": 6, "mod": 6, "^": 8},
}
_UNARY = 7
_APPLIED: Mapping[str, Callable[[float, float], float]] = {
    "or": lambda a, b: float(bool(a) or bool(b)),
    "and": lambda a, b: float(bool(a) and bool(b)),
    "=": lambda a, b: float(a == b),
    "<>": lambda a, b: float(a != b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    ">": lambda a, b: float(a > b),
    "<=": lambda a, b: float(a <= b),
    ">=": lambda a, b: float(a >= b),
    "round": lambda a, b: math.floor(abs(a) * 10.0**b + 0.5) / 10.0**b * (-1 if a < 0 else 1),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "div": lambda a, b: a / b,
    "mod": lambda a, b: math.fmod(math.trunc(a), math.trunc(b)),
    "^": math.pow,
}


def computed(text: str) -> float | None:
    """What a sum of `#expr` comes to; None for what is none."""
    tokens = _tokens(text) if len(text) <= _LONG else None
    if not tokens:
        return None
    tokens.reverse()
    try:
        found = _sum(tokens, 0)
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return found if not tokens and math.isfinite(found) else None


def _tokens(text: str) -> list[str] | None:
    found, at, text = [], 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        found.append(match[1] or match[2].lower().replace("−", "-"))
        at = match.end()
    return found


def _sum(tokens: list[str], least: int) -> float:
    """The value of the tokens (the next one last) up to an operator that binds less than `least`."""
    token = tokens.pop()
    if token == "(":
        left = _sum(tokens, 0)
        if tokens.pop() != ")":
            raise ValueError
    elif token in ("-", "+", "not"):
        value = _sum(tokens, _UNARY)
        left = float(not value) if token == "not" else -value if token == "-" else value
    else:
        left = float(token)
    while tokens and _BINDS.get(tokens[-1], -1) >= max(least, 1):
        operator = tokens.pop()
        left = _APPLIED[operator](left, _sum(tokens, _BINDS[operator] + 1))
    return left


def expr(arguments: Arguments) -> str | None:
    """`{{#expr:2*3}}`: 6."""
    found = computed(arguments.get("1", ""))
    return None if found is None else f"{found:.14g}".replace("-", "−") if abs(found) < 1e14 else None


def if_given(arguments: Arguments) -> str:
    """`{{#if:x|then|else}}`."""
    return arguments.get("2", "") if arguments.get("1") else arguments.get("3", "")


def if_equal(arguments: Arguments) -> str:
    """`{{#ifeq:a|b|then|else}}`."""
    return arguments.get("3", "") if arguments.get("1", "") == arguments.get("2", "") else arguments.get("4", "")


def if_true(arguments: Arguments) -> str | None:
    """`{{#ifexpr:1<2|then|else}}`."""
    found = computed(arguments.get("1", "")) if arguments.get("1") else 0.0
    return None if found is None else arguments.get("2" if found else "3", "")


def if_error(arguments: Arguments) -> str:
    """`{{#iferror:x|error|else}}`: what stands there is no error."""
    return arguments.get("3", arguments.get("1", ""))


def switch(arguments: Arguments) -> str:
    """`{{#switch:b|a=1|b|c=2|3}}`: the first case that fits, or falls through to the next with a value."""
    wanted, default, falling, cases = arguments.get("1", ""), "", False, [*_cases(arguments)]
    for case in cases:
        key, equals, value = (part.strip() for part in case.partition("="))
        falling = falling or key == wanted
        if equals and falling:
            return value
        if equals and key == "#default":
            default = value
    last = cases[-1] if cases else ""
    return default if "=" in last else last.strip()


def _cases(arguments: Arguments) -> Iterator[str]:
    place = 2
    while str(place) in arguments:
        yield arguments[str(place)]
        place += 1


def padded(arguments: Arguments, left: bool = True) -> str | None:
    """`{{padleft:7|3|0}}`: 007."""
    text, wide, fill = arguments.get("1", ""), arguments.get("2", ""), arguments.get("3") or "0"
    if not re.fullmatch(r"[0-9]{1,3}", wide):
        return text or None
    filling = (fill * _PAD)[: max(0, min(int(wide), _PAD) - len(text))]
    return (filling + text if left else text + filling) or None


def plural(arguments: Arguments) -> str | None:
    """`{{plural:2|cat|cats}}`: cats."""
    found = computed(arguments.get("1", "").replace(",", ""))
    return None if found is None else arguments.get("2" if found == 1 else "3") or arguments.get("2")


FUNCTIONS: Mapping[str, Callable[[Arguments], str | None]] = {
    "expr": expr,
    "if_equal": if_equal,
    "if_error": if_error,
    "if_given": if_given,
    "if_true": if_true,
    "pad_left": padded,
    "pad_right": lambda arguments: padded(arguments, left=False),
    "plural": plural,
    "switch": switch,
}
