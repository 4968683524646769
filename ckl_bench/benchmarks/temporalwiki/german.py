"""Templates of German Wikipedia whose words have to be worked out (the table of German names them `@...`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .quantities import Arguments, places

_MONTHS = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]
_ABOVE = {
    **{
        "de-nn": "ü. NN",
        "de-nhn": "ü. NHN",
        "de": "ü. NHN",
        "at": "ü. A.",
        "ch": "ü. M.",
        "it": "s.l.m.",
        "es": "msnm",
    },
    **{"nl": "NAP", "be": "TAW", "pl": "n.p.m.", "cz": "n.m.", "fr": "m", "us": "m"},
}


def height(arguments: Arguments) -> str | None:
    """`{{Höhe|1234|DE-NN}}`: 1234 m ü. NN."""
    given, above = arguments.get("1", ""), _ABOVE.get(arguments.get("2", "").lower(), "")
    return " ".join(filter(None, [given, "m", "" if above == "m" else above])) if given else None


def verse(arguments: Arguments) -> str | None:
    """`{{Bibel|Joh|3|16}}`: Joh 3,16."""
    book, chapter, place = (arguments.get(key, "") for key in "123")
    return " ".join(filter(None, [book, ",".join(filter(None, [chapter, place]))])) or None


def law(sign: str, arguments: Arguments) -> str | None:
    """`{{§|5|BGB|juris}}`: § 5 BGB."""
    number = arguments.get("1", "")
    return arguments.get("text") or (f"{sign} {number} {arguments.get('2', '')}".strip() if number else None)


def day(arguments: Arguments) -> str | None:
    """`{{Datum|2000|1|2}}`: 2. Januar 2000."""
    given = places(arguments)
    if len(given) == 1 and (iso := re.fullmatch(r"(\d{4})-(\d\d?)-(\d\d?)", given[0])):
        given = [*iso.groups()]
    if len(given) < 3 or not all(re.fullmatch(r"[0-9]{1,4}", part) for part in given[:3]):
        return given[0] if given else None
    year, month, number = (int(part) for part in given[:3])
    return f"{number}. {_MONTHS[month - 1]} {year}" if 0 < month < 13 else given[0]


RENDERERS: Mapping[str, Callable[[Arguments], str | None]] = {
    "hoehe": height,
    "bibel": verse,
    "datum": day,
    "paragraph": lambda arguments: law("§", arguments),
    "artikel": lambda arguments: law("Art.", arguments),
}
