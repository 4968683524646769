"""Templates whose words have to be worked out, by the names that the table has for them (`@...`); names and lists.

Each takes the arguments by name (`1` is the first without one) and returns the words, None where it has none to show.
Those of `LOCAL` also take the language of the wiki.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from . import chemistry, german, numerals, quantities, tongues, when
from .convert import convert
from .functions import FUNCTIONS
from .markup import inert, superscript
from .quantities import Arguments, number, places
from .tables import codes, section


def tag(arguments: Arguments) -> str | None:
    """`{{tag|ref}}`: <ref>...</ref>; `o`, `c` and `s` are its opening, its closing and its empty form."""
    name, kind = arguments.get("1", ""), arguments.get("2", "p")[:1]
    forms = {"o": f"<{name}>", "c": f"</{name}>", "s": f"<{name} />", "e": f"<{name} />"}
    content = arguments.get("content", "...")
    return inert(forms.get(kind, f"<{name}>{content}</{name}>")) if name else None


def measure(arguments: Arguments) -> str | None:
    """`{{height|ft=6|in=2}}`: 6 ft 2 in."""
    units = ("m", "cm", "ft", "in", "st", "lb", "lbs", "oz", "kg", "g")
    return " ".join(f"{v} {k}" for k, v in arguments.items() if k in units and v) or None


def gauge(arguments: Arguments) -> str | None:
    """`{{track gauge|1435mm}}`: 1,435 mm; `sg` and the like are known by name."""
    given = section("gauges").get(arguments.get("1", "").lower(), arguments.get("1", ""))
    found = re.findall(r"([\d.,/+½¼¾⅛⅜⅝⅞]+)\s*(mm|m|ft|in)", given)
    return " ".join(f"{number(size)} {unit}" for size, unit in found) or given or None


def ship(prefix: str, arguments: Arguments) -> str | None:
    """`{{HMS|Ajax|22|6}}`: prefix (4), name (2) and number (1), as the third argument's bits say; all without one."""
    name, hull, bits = arguments.get("1", ""), arguments.get("2", ""), arguments.get("3", "")
    shown = int(bits) & 7 if re.fullmatch(r"\d{1,3}", bits) else 7
    shown = 7 if shown in (0, 4) else shown
    hull = f" ({hull})" if hull and shown & 6 and shown & 2 else f" {hull}" if hull else ""
    parts = (prefix if shown & 4 else "", name if shown & 2 else "")
    return (" ".join(filter(None, parts)) + (hull if shown & 1 else "")).strip() or None


def any_ship(arguments: Arguments) -> str | None:
    """`{{ship|French ship|Ville|1900|2}}`: as `ship`, the prefix being the first argument."""
    moved = {str(int(key) - 1) if key.isdecimal() else key: value for key, value in arguments.items()}
    return ship(arguments.get("1", ""), moved)


def ship_class(arguments: Arguments) -> str | None:
    """`{{sclass|Iowa|battleship}}`: Iowa-class battleship; 0 leaves the type out, 4 the hyphen, 5 `class`."""
    name, kind, form = (arguments.get(key, "") for key in "123")
    if not name:
        return None
    if form == "5":
        return name
    return f"{name} class" if form == "4" else f"{name}-class" + (f" {kind}" if kind and form != "0" else "")


def country(arguments: Arguments, language: str = "en") -> str | None:
    """`{{flag|USA}}`: United States; `name` says what is shown instead."""
    given, shown = arguments.get("1", ""), arguments.get("name", "")
    if language == "de" and arguments.get("2"):  # {{AUT|Wien}} shows Wien, {{AUT|#}} the flag alone
        return arguments["2"].strip("#")
    return shown or codes("countries", language).get(given, given) or None


def country_last(arguments: Arguments, language: str = "en") -> str | None:
    """`{{flagg|cncie|USA}}`: the country behind how it is shown."""
    given = places(arguments)
    return country({"1": given[-1]}, language) if given else None


