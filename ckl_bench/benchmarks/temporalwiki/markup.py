"""Marks of wikitext that are no templates, links or tables: comments, tags, bold and italics, and what stands for them.

While a text is worked on, a character that would be read as markup but is not (out of `<nowiki>` or a template's own
words) is held in a private-use character; `GONE` stands where something was that a reader does not read, so that the
spaces and brackets around it can go too. Both are taken out of the input first.
"""

from __future__ import annotations

import html
import html.entities
import re

from .tables import section

_BASE = 0xE000  # + the character's number
GONE = "\ue100"
_HELD = re.compile("[\ue000-\ue0ff]")
_FOREIGN = re.compile("[\ue000-\ue1ff\U000f0000-\U000fffff]")
_INERT = {ord(c): _BASE + ord(c) for c in "[]{}|<>'=#*:;!&_~-/"}
_SPLITS = {ord(c): _BASE + ord(c) for c in "|="}
# Tags whose content is not prose; those that end in their own name alone, as MediaWiki reads them.
_HIDDEN = (
    "ref references gallery math chem ce timeline syntaxhighlight source pre score imagemap graph mapframe maplink "
    "hiero templatestyles section indicator includeonly inputbox categorytree templatedata rss"
)
_OPEN = re.compile(rf"<(?:!--|(nowiki|{_HIDDEN.replace(' ', '|')})\b([^<>]*)>)", re.I)
_SIMPLE = re.compile(r"[\w\s+\-−=<>().,|/°′″±×·÷∞≤≥≠≈→←∈∪∩⊂⊆∀∃∑∏∫√∂∇⋅…⁺⁻]{1,40}")
_COMMAND = re.compile(r"\\([A-Za-z]+|[,;:! %])")
_WORDED = re.compile(r"\\(?:mathrm|text|mathit|mathbf|mathbb|mathcal|operatorname|textstyle|rm|bf)\s*\{([^{}\\]*)\}")
_RAISED = re.compile(r"\^(?:\{\s*([-+−]?\d+[-+−]?)\s*\}|(\d))")
_LOWERED = re.compile(r"_(?:\{\s*([\w,+-]+)\s*\}|(\w))")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)\b[^<>]*>")
_UNSEEN = re.compile(r"<(span|div)\b[^<>]*display:\s*none[^<>]*>[^<>]*</\1\s*>", re.I)
_POWER = re.compile(r"<sup(?:\s[^<>]*)?>\s*([-+−–]?\d*[-+−]?)\s*</sup\s*>", re.I)
_SUPERSCRIPT = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
_BLOCKS = frozenset(
    [
        "p",
        "div",
        "blockquote",
        "li",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "center",
        "tr",
        "table",
        "caption",
        "hr",
        "poem",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    ]
)
_SPACES = frozenset(["br", "td", "th", "rt"])
_INLINE = frozenset(
    [
        "span",
        "small",
        "big",
        "sub",
        "sup",
        "i",
        "b",
        "u",
        "s",
        "strike",
        "del",
        "ins",
        "em",
        "strong",
        "code",
        "tt",
        "kbd",
        "samp",
        "var",
        "abbr",
        "bdi",
        "bdo",
        "cite",
        "q",
        "ruby",
        "rb",
        "rp",
        "rtc",
        "wbr",
        "font",
        "mark",
        "time",
        "data",
        "dfn",
        "noinclude",
        "onlyinclude",
        "section",
        "translate",
        "languages",
        "nowiki",
        "references",
        "templatestyles",
    ]
)
_QUOTES = re.compile(r"'{2,}")
_UNSHOWN = re.compile("[\u00ad\u200b\u200e\u200f\u2060\u2066-\u2069\ufeff]")  # soft hyphens, marks of direction
_ABOVE = re.compile(r"<rp>\s*([(（])\s*</rp>\s*<rt\b[^<>]*>([^<>]*)</rt>\s*<rp>\s*([)）])\s*</rp>", re.I)


def prepared(text: str) -> str:
    """Text without the characters that are used to mark places in it."""
    return _FOREIGN.sub("", text)


def inert(text: str) -> str:
    """Text whose characters are read as they are, not as markup."""
    return text.translate(_INERT)


def unsplit(text: str) -> str:
    """Text that may stand in an argument: what is in it neither parts arguments nor names one."""
    return text.translate(_SPLITS) if "|" in text or "=" in text else text


