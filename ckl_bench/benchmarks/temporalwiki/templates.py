"""A template and its arguments -> the words that a reader sees, by the table `inline_templates.toml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache

from .markup import GONE, inert
from .quantities import Arguments, money
from .renderers import RENDERERS, country, langx, ship
from .tables import codes, section

Shown = Callable[[Arguments], str | None]
_NAMED = re.compile(r"\s*([^=<>\[\]{}]*?)\s*=(.*)", re.S)
_KEY = 40  # characters of an argument's name at most: Python reads no number of thousands of digits
_FIELD = re.compile(r"\{([^{}]+)\}")
_GROUP = re.compile(r"<([^<>]*)>")


def arguments_of(parts: list[str]) -> dict[str, str]:
    """Arguments by name; those without one by their place, from `1`. The last of a name counts, as in MediaWiki."""
    found, place = {}, 0
    for part in parts:
        match = _NAMED.fullmatch(part) if "=" in part else None
        if match:
            if len(match[1]) < _KEY:
                found[match[1]] = match[2].strip()
        else:
            place += 1
            found[str(place)] = part.strip()
    return found


def expand(name: str, parts: list[str]) -> str | None:
    """The words of a template; `GONE` for one that has none in the sentence, None for one that the table has not."""
    name = name.strip().lower().replace("_", " ")
    if "\n" in name or "  " in name:
        name = " ".join(name.split())
    if name in _dropped():
        return GONE
    shown = _shown().get(name)
    if shown is None:
        head, colon, first = name.partition(":")
        if colon and (shown := _shown().get(head.strip())) is not None:  # formatnum:3003, lc:x, #if:x
            parts = [f"1={first.strip()}", *(f"{i}={part}" for i, part in enumerate(parts, 2))]
        else:
            shown = _by_form(name)
    if shown is None:
        return GONE if _is_dropped(name) else None
    words = shown(arguments_of(parts))
    return GONE if words == "" else words


def _by_form(name: str) -> Shown | None:
    """Templates whose name holds an argument: `lang-fr`, `USA`, `HMS`."""
    if name.startswith("lang-") and name[5:]:
        return lambda arguments: langx({**_moved(arguments), "1": name[5:]})
    if name in _ships():
        return lambda arguments: ship(_ships()[name], arguments)
    if name in section("money"):
        return lambda arguments: inert(section("money")[name]) + money("", arguments) if arguments else None
    if len(name) == 3 and name.upper() in codes("countries"):
        return lambda arguments: country({"1": name.upper(), **{k: v for k, v in arguments.items() if k != "1"}})
    return None


def _moved(arguments: Arguments) -> dict[str, str]:
    """Arguments with those that have a place one place further."""
    return {str(int(key) + 1) if key.isdecimal() else key: value for key, value in arguments.items()}


@cache
def _ships() -> Mapping[str, str]:
    return {prefix.lower(): prefix for prefix in section("ships")["prefixes"].split()}


@cache
def _dropped() -> frozenset[str]:
    return frozenset(name.replace("_", " ") for name in section("dropped")["names"].split())


@cache
def _is_dropped(name: str) -> bool:
    data = section("dropped")
    return name.startswith(tuple(data["prefixes"])) or name.endswith(tuple(data["suffixes"]))


@cache
def _shown() -> Mapping[str, Shown]:
    return {name: _compiled(words) for name, words in section("show").items()}


def _compiled(words: str) -> Shown:
    if words.startswith("@"):
        return RENDERERS[words[1:]]
    if not _FIELD.search(words):
        fixed = inert(words)
        return lambda arguments: fixed
    return lambda arguments: _filled(words, arguments)


def _filled(words: str, arguments: Arguments) -> str | None:
    """A pattern with its arguments; None where one that it needs is not given, and the template can show no words."""
    shown, at = [], 0
    for match in _GROUP.finditer(words):
        shown.append(_fields(words[at : match.start()], arguments))
        optional = _fields(match[1], arguments)
        shown.append(optional or "")
        at = match.end()
    shown.append(_fields(words[at:], arguments))
    return None if None in shown else "".join(filter(None, shown))


def _fields(words: str, arguments: Arguments) -> str | None:
    """A part of a pattern without groups; None where an argument is not given."""
    found, at = [], 0
    for match in _FIELD.finditer(words):
        value = _field(match[1], arguments)
        if not value:
            return None
        found += [inert(words[at : match.start()]), value]
        at = match.end()
    return "".join([*found, inert(words[at:])])


def _field(field: str, arguments: Arguments) -> str:
    if "+" in field:
        start, _, comma = field.partition("+")
        first = int(start or 1)
        values = [v for k, v in arguments.items() if k.isdecimal() and int(k) >= first and v]
        return (", " if comma else " ").join(values)
    if "," in field:
        return ", ".join(arguments[key] for key in field.split(",") if arguments.get(key))
    return next((arguments[key] for key in field.split("|") if arguments.get(key)), "")