def season(arguments: Arguments) -> str | None:
    """`{{nbay|2010}}`: 2010–11; its first or second year where `start` or `end` is asked for."""
    given, which = arguments.get("1", ""), arguments.get("2", "")
    if not re.fullmatch(r"[0-9]{4}", given):
        return given or None
    after = str(int(given) + 1)
    return {"start": given, "end": after}.get(which) or f"{given}–{after if after[2:] == '00' else after[2:]}"


def listed(arguments: Arguments, word: str, comma: str = "") -> str | None:
    """`{{and list|a|b|c}}`: a, b and c."""
    given = places(arguments)
    if len(given) < 2:
        return given[0] if given else None
    return f"{', '.join(given[:-1])}{comma if len(given) > 2 else ''} {word} {given[-1]}"


def items(arguments: Arguments) -> str | None:
    """`{{plainlist|* a\n* b}}`: the items, with commas."""
    text = arguments.get("1", "")
    lines = [line.strip().lstrip("*#:; ") for line in text.split("\n")]
    return ", ".join(filter(None, lines)) or None


def bullets(arguments: Arguments) -> str | None:
    """`{{bulleted list|a|b}}`: a line each."""
    found = places(arguments)
    return "\n" + "\n".join(found) + "\n" if found else None


def quotation(arguments: Arguments) -> str | None:
    """`{{quote|...}}`: what is quoted, a paragraph of its own."""
    text = arguments.get("text") or arguments.get("quote") or arguments.get("1")
    return f"\n{text}\n" if text else None


def sic(arguments: Arguments) -> str:
    """`{{sic|word}}`: word [sic], unless the mark is hidden."""
    word = "".join(places(arguments))
    hidden = arguments.get("hide") or arguments.get("expected")
    return word if hidden and word else f"{word} {inert('[sic]')}".strip()


def harvard(arguments: Arguments) -> str | None:
    """`{{harvtxt|Boolos|Jeffrey|1974}}`: Boolos & Jeffrey (1974)."""
    given = places(arguments)
    if len(given) < 2:
        return None
    *names, year = given
    if len(names) > 1:
        names = [", ".join(names[:-1]), names[-1]]
    return f"{' & '.join(names)} ({year})"


def bible(arguments: Arguments) -> str | None:
    """`{{bibleverse|1|John|3:16}}`: 1 John 3:16."""
    given = [value for value in places(arguments) if not re.fullmatch(r"[A-Z]{2,}\d*|\d*", value) or value.isdecimal()]
    return " ".join(given[:3]) or None


def junction(arguments: Arguments) -> str | None:
    """`{{jct|state=NY|I|95}}`: I-95."""
    given = places(arguments)
    pairs = [
        f"{a}-{b}" if a in ("I", "SR", "NY") else f"{a} {b}" for a, b in zip(given[::2], given[1::2], strict=False)
    ]
    return " / ".join(pairs) or None


def music(arguments: Arguments) -> str | None:
    """`{{music|flat}}`: ♭."""
    given = arguments.get("1", "")
    return section("music").get(given.lower(), given) or None


def amount(arguments: Arguments) -> str | None:
    """`{{currency|5|USD}}`: US$5."""
    sum_, code = arguments.get("1") or arguments.get("amount", ""), arguments.get("2") or arguments.get("type", "")
    sign = section("money").get((code or "usd").lower())
    return quantities.money(inert(sign), {"1": sum_}) if sign and sum_ else sum_ or None


def old_money(arguments: Arguments) -> str | None:
    """`{{£sd|l=1|s=2|d=3}}`: £1 2s 3d."""
    pounds, shillings, pence = (arguments.get(key, "") for key in "lsd")
    parts = (f"£{pounds}" if pounds else "", f"{shillings}s" if shillings else "", f"{pence}d" if pence else "")
    return " ".join(filter(None, parts)) or None


