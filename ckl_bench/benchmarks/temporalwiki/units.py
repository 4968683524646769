"""Units as `convert` and `val` are given them -> their words and symbols: with SI prefixes, powers and quotients."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import NamedTuple

from .markup import superscript
from .tables import codes, section

_PREFIXES = {
    **{"Q": "quetta", "R": "ronna", "Y": "yotta", "Z": "zetta", "E": "exa", "P": "peta", "T": "tera", "G": "giga"},
    **{"M": "mega", "k": "kilo", "h": "hecto", "da": "deca", "d": "deci", "c": "centi", "m": "milli"},
    **{"μ": "micro", "µ": "micro", "u": "micro", "n": "nano", "p": "pico", "f": "femto", "a": "atto"},
}
_SI = re.compile(rf"({'|'.join(sorted(_PREFIXES, key=len, reverse=True))})(.+)")
_CODES = "m g W J N Pa eV Hz L l s K V A Wh bit B bar cal t Ω ohm C F T Sv Gy Bq mol cd lm lx"
_BASES = frozenset(_CODES.split())
_POWERS = {"2": ("square", "²"), "3": ("cubic", "³")}
_SIGNS = "$€£¥₹"
_NAME = 40  # characters


class Unit(NamedTuple):
    """A unit's name of one, of many, and its symbol."""

    single: str
    many: str
    symbol: str


@cache
def _named() -> dict[str, Unit]:
    found = {}
    for name, forms in codes("units").items():
        single, many, symbol = (form.replace("_", " ") for form in forms.split())
        found[name] = Unit(single, many, re.sub(r"(?<=[mt])([23])\b", lambda m: superscript(m[1]), symbol))
    for unit in list(found.values()):  # a unit is also called by its words
        single, many = (re.sub(r"(met|lit)re(s?)\b", r"\1er\2", word) for word in unit[:2])
        us = Unit(single, many, unit.symbol)
        for words in (unit, us):
            for word in words:
                found.setdefault(word, words)
    return found


@lru_cache(maxsize=4096)
def unit_of(code: str) -> Unit | None:
    """The forms of a unit: one of the table, or made of such: `TWh`, `um2`, `t/ha`, `$/acre`; None for no unit."""
    name = code.replace("²", "2").replace("³", "3")
    if len(name) > _NAME:
        return None
    named = _named()
    for same in (code, name):
        if same in named:
            return named[same]
    first, slash, second = name.partition("/")
    if slash and second:
        return _quotient(first, second)
    if name[-1:] in _POWERS and (unit := unit_of(name[:-1])):
        word, sign = _POWERS[name[-1]]
        return Unit(f"{word} {unit.single}", f"{word} {unit.many}", unit.symbol + sign)
    for head, power in (("sq", "2"), ("cu", "3")):
        if name.startswith(head) and (unit := unit_of(name[2:].strip())):
            word = _POWERS[power][0]
            return Unit(f"{word} {unit.single}", f"{word} {unit.many}", f"{head} {unit.symbol}")
    found = _SI.fullmatch(name)
    if found and found[2] in _BASES and (unit := named.get(found[2])):
        prefix, letter = _PREFIXES[found[1]], "μ" if found[1] in ("u", "µ") else found[1]
        return Unit(prefix + unit.single, prefix + unit.many, letter + unit.symbol)
    return None


def _quotient(first: str, second: str) -> Unit | None:
    below = unit_of(second)
    if below is None:
        return None
    if not first or first in _SIGNS:
        return Unit(f"{first}per {below.single}", f"{first}per {below.single}", f"{first}/{below.symbol}")
    above = unit_of(first)
    if above is None:
        return None
    per = f" per {below.single}"
    return Unit(above.single + per, above.many + per, f"{above.symbol}/{below.symbol}")


def symbol_of(code: str) -> str:
    """A unit as `val` shows it: the table's sign for its code, powers raised; others as they are."""
    signs = section("val_units")
    if code in signs:
        return str(signs[code])
    raised = re.sub(r"(?<=[A-Za-zμΩ])([-−]?\d)(?!\w)", lambda m: superscript(m[1]), code)
    return re.sub(r"(?<=[^\W\d])([⁰¹²³⁴-⁹⁻]*)\.(?=[^\W\d])", r"\1⋅", raised)
