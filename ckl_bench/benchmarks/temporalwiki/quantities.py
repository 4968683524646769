"""Templates of numbers and units -> their words: `convert` as its first quantity reads, `val`, fractions, money."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from .markup import superscript
from .tables import codes

Arguments = Mapping[str, str]
_SEPARATORS = {
    "-": "–", "–": "–", "ndash": "–", "to": " to ", "to-": " to ", "to(-)": " to ", "and": " and ", "and(-)": " and ",
    "and-": " and ", "or": " or ", "or(-)": " or ", "by": " by ", "by(-)": " by ", "x": " by ", "X": " by ",
    "×": " by ", "xx": " × ", "*": "×", "+/-": " ± ", "±": " ± ", "+-": " ± ", "+": " + ", "/": "/", ",": ", ",
    ", and": ", and ", ", or": ", or ", "to about": " to about ", "up to": " up to ", "and to": " and to ",
    "–to": " to ", "until": " until ", "through": " through ", "and/or": " and/or ",
}  # fmt: skip
_BELOW = {
    "mi": ("yd", "ft", "ch", "furlong", "chain"), "yd": ("ft", "in"), "ft": ("in",), "foot": ("in",), "feet": ("in",),
    "lb": ("oz",), "lbs": ("oz",), "st": ("lb", "lbs"), "LT": ("cwt", "qtr"), "cwt": ("qtr", "lb"), "m": ("cm",),
    "h": ("min",), "furlong": ("yd",), "ch": ("yd", "ft"), "stone": ("lb",), "mile": ("yd",), "miles": ("yd",),
}  # fmt: skip
_TIMES = frozenset("xX×")  # with symbols of units, a true × between the sizes, each with its unit
_POWERS = {"e3": "thousand", "e6": "million", "e9": "billion", "e12": "trillion"}
_NUMBER = re.compile(
    r"[-−+]?\s*(?:\d[\d,. ]*(?:\s*[+ ]?\s*\d*\s*[/⁄]+\s*\d+|[½¼¾⅓⅔⅛⅜⅝⅞])?|[½¼¾⅓⅔⅛⅜⅝⅞]|\.\d+)(?:[eE][-+−]?\d+)?"
)
_RANGE = re.compile(r"(.*?\d)\s*(-|–|to|and|or|x|×|±)\s*(\d.*)")  # in one argument: 5-6
_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]


@cache
def _units() -> dict[str, tuple[str, str, str]]:
    found = {}
    for name, forms in codes("units").items():
        single, many, symbol = (form.replace("_", " ") for form in forms.split())
        found[name] = (single, many, re.sub(r"(?<=[mt])([23])\b", lambda m: superscript(m[1]), symbol))
    for single, many, symbol in list(found.values()):  # a unit is also called by its words
        us = (re.sub(r"(met|lit)re\b", r"\1er", single), re.sub(r"(met|lit)res\b", r"\1ers", many), symbol)
        for words in ((single, many, symbol), us):
            for word in words:
                found.setdefault(word, words)
    return found


def places(arguments: Arguments) -> list[str]:
    """The arguments without a name, in order, empty ones left out."""
    return [value for key, value in arguments.items() if key.isdecimal() and value]


def is_number(text: str) -> bool:
    """Whether a text is a number as `convert` takes it: 1,300, 2.5, 3+1/2, 1e6."""
    return bool(_NUMBER.fullmatch(text.strip()))


def number(text: str) -> str:
    """A number as MediaWiki shows it: thousands in groups, a true minus sign."""
    text = text.strip()
    match = re.fullmatch(r"([-−+]?)(\d+)(\.\d+)?", text.replace(",", ""))
    if not match:
        return re.sub(r"(?<=\d)\s*\+\s*(?=\d+/)", " ", text.replace("//", "/")).replace("-", "−")
    sign, whole, rest = match.groups()
    return sign.replace("-", "−") + re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", whole) + (rest or "")


def convert(arguments: Arguments, short: bool = False) -> str | None:
    """The quantity that `convert` is given, as it reads, without what it is converted to; None where there is none.

    Ranges (`10|to|20|km`), several units (`6|ft|2|in`), `adj=on`, `adj=mid`, `abbr`, `sp=us` and `spell=in` are read.
    """
    given = [arguments[str(i)] for i in range(1, len(arguments) + 1) if str(i) in arguments]
    if given and not is_number(given[0]) and (range_ := _RANGE.fullmatch(given[0])):
        given[:1] = range_.groups()
    if not given or not is_number(given[0]):
        return None
    values, between, at = [given[0]], [], 1
    while at + 1 < len(given) and given[at].strip() in _SEPARATORS and is_number(given[at + 1]):
        between.append(given[at].strip())
        values.append(given[at + 1])
        at += 2
    separators = [_SEPARATORS[mark] for mark in between]
    if at >= len(given):
        return number(values[0]) if len(values) == 1 else None
    unit, rest = given[at], given[at + 1 :]
    abbreviation = arguments.get("abbr", "")
    symbols = (short and abbreviation not in ("off", "none", "out")) or abbreviation in (
        "on",
        "in",
        "values",
        "~",
        "unit",
    )
    adjective = arguments.get("adj", "")
    if arguments.get("disp", "").startswith("preunit"):
        adjective, rest = "pre", rest[:2]
    hyphen = adjective in ("on", "1") or adjective.startswith("mid")
    spelled = arguments.get("spell", "")
    shown = [_spelled(value, spelled) if spelled else number(value) for value in values]
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
        text = gap.join(f"{number(v)}{gap}{w}" for (v, _), w in zip(pairs, words, strict=True))
        return text + _middle(adjective, rest)
    plural = values[-1] if len(values) == 1 else "2"
    word = _unit(unit, plural, symbols, hyphen, arguments)
    if arguments.get("disp") == "unit":
        return word
    if hyphen and not symbols:
        separators = [f"-{s.strip()}-" if s.strip().isalpha() else s for s in separators]
    joined = _joined(shown, separators)
    if word.startswith("/") or word == "%":
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
    return rest[-1] if rest and adjective.startswith(("mid", "pre")) and rest[-1].strip("-") not in _units() else ""


def _middle(adjective: str, rest: list[str]) -> str:
    extra = _extra(adjective, rest) if adjective.startswith("mid") else ""
    return "" if not extra else extra if extra.startswith("-") else f" {extra}"


def _spelled(value: str, how: str) -> str:
    if not re.fullmatch(r"\s*\d{1,2}\s*", value) or int(value) >= len(_SMALL):
        return number(value)
    word = _SMALL[int(value)]
    return word.capitalize() if how[:1].isupper() else word  # spell=In begins a sentence


def _unit(unit: str, value: str, symbols: bool, hyphen: bool, arguments: Arguments) -> str:
    """A unit's word or symbol behind a value."""
    power = re.match(r"e(?:3|6|9|12)(?=\D)", unit)
    scale = f"{_POWERS[power[0]]} " if power else ""
    name = unit[power.end() :] if power else unit
    name = name if name in _units() else name.replace("²", "2").replace("³", "3")
    single, many, symbol = _units().get(name, (name, name, name))
    if symbols:
        return scale + symbol
    one = not scale and re.fullmatch(r"[-−+]?(?:1|0*1\.0*|\d+/{1,2}\d+|[½¼¾⅓⅔⅛⅜⅝⅞])", value.strip()) is not None
    word = single if one or hyphen else many
    if arguments.get("sp", "").lower() == "us":
        word = re.sub(r"(met|lit)re", r"\1er", word)
    return scale + (word.replace(" ", "-") if hyphen else word)


