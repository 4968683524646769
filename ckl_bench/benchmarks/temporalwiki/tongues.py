"""Templates of words in other languages -> their words: `langx`, `nihongo`, `zh`, links to other wikis."""

from __future__ import annotations

import re

from .quantities import Arguments, places
from .tables import codes

_LATIN = re.compile(r"[\W\d_A-Za-zÀ-ɏḀ-ỿ]+")
_YES = frozenset(["1", "y", "yes", "on", "true"])


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
    meaning = arguments.get("translation") or arguments.get("lit") or arguments.get("4", "")
    if not meaning and romanized == arguments.get("3") and _LATIN.fullmatch(text):
        romanized, meaning = "", romanized  # what is written in Latin letters is not romanized: it is what it means
    if romanized and romanized != "-":
        shown += f", romanized: {romanized}"
    return shown + (f", lit. ‘{meaning}’" if meaning else "")


def last(arguments: Arguments) -> str | None:
    """`{{transl|ar|ALA|x}}`: the last of the places."""
    found = places(arguments)
    return found[-1] if found else arguments.get("text")


def chinese(arguments: Arguments) -> str | None:
    """`{{zh|s=...|p=...}}`: every form with its name."""
    names = {
        "c": "Chinese: ", "s": "simplified Chinese: ", "t": "traditional Chinese: ", "p": "pinyin: ", "zhu": "Zhuyin: ",
        "tp": "Tongyong Pinyin: ", "w": "Wade–Giles: ", "j": "Jyutping: ", "cy": "Cantonese Yale: ",
        "sl": "Sidney Lau: ", "poj": "Pe̍h-ōe-jī: ", "tl": "Tâi-lô: ", "l": "lit. ", "tr": "transl. ",
    }  # fmt: skip
    marked = {key: f"‘{value}’" if key == "l" else value for key, value in arguments.items() if key in names and value}
    bare = arguments.get("labels") == "no"
    return "; ".join(v if bare else names[k] + v for k, v in marked.items()) or arguments.get("1")


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


def interlanguage(arguments: Arguments) -> str | None:
    """`{{ill|Name|de}}`, or the old `{{ill|de|Name}}`: the name, as it is shown."""
    shown = arguments.get("lt") or arguments.get("text") or arguments.get("en", "")
    given, known = places(arguments), codes("languages")
    if not shown and given:
        old = len(given) > 1 and given[0] in known and given[1] not in known
        shown = given[0] if not old else given[2] if len(given) > 2 else given[1]
    return f'"{shown}"' if shown and arguments.get("quotes", "").lower() in _YES else shown or None
