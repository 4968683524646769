"""`convert`: the first quantity as it reads, its ranges, units and options; what it is converted to is a gloss."""

from __future__ import annotations

import re

from .markup import superscript
from .numerals import spelled
from .quantities import SEPARATORS, Arguments, number
from .units import Unit, unit_of

_BELOW = {
    "mi": ("yd", "ft", "ch", "furlong", "chain"), "yd": ("ft", "in"), "ft": ("in",), "foot": ("in",), "feet": ("in",),
    "lb": ("oz",), "lbs": ("oz",), "st": ("lb", "lbs"), "LT": ("cwt", "qtr"), "cwt": ("qtr", "lb"), "m": ("cm",),
    "h": ("min",), "furlong": ("yd",), "ch": ("yd", "ft"), "stone": ("lb",), "mile": ("yd",), "miles": ("yd",),
}  # fmt: skip
_TIMES = frozenset("xX×")  # with symbols of units, a true × between the sizes, each with its unit
_SCALES = {"3": "thousand", "6": "million", "9": "billion", "12": "trillion", "15": "quadrillion"}
_SCALE = re.compile(r"e(3|6|9|12|15)(?=\D)")
_NUMBER = re.compile(
    r"[-−+]?\s*(?:\d[\d,. ]*(?:\s*[+ ]?\s*\d*\s*[/⁄]+\s*\d+|[½¼¾⅓⅔⅛⅜⅝⅞])?|[½¼¾⅓⅔⅛⅜⅝⅞]|\.\d+)(?:[eE][-+−]?\d+)?"
)
_RANGE = re.compile(r"(.*?\d)\s*(-|–|to|and|or|x|×|±)\s*(\d.*)")  # in one argument: 5-6
_LONG = 60  # characters of a number at most: the expressions take powers of its length
_ONE = re.compile(r"[-−+]?(?:1|0*1\.0*|\d+/{1,2}\d+|[½¼¾⅓⅔⅛⅜⅝⅞])")
_SIGN = re.compile(r"([$€£¥₹])(per .*|/.*)")  # units of money: 5 $/mi is $5 per mile


def is_number(text: str) -> bool:
    """Whether a text is a number as `convert` takes it: 1,300, 2.5, 3+1/2, 1e6."""
    return len(text) <= _LONG and bool(_NUMBER.fullmatch(text.strip()))


def convert(arguments: Arguments, short: bool = False) -> str | None:
    """The quantity that `convert` is given, as it reads, without what it is converted to; None where there is none.

    Ranges (`10|to|20|km`), several units (`6|ft|2|in`), `adj=on`, `adj=mid`, `abbr`, `sp=us` and `spell=in` are read.
    """
    given = [" ".join(arguments[str(i)].split()) for i in range(1, len(arguments) + 1) if str(i) in arguments]
    if given and len(given[0]) <= _LONG and not is_number(given[0]) and (range_ := _RANGE.fullmatch(given[0])):
        given[:1] = range_.groups()
    if not given or not is_number(given[0]):
        return None
    values, between, at = [given[0]], [], 1
    while at + 1 < len(given) and given[at].strip() in SEPARATORS and is_number(given[at + 1]):
        between.append(given[at].strip())
        values.append(given[at + 1])
        at += 2
    separators = [SEPARATORS[mark] for mark in between]
    if at >= len(given):
        return number(values[0]) if len(values) == 1 else None
    unit, rest = given[at], given[at + 1 :]
    abbreviation = arguments.get("abbr", "")
    symbols = abbreviation in ("on", "in", "values", "~", "unit") or (
        short and abbreviation not in ("off", "none", "out")
    )
    adjective = arguments.get("adj", "")
    if arguments.get("disp", "").startswith("preunit"):
        adjective, rest = "pre", rest[:2]
    hyphen = adjective in ("on", "1") or adjective.startswith("mid")
    shown = [_shown(value, arguments) for value in values]
    if arguments.get("disp") in ("number", "num") or abbreviation == "values":
        return _joined(shown, separators)
    pairs = [(values[-1], unit)]
    while len(values) == 1 and len(rest) >= 2 and is_number(rest[0]) and rest[1] in _BELOW.get(pairs[-1][1], ()):
        pairs.append((rest[0], rest[1]))
        rest = rest[2:]
    if len(pairs) > 1:
        words = [_unit(u, v, symbols, hyphen, arguments) for v, u in pairs]
        if arguments.get("disp") == "unit":
            return words[0]
        gap = "-" if hyphen and not symbols else " "
        text = gap.join(f"{_shown(v, arguments)}{gap}{w}" for (v, _), w in zip(pairs, words, strict=True))
        return text + _middle(adjective, rest)
    plural = values[-1] if len(values) == 1 else "2"
    word = _unit(unit, plural, symbols, hyphen, arguments)
    if arguments.get("disp") == "unit":
        return word
    if hyphen and not symbols:
        separators = [f"-{s.strip()}-" if s.strip().isalpha() else s for s in separators]
    joined = _joined(shown, separators)
    if money := _SIGN.fullmatch(word):
        return f"{money[1]}{joined}{'' if money[2].startswith('/') else ' '}{money[2]}"
    if word.startswith(("/", "×")) or word == "%":
        return joined + word
    if symbols and between and _TIMES.issuperset(between):
        return " × ".join(f"{each} {word}" for each in shown)
    extra = _extra(adjective, rest)
    if adjective.startswith("pre"):
        return f"{joined} {extra} {word}" if extra else f"{joined} {word}"
    gap = "-" if hyphen and not symbols and "°" not in word else " "
    return f"{joined}{gap}{word}" + _middle(adjective, rest)


def _joined(shown: list[str], separators: list[str]) -> str:
    return shown[0] + "".join(s + v for s, v in zip(separators, shown[1:], strict=True))


def _extra(adjective: str, rest: list[str]) -> str:
    worded = rest and adjective.startswith(("mid", "pre")) and unit_of(rest[-1].strip("-")) is None
    return rest[-1] if worded else ""


def _middle(adjective: str, rest: list[str]) -> str:
    extra = _extra(adjective, rest) if adjective.startswith("mid") else ""
    return "" if not extra else extra if extra.startswith("-") else f" {extra}"


def _shown(value: str, arguments: Arguments) -> str:
    """A value in words where they are asked for (a capital in `spell=In` begins a sentence), else in figures."""
    how, commas = arguments.get("spell", ""), arguments.get("comma", "")
    words = spelled(value, arguments.get("sp", "").lower() == "us") if how else None
    if words is None:
        return number(value, {"5": 5, "off": 99, "gaps": 99, "gaps3": 99}.get(commas, 4))
    return words[:1].upper() + words[1:] if how[:1].isupper() else words


def _unit(code: str, value: str, symbols: bool, hyphen: bool, arguments: Arguments) -> str:
    """A unit's word or symbol behind a value."""
    power = _SCALE.match(code)
    name = code[power.end() :] if power else code
    single, many, symbol = unit_of(name) or Unit(name, name, name)
    scale = f"{_SCALES[power[1]]} " if power else ""
    if symbols:
        return f"×10{superscript(power[1])} {symbol}" if power and arguments.get("abbr") != "unit" else scale + symbol
    word = single if hyphen or (not scale and _ONE.fullmatch(value.strip())) else many
    if arguments.get("sp", "").lower() == "us":
        word = re.sub(r"(met|lit)re", r"\1er", word)
    return scale + (word.replace(" ", "-") if hyphen else word)