def plain(text: str) -> str:
    """A finished line: entities as their characters, held characters as they are, single spaces."""
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    if not text.isascii():
        text = _UNSHOWN.sub("", text)
    return " ".join(_HELD.sub(lambda m: chr(ord(m[0]) - _BASE), text).split())


def _character(match: re.Match[str]) -> str:
    """An entity's character; what only begins like one (`&notes;`) stays as it is written."""
    entity = match[0]
    return html.unescape(entity) if entity[1] == "#" or entity[1:] in html.entities.html5 else entity


def superscript(digits: str) -> str:
    """A power or a charge in characters of its own, so that 10 to the 6th is not read as 106."""
    return digits.translate(_SUPERSCRIPT)


def hide(text: str) -> str:
    """Text without comments (an unclosed one hides the rest) and tags whose content is not read; `nowiki` as it is."""
    kept, at, unclosed = [], 0, set()
    match = _OPEN.search(text)
    while match:
        name, attributes = (match[1] or "").lower(), match[2] or ""
        kept.append(text[at : match.start()])
        at = match.end()
        if not name:
            end = text.find("-->", at)
            at = end + 3 if end >= 0 else len(text)
        elif attributes.rstrip().endswith("/"):
            kept.append(GONE)
        else:
            close = None if name in unclosed else _closing(name).search(text, at)
            if close is None:
                unclosed.add(name)
                kept.append(match[0])
            else:
                kept.append(_content(name, attributes.lower(), text[at : close.start()]))
                at = close.end()
        match = _OPEN.search(text, at)
    return "".join([*kept, text[at:]])


def _content(name: str, attributes: str, content: str) -> str:
    if name == "nowiki" or (name in ("syntaxhighlight", "source") and "inline" in attributes.split()):
        return inert(_ENTITY.sub(_character, content).replace("\n", " "))
    if name in ("math", "chem", "ce") and _SIMPLE.fullmatch(shown := formula(content)):
        return inert(shown.strip())
    return GONE


def formula(content: str) -> str:
    """A formula of LaTeX with what its simple commands show; what it holds beyond them is left."""
    if "\\" in content:
        content = _WORDED.sub(r"\1", content)
        content = _COMMAND.sub(lambda m: section("math").get(m[1], m[0]), content)
    content = _RAISED.sub(lambda m: superscript(m[1] or m[2]), content)
    return _LOWERED.sub(lambda m: m[1] or m[2], content)


_CLOSING: dict[str, re.Pattern[str]] = {}


def _closing(name: str) -> re.Pattern[str]:
    if name not in _CLOSING:
        _CLOSING[name] = re.compile(rf"</{name}\s*>", re.I)
    return _CLOSING[name]


def untag(text: str) -> str:
    """Text without tags: those of blocks end a line, `br` is a space; what is no tag of HTML stays as it is read."""
    if "none" in text:
        text = _UNSEEN.sub(GONE, text)
    if "<rp" in text or "<RP" in text:
        text = _ABOVE.sub(r" \1\2\3", text)
    text = _POWER.sub(lambda m: superscript(m[1]), text)
    return _TAG.sub(_tag, text)


def _tag(match: re.Match[str]) -> str:
    name = match[1].lower()
    if name in _SPACES:
        return " "
    if name == "q":
        return '"'
    return "\n" if name in _BLOCKS else "" if name in _INLINE else match[0]


def unquote(line: str) -> str:
    """A line without marks of bold and italics, apostrophes beside them kept (as MediaWiki's `doQuotes`)."""
    parts = _QUOTES.split(line)
    runs = [len(run) for run in _QUOTES.findall(line)]
    for i, length in enumerate(runs):  # more than five, or four: the first ones are apostrophes
        surplus = length - 5 if length > 5 else int(length == 4)
        parts[i] += "'" * surplus
        runs[i] -= surplus
    bold, italic = sum(run in (3, 5) for run in runs), sum(run in (2, 5) for run in runs)
    if bold % 2 and italic % 2:
        at = _apostrophe(parts, runs)
        if at is not None:
            parts[at] += "'"
    return "".join(parts)


def _apostrophe(parts: list[str], runs: list[int]) -> int | None:
    """Which of the marks of bold is one of italics behind an apostrophe, where both are left open."""
    single = word = space = None
    for i, run in enumerate(runs):
        if run == 3:
            before = parts[i]
            if before[-1:] == " ":
                space = i if space is None else space
            elif before[-2:-1] == " ":
                single = i if single is None else single
            else:
                word = i if word is None else word
    return next((at for at in (single, word, space) if at is not None), None)
