"""Templates whose words have to be worked out: languages, dates, ships, chemistry, lists (the table names them `@...`).

Each takes the arguments by name (`1` is the first without one) and returns the words, None where it has none to show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from . import quantities, when
from .markup import inert, superscript
from .quantities import Arguments, number, places
from .tables import codes, section

# Languages


def langx(arguments: Arguments) -> str | None:
    """`{{langx|fr|Adèle}}`: the language's name before the words, what they mean and how they are written after."""
    code, text = arguments.get("1") or arguments.get("code", ""), arguments.get("2") or arguments.get("text", "")
    if not text:
        return None
    label = arguments.get("label", "")
    known = codes("languages")
    name = known.get(code.lower()) or known.get(code.lower().split("-")[0], "")
    head = "" if label == "none" else label or name
    shown = f"{head}: {text}" if head else text
    romanized = arguments.get("translit") or arguments.get("tr") or arguments.get("r") or arguments.get("3", "")
    if romanized and romanized != "-":
        shown += f", romanized: {romanized}"
    meaning = arguments.get("translation") or arguments.get("lit") or arguments.get("4", "")
    return shown + (f", lit. ‘{meaning}’" if meaning else "")


def last(arguments: Arguments) -> str | None:
    """`{{transl|ar|ALA|x}}`: the last of the places."""
    found = places(arguments)
    return found[-1] if found else arguments.get("text")


def chinese(arguments: Arguments) -> str | None:
    """`{{zh|s=...|p=...}}`: every form with its name."""
    names = {
        "c": "Chinese", "s": "simplified Chinese", "t": "traditional Chinese", "p": "pinyin", "w": "Wade–Giles",
        "j": "Jyutping", "cy": "Cantonese Yale", "poj": "Pe̍h-ōe-jī", "l": "lit.", "tr": "transl.",
    }  # fmt: skip
    bare = arguments.get("labels") == "no"
    shown = [v if bare else f"{names[k]}: {v}" for k, v in arguments.items() if k in names and v]
    return "; ".join(shown) or arguments.get("1")


def korean(arguments: Arguments) -> str | None:
    """`{{korean|hangul=...|rr=...}}`: every form with its name."""
    names = {"hangul": "Korean", "hanja": "Hanja", "rr": "RR", "mr": "MR", "lk": "Korean"}
    shown = [f"{names[k]}: {v}" for k, v in arguments.items() if k in names and v]
    return "; ".join(shown) or ", ".join(places(arguments)) or None


def nihongo(arguments: Arguments, romaji_first: bool = False) -> str | None:
    """`{{nihongo|English|kanji|romaji|extra|behind}}`: the first that is given, what else there is in brackets."""
    english, kanji, romaji, extra = (arguments.get(key, "") for key in "1234")
    order = [romaji, kanji, english] if romaji_first else [english or romaji, kanji, romaji if english else ""]
    head, *rest = [*filter(None, order), ""]
    inside = ", ".join(filter(None, [*rest, extra]))
    shown = f"{head} ({inside})" if head and inside else head
    return " ".join(filter(None, [shown, arguments.get("5", "")])) or None


def tag(arguments: Arguments) -> str | None:
    """`{{tag|ref}}`: <ref>...</ref>; `o`, `c` and `s` are its opening, its closing and its empty form."""
    name, kind = arguments.get("1", ""), arguments.get("2", "p")[:1]
    forms = {"o": f"<{name}>", "c": f"</{name}>", "s": f"<{name} />", "e": f"<{name} />"}
    content = arguments.get("content", "...")
    return inert(forms.get(kind, f"<{name}>{content}</{name}>")) if name else None


def interlanguage(arguments: Arguments) -> str | None:
    """`{{ill|Name|de}}`, or the old `{{ill|de|Name}}`: the name, as it is shown."""
    shown = arguments.get("lt") or arguments.get("text") or arguments.get("display")
    given = places(arguments)
    if shown or not given:
        return shown or arguments.get("en")
    known = codes("languages")
    if len(given) > 1 and given[0] in known and given[1] not in known:
        return given[2] if len(given) > 2 else given[1]
    return given[0]


# Numbers and chemistry


def measure(arguments: Arguments) -> str | None:
    """`{{height|ft=6|in=2}}`: 6 ft 2 in."""
    units = ("m", "cm", "ft", "in", "st", "lb", "lbs", "oz", "kg", "g")
    return " ".join(f"{v} {k}" for k, v in arguments.items() if k in units and v) or None


