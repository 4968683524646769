"""A template and its arguments -> the words that a reader sees, by the table `inline_templates.toml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from itertools import chain

from .markup import GONE, inert
from .quantities import Arguments, money
from .renderers import LOCAL, RENDERERS, ship
from .tables import codes, layers, section
from .tongues import langx

Shown = Callable[[Arguments], str | None]
_NAMED = re.compile(r"\s*([^=<>\[\]{}]*?)\s*=(.*)", re.S)
_KEY = 40  # characters of an argument's name at most: Python reads no number of thousands of digits
_FIELD = re.compile(r"\{([^{}]+)\}")
_GROUP = re.compile(r"<([^<>]*)>")
# What may stand before a template's name and changes nothing: its namespace, and when it is to be read.
_BEFORE = re.compile(
    r"(?:(?:template|vorlage|modèle|plantilla|sjabloon|szablon|predefinição|mall|шаблон|subst|safesubst)\s*:\s*)+", re.I
)


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


def expand(given: str, parts: list[str], language: str = "en") -> str | None:
    """The words of a template; `GONE` for one that has none in the sentence, None for one that the table has not."""
    if ":" in given:
        given = given.strip()
        if before := _BEFORE.match(given):
            given = given[before.end() :]
        head, colon, first = given.partition(":")
        function = _shown(language).get(head.strip().lower()) if colon else None
        if function is not None:  # formatnum:3003, lc:x, #if:x
            parts = [f"1={first.strip()}", *(f"{i}={part}" for i, part in enumerate(parts, 2))]
            return _words(function, parts)
        shown = _of.__wrapped__(given, language)
    else:
        shown = _of(given, language)
    return shown if shown is None or isinstance(shown, str) else _words(shown, parts)


def _words(shown: Shown, parts: list[str]) -> str | None:
    words = shown(arguments_of(parts))
    return GONE if words == "" else words


@lru_cache(maxsize=1 << 14)
def _of(given: str, language: str) -> Shown | str | None:
    """What shows a template of a name as it is written; `GONE` for one without words, None for one that is unknown."""
    name = " ".join(given.lower().replace("_", " ").split())
    if name in _dropped(language):
        return GONE
    shown = _shown(language).get(name) or _by_form(name, language)
    return GONE if shown is None and _is_dropped(name, language) else shown


def _by_form(name: str, language: str) -> Shown | None:
    """Templates whose name holds an argument: `lang-fr`, `script/Hebrew`, `USA`, `HMS`."""
    if name.startswith("lang-") and name[5:]:
        return lambda arguments: langx({**_moved(arguments), "1": name[5:]})
    if name in _ships():
        return lambda arguments: ship(_ships()[name], arguments)
    if name in section("money"):
        return lambda arguments: inert(section("money")[name]) + money("", arguments) if arguments else None
    if len(name) == 3 and name.upper() in codes("countries"):
        shown = LOCAL["country"]
        return lambda arguments: shown({**_moved(arguments), "1": name.upper()}, language)
    return next((shown for head, shown in _beginnings(language).items() if name.startswith(head)), None)


def _moved(arguments: Arguments) -> dict[str, str]:
    """Arguments with those that have a place one place further."""
    return {str(int(key) + 1) if key.isdecimal() else key: value for key, value in arguments.items()}


@cache
def _ships() -> Mapping[str, str]:
    """What stands before a ship's name, by template: `HMS`, and longer ones (`GS`: German submarine)."""
    data = section("ships")
    return {**{prefix.lower(): prefix for prefix in data["prefixes"].split()}, **data["longer"]}


@cache
def _dropped(language: str) -> frozenset[str]:
    return frozenset(name.replace("_", " ") for text in layers("dropped", "names", language) for name in text.split())


def _is_dropped(name: str, language: str) -> bool:
    return name.startswith(_ends("prefixes", language)) or name.endswith(_ends("suffixes", language))


@cache
def _ends(kind: str, language: str) -> tuple[str, ...]:
    return tuple(chain(*layers("dropped", kind, language)))


@cache
def _shown(language: str) -> Mapping[str, Shown]:
    return {name: _compiled(words, language) for name, words in section("show", language).items()}


@cache
def _beginnings(language: str) -> Mapping[str, Shown]:
    return {name: _compiled(words, language) for name, words in section("beginnings", language).items()}


def _compiled(words: str, language: str) -> Shown:
    if words.startswith("@"):
        name = words[1:]
        if name in RENDERERS:
            return RENDERERS[name]
        shown = LOCAL[name]
        return lambda arguments: shown(arguments, language)
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