def value(arguments: Arguments) -> str:
    """`val`: a number with its uncertainty, power of ten and unit."""
    first, up, down = (arguments.get(key, "") for key in ("1", "2", "3"))
    head = re.fullmatch(r"([-−+]?[\d.,]*)[eE]([-−+]?\d+)", first)
    first, power = head.groups() if head else (first, arguments.get("e", ""))
    commas = "," in first or arguments.get("fmt") == "commas"
    text = number(first) if commas else first.replace("-", "−")
    if up.strip() in _SEPARATORS and down:
        text += _SEPARATORS[up.strip()] + down.replace("-", "−")
    elif up.startswith("("):
        text += up  # 1.23(4)
    elif up:
        text += f"+{up.lstrip('+')}−{down.lstrip('-−')}" if down else f"±{up}"
    if power:
        text = (f"({text})" if "±" in text else text) + ("×10" if text else "10") + superscript(power)
    unit = arguments.get("u") or arguments.get("ul") or ""
    per = arguments.get("up") or arguments.get("upl") or ""
    unit = re.sub(r"(?<=[A-Za-zμΩ])([-−]?\d)(?!\w)", lambda m: superscript(m[1]), unit)
    text = arguments.get("p", "") + text + arguments.get("s", "")
    gap = "" if not unit or (unit[0] in "%°′″" and not unit.startswith("°C") and not unit.startswith("°F")) else " "
    return f"{text}{gap}{unit}" + (f"/{per}" if per else "")


def fraction(arguments: Arguments) -> str:
    """`frac`: 1/3, 2/3 or 1 2/3, by how many numbers are given."""
    given = [arguments[key] for key in ("1", "2", "3") if arguments.get(key)]
    if len(given) == 1:
        return f"1/{given[0]}"
    return "/".join(given) if len(given) == 2 else f"{given[0]} {given[1]}/{given[2]}" if given else ""


def percentage(arguments: Arguments) -> str | None:
    """`percentage`: one number as percent of another."""
    first, second = arguments.get("1", "").replace(",", ""), arguments.get("2", "").replace(",", "")
    if not second:
        return f"{first}%" if first else "%"
    try:
        places = int(arguments.get("3") or 0)
        return f"{100 * float(first) / float(second):.{min(max(places, 0), 9)}f}%"
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def grouped(arguments: Arguments) -> str | None:
    """`formatnum`: a number with its thousands in groups, without them where `NOSEP` or `R` asks for none."""
    given, how = arguments.get("1", ""), arguments.get("2", "").upper()
    return (number(given) if how not in ("NOSEP", "R") else given.replace(",", "")) or None


def money(sign: str, arguments: Arguments) -> str:
    """An amount behind its sign; `b`, `m` and the like as words, as the templates of rupees take them."""
    words = {
        "c": "crore",
        "l": "lakh",
        "lc": "lakh crore",
        "b": "billion",
        "m": "million",
        "t": "trillion",
        "k": "thousand",
    }
    amount, scale = arguments.get("1", ""), words.get(arguments.get("2", "").lower(), "")
    amount = number(amount) if re.fullmatch(r"[-−]?\d{4,}(\.\d+)?", amount) else amount
    return sign + amount + (f" {scale}" if scale else "")
