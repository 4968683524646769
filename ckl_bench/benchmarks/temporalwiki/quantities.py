"""Templates of numbers -> their words: `val`, fractions, percentages, money."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .markup import superscript
from .tables import section
from .units import symbol_of

Arguments = Mapping[str, str]
SEPARATORS = {  # what stands between two numbers of a range, and how it is shown
    "-": "–", "–": "–", "ndash": "–", "to": " to ", "to-": " to ", "to(-)": " to ", "and": " and ", "and(-)": " and ",
    "and-": " and ", "or": " or ", "or(-)": " or ", "by": " by ", "by(-)": " by ", "by(x)": " by ", "x": " by ",
    "X": " by ", "×": " by ", "xx": " × ", "*": " × ", "+/-": " ± ", "±": " ± ", "+-": " ± ", "+": " + ", "/": "/",
    ",": ", ", ", and": ", and ", ", or": ", or ", "to about": " to about ", "up to": " up to ", "and to": " and to ",
    "–to": " to ", "until": " until ", "through": " through ", "and/or": " and/or ", "&": " & ", "&ndash;": "–",
}  # fmt: skip


def places(arguments: Arguments) -> list[str]:
    """The arguments without a name, in order, empty ones left out."""
    return [value for key, value in arguments.items() if key.isdecimal() and value]


def number(text: str, least: int = 4) -> str:
    """A number as MediaWiki shows it: thousands in groups where it has as many digits, a true minus sign."""
    text = text.strip()
    match = re.fullmatch(r"([-−+]?)(\d+)(\.\d+)?", text.replace(",", ""))
    if not match:
        return re.sub(r"(?<=\d)\s*\+\s*(?=\d+/)", " ", text.replace("//", "/")).replace("-", "−")
    sign, whole, rest = match.groups()
    if len(whole) >= least:
        whole = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", whole)
    return sign.replace("-", "−") + whole + (rest or "")


def amount_of(text: str) -> float:
    """What a number comes to, as far as it is one in figures."""
    found = re.fullmatch(r"[-−]?\d{1,300}(\.\d+)?", text.strip().replace(",", ""))
    return float(found[0].replace("−", "-")) if found else 0.0


def value(arguments: Arguments) -> str:
    """`val`: a number with its uncertainty, power of ten and unit."""
    first, up, down = (arguments.get(key, "") for key in ("1", "2", "3"))
    head = re.fullmatch(r"([-−+]?[\d.,]*)[eE]([-−+]?\d+)", first)
    first, power = head.groups() if head else (first, arguments.get("e", ""))
    commas = "," in first or arguments.get("fmt") == "commas"
    text = number(first) if commas else first.replace("-", "−")
    if up.strip() in SEPARATORS and down:
        text += SEPARATORS[up.strip()] + down.replace("-", "−")
    elif up.startswith("("):
        text += up  # 1.23(4)
    elif up:
        text += f"+{up.lstrip('+')}−{down.lstrip('-−')}" if down else f"±{up}"
    text += arguments.get("end", "")
    if power:
        text = (f"({text})" if up and not up.startswith("(") else text) + ("×10" if text else "10") + superscript(power)
    unit = arguments.get("u") or arguments.get("ul") or ""
    per = arguments.get("up") or arguments.get("upl") or ""
    unit = symbol_of(unit)
    text = arguments.get("p", "") + text + arguments.get("s", "")
    gap = "" if not unit or (unit[0] in "%°′″" and not unit.startswith("°C") and not unit.startswith("°F")) else " "
    return f"{text}{gap}{unit}" + (f"/{symbol_of(per)}" if per else "")


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


def grouped(arguments: Arguments, language: str = "en") -> str | None:
    """`formatnum`: a number as the language groups and points it; plain where `NOSEP` or `R` asks for that."""
    given, how = arguments.get("1", ""), arguments.get("2", "").upper()
    thousands, point = section("numbers").get(language, (",", "."))
    if how in ("NOSEP", "R"):
        return given.replace(thousands, "").replace(",", "") or None
    return number(given).translate({ord(","): thousands, ord("."): point}) or None


def gapped(arguments: Arguments) -> str | None:
    """`{{gaps|299|792|458|e=6|u=m}}`: 299792458×10⁶ m, whose gaps are no spaces."""
    digits = "".join(places(arguments))
    return value({"1": digits, **{key: v for key, v in arguments.items() if not key.isdecimal()}}) if digits else None


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