def rounded(arguments: Arguments) -> str | None:
    """`{{rnd|3.14159|2}}`: 3.14."""
    given, digits = arguments.get("1", "").replace(",", ""), arguments.get("2") or "0"
    if not re.fullmatch(r"[-−]?[0-9]{1,15}(\.[0-9]{1,15})?", given) or not re.fullmatch(r"[0-9]", digits):
        return arguments.get("1")
    return number(f"{float(given.replace('−', '-')):.{digits}f}")


def in_roman(arguments: Arguments) -> str | None:
    """`{{roman|5}}`: V."""
    given = arguments.get("1", "")
    return (numerals.roman(int(given)) if re.fullmatch(r"[0-9]{1,4}", given) else None) or given or None


def in_words(arguments: Arguments, most: float = math.inf) -> str | None:
    """`{{spellnum|12}}`: twelve; figures above `most`."""
    given = arguments.get("1", "")
    words = numerals.spelled(given)
    return words if words and quantities.amount_of(given) <= most else number(given) or None


def _first(change: Callable[[str], str]) -> Callable[[Arguments], str | None]:
    return lambda arguments: change(arguments["1"]) if arguments.get("1") else None


RENDERERS: Mapping[str, Callable[[Arguments], str | None]] = {
    **FUNCTIONS,
    **german.RENDERERS,
    "and_list": lambda arguments: listed(arguments, "and"),
    "as_of": when.as_of,
    "bible": bible,
    "bullets": bullets,
    "age": when.age,
    "age_and_days": when.age_and_days,
    "age_in_days": when.age_in_days,
    "century": when.century,
    "chem": chemistry.chem,
    "chem2": chemistry.chem2,
    "chinese": tongues.chinese,
    "circa": when.circa,
    "convert": convert,
    "convert_short": lambda arguments: convert(arguments, short=True),
    "currency": amount,
    "date": when.date,
    "dates": when.dates,
    "decade": when.decade,
    "duration": when.duration,
    "enumerated": lambda arguments: listed(arguments, "and", ","),
    "fraction": quantities.fraction,
    "gaps": quantities.gapped,
    "gauge": gauge,
    "harvard": harvard,
    "interlanguage": tongues.interlanguage,
    "items": items,
    "joined": lambda arguments: "".join(places(arguments)),
    "junction": junction,
    "keys": lambda arguments: "+".join(places(arguments)),
    "korean": tongues.korean,
    "langx": tongues.langx,
    "last": tongues.last,
    "lower": _first(str.lower),
    "lower_first": _first(lambda text: text[:1].lower() + text[1:]),
    "measure": measure,
    "music": music,
    "month": _first(when.month),
    "nihongo": tongues.nihongo,
    "nihongo3": lambda arguments: tongues.nihongo(arguments, romaji_first=True),
    "nuclide": chemistry.nuclide,
    "old_money": old_money,
    "or_list": lambda arguments: listed(arguments, "or"),
    "ordinal": when.ordinal,
    "percentage": quantities.percentage,
    "power": _first(lambda text: "×10" + superscript(text)),
    "power10": _first(lambda text: "10" + superscript(text)),
    "quotation": quotation,
    "raised": lambda arguments: (arguments.get("1", "") + superscript(arguments.get("2", ""))) or None,
    "roman": in_roman,
    "rounded": rounded,
    "season": season,
    "ship": any_ship,
    "ship_class": ship_class,
    "sic": sic,
    "spaces": lambda arguments: " ",
    "slashes": lambda arguments: " / ".join(places(arguments)) or None,
    "spelled": in_words,
    "spelled_small": lambda arguments: in_words(arguments, 9),
    "superscript": _first(superscript),
    "tag": tag,
    "upper": _first(str.upper),
    "upper_first": _first(lambda text: text[:1].upper() + text[1:]),
    "value": quantities.value,
}

LOCAL: Mapping[str, Callable[[Arguments, str], str | None]] = {
    "country": country,
    "country_last": country_last,
    "number": quantities.grouped,
}
