"""Templates of dates and times -> their words, as English Wikipedia writes them."""

from __future__ import annotations

import re
from datetime import date as date_

from .quantities import Arguments, places

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def month(text: str) -> str:
    """The name of a month's number or short form; other words as they are."""
    if re.fullmatch(r"[0-9]{1,2}", text) and 0 < int(text) < 13:
        return _MONTHS[int(text) - 1]
    short = text.rstrip(".").lower()
    return next((name for name in _MONTHS if short in (name[:3].lower(), name[:4].lower())), text)


def _day_first(arguments: Arguments) -> bool:
    return bool(arguments.get("df")) and arguments["df"].lower() not in ("n", "no", "us")


def _written(year: str, number: str, day: str, day_first: bool) -> str:
    name, day = month(number), day.lstrip("0")
    if not name:
        return year
    if not day:
        return f"{name} {year}"
    return f"{day} {name} {year}" if day_first else f"{name} {day}, {year}"


def date(arguments: Arguments) -> str | None:
    """`{{birth date|1815|12|10|df=y}}` and the like: the first date of year, month and day; other forms as written."""
    given = places(arguments)
    if not given:
        return None
    if iso := re.fullmatch(r"(\d{4})-(\d\d?)-(\d\d?)", given[0]):
        return _written(iso[1], iso[2], iso[3], _day_first(arguments) or "dmy" in given[1:])
    if not re.fullmatch(r"-?\d{1,4}", given[0]):
        return given[0]
    if given[1:2] and not re.fullmatch(r"0?[1-9]|1[0-2]|[^\W\d]{3,9}", given[1]):
        return given[0]
    day = given[2] if len(given) > 2 and re.fullmatch(r"0?[1-9]|[12]\d|3[01]", given[2]) else ""
    return _written(given[0], given[1] if len(given) > 1 else "", day, _day_first(arguments))


def dates(arguments: Arguments) -> str | None:
    """`{{start and end dates|y|m|d|y|m|d}}`: both, with a dash."""
    given = places(arguments)
    if len(given) < 6:
        return date(arguments)
    both = (_written(given[i], given[i + 1], given[i + 2], _day_first(arguments)) for i in (0, 3))
    return " – ".join(both)


def as_of(arguments: Arguments) -> str | None:
    """`{{as of|2014|3|5|lc=y}}`: as of 5 March 2014."""
    given = places(arguments)
    if arguments.get("alt"):
        return arguments["alt"]
    if not given:
        return None
    year, number, day = (*given, "", "")[:3]
    when = _written(year, number, day, arguments.get("df", "").lower() != "us")
    words = "" if arguments.get("bare") else "Since " if arguments.get("since") else "As of "
    words += f"{arguments['pre']} " if arguments.get("pre") else ""
    words = words if not arguments.get("lc") else words.lower()
    return words + when + arguments.get("post", "")


def circa(arguments: Arguments) -> str:
    """`{{circa|1050|1100}}`: c. 1050 – c. 1100."""
    given = places(arguments)
    return " – ".join(f"c. {when}" for when in given) if given else "c."


def ordinal(arguments: Arguments) -> str | None:
    """`{{ordinal|2}}`: 2nd."""
    given = arguments.get("1", "")
    if not given.isdecimal():
        return given or "th"
    end = "th" if given[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(given[-1], "th")
    return given + end


def age(arguments: Arguments) -> str | None:
    """`{{age|1950|5|20|2000|1|1}}`: 49; None where the second date, today's, is not said."""
    given = places(arguments)
    if len(given) not in (2, 6) or not all(re.fullmatch(r"\d{1,4}", value) for value in given):
        return None
    half = len(given) // 2
    born, then = [*map(int, given[:half])], [*map(int, given[half:])]
    years = then[0] - born[0] - (then[1:] < born[1:])
    return str(years) if years >= 0 else None


def _days(arguments: Arguments) -> tuple[date_, date_] | None:
    """The two days of year, month and day that are given; None where the second, today, is not said."""
    given = places(arguments)
    if len(given) < 6 or not all(re.fullmatch(r"[0-9]{1,4}", value) for value in given[:6]):
        return None
    numbers = [int(value) for value in given[:6]]
    try:
        return date_(*numbers[:3]), date_(*numbers[3:])
    except ValueError:
        return None


def age_in_days(arguments: Arguments) -> str | None:
    """`{{age in days|1950|5|6|1950|7|8}}`: 63."""
    both = _days(arguments)
    return f"{(both[1] - both[0]).days:,}".replace("-", "−") if both else None


def age_and_days(arguments: Arguments) -> str | None:
    """`{{age in years and days|1950|5|6|1960|7|8}}`: 10 years, 63 days."""
    both = _days(arguments)
    if both is None or both[1] < both[0]:
        return None
    first, second = both
    years = second.year - first.year - ((second.month, second.day) < (first.month, first.day))
    year = first.year + years
    try:
        last = first.replace(year=year)
    except ValueError:  # 29 February of a year that has none
        last = date_(year, 3, 1)
    shown = [(years, "year"), ((second - last).days, "day")]
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in shown if n) or "0 days"


def century(arguments: Arguments) -> str | None:
    """`{{century|5|BC}}`: 5th century BC."""
    head = ordinal(arguments)
    return f"{head} century" + (f" {arguments['2']}" if arguments.get("2", "").upper() in ("BC", "BCE") else "")


def decade(arguments: Arguments) -> str | None:
    """`{{decade|1987}}`: 1980s."""
    given = arguments.get("1", "")
    return f"{given[:-1]}0s" if re.fullmatch(r"[0-9]{2,4}", given) else given or None


def duration(arguments: Arguments) -> str | None:
    """`{{duration|h=1|m=3|s=20}}`: 1:03:20."""
    parts = [arguments.get(name) or arguments.get(place, "") for name, place in (("h", "1"), ("m", "2"), ("s", "3"))]
    if not parts[0]:
        parts = parts[1:]
    return ":".join(p.zfill(2) if i else p or "0" for i, p in enumerate(parts)) if any(parts) else None