def gauge(arguments: Arguments) -> str | None:
    """`{{track gauge|1435mm}}`: 1,435 mm."""
    found = re.findall(r"([\d.,/+]+)\s*(mm|m|ftin|ft|in)", arguments.get("1", ""))
    return " ".join(f"{number(size)} {unit}" for size, unit in found) or arguments.get("1")


def chem(arguments: Arguments) -> str | None:
    """`{{chem|S|O|4|2-}}`: SO4²⁻."""
    return "".join(superscript(part) if re.fullmatch(r"\d*[-+−]", part) else part for part in places(arguments)) or None


def chem2(arguments: Arguments) -> str | None:
    """`{{chem2|SO4(2-)}}`: SO4²⁻."""
    return (
        re.sub(r"\((\d*[-+−])\)$|(?<=\w)([-+−])$", lambda m: superscript(m[1] or m[2]), arguments.get("1", "")) or None
    )


def nuclide(arguments: Arguments) -> str | None:
    """`{{nuclide|U|235}}`: uranium-235 as ²³⁵U."""
    given = places(arguments)
    return superscript(given[1]) + given[0] if len(given) > 1 and given[1].isdecimal() else "".join(given) or None


# Names and lists


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
    """`{{sclass|Iowa|battleship}}`: Iowa-class battleship."""
    given = places(arguments)
    return f"{given[0]}-class {given[1]}" if len(given) > 1 else f"{given[0]} class" if given else None


def country(arguments: Arguments) -> str | None:
    """`{{flag|USA}}`: United States."""
    given = arguments.get("name") or arguments.get("1", "")
    return codes("countries").get(given, given) or None


def country_last(arguments: Arguments) -> str | None:
    """`{{flagg|cncie|USA}}`: the country behind how it is shown."""
    given = places(arguments)
    return country({"1": given[-1]}) if given else None


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
    sign = section("money").get((arguments.get("2") or "usd").lower())
    return quantities.money(inert(sign), {"1": arguments.get("1", "")}) if sign else arguments.get("1")


def if_given(arguments: Arguments) -> str:
    """`{{#if:x|then|else}}`."""
    return arguments.get("2", "") if arguments.get("1") else arguments.get("3", "")


def if_equal(arguments: Arguments) -> str:
    """`{{#ifeq:a|b|then|else}}`."""
    return arguments.get("3", "") if arguments.get("1", "") == arguments.get("2", "") else arguments.get("4", "")


def _first(change: Callable[[str], str]) -> Callable[[Arguments], str | None]:
    return lambda arguments: change(arguments["1"]) if arguments.get("1") else None


RENDERERS: Mapping[str, Callable[[Arguments], str | None]] = {
    "as_of": when.as_of,
    "bible": bible,
    "bullets": bullets,
    "age": when.age,
    "century": when.century,
    "chem": chem,
    "chem2": chem2,
    "chinese": chinese,
    "circa": when.circa,
    "convert": quantities.convert,
    "convert_short": lambda arguments: quantities.convert(arguments, short=True),
    "country": country,
    "country_last": country_last,
    "currency": amount,
    "date": when.date,
    "dates": when.dates,
    "duration": when.duration,
    "fraction": quantities.fraction,
    "gauge": gauge,
    "harvard": harvard,
    "if_equal": if_equal,
    "if_given": if_given,
    "interlanguage": interlanguage,
    "items": items,
    "joined": lambda arguments: "".join(places(arguments)),
    "junction": junction,
    "keys": lambda arguments: "+".join(places(arguments)),
    "korean": korean,
    "langx": langx,
    "last": last,
    "lower": _first(str.lower),
    "lower_first": _first(lambda text: text[:1].lower() + text[1:]),
    "measure": measure,
    "music": music,
    "month": _first(when.month),
    "nihongo": nihongo,
    "nihongo3": lambda arguments: nihongo(arguments, romaji_first=True),
    "nuclide": nuclide,
    "number": quantities.grouped,
    "ordinal": when.ordinal,
    "percentage": quantities.percentage,
    "power": _first(lambda text: "×10" + superscript(text)),
    "power10": _first(lambda text: "10" + superscript(text)),
    "quotation": quotation,
    "ship": any_ship,
    "ship_class": ship_class,
    "sic": sic,
    "spaces": lambda arguments: " ",
    "superscript": _first(superscript),
    "tag": tag,
    "upper": _first(str.upper),
    "upper_first": _first(lambda text: text[:1].upper() + text[1:]),
    "value": quantities.value,
}
