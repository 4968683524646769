"""Wikitext -> plain sentences: what a reader reads, without boxes, tables, references, files and markup."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from .languages import ENGLISH, Wiki
from .markup import GONE, hide, inert, plain, prepared, unquote, unsplit, untag
from .templates import expand

_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\n[ \t:*#]*\{\||\n[ \t]*\|\}(?!\})")
_INTERLANGUAGE = re.compile(r"(?:[a-z]{2,3}(?:-[a-z]{2,}){0,2}|be-x-old|simple|tokipona)")
_PROJECTS = frozenset(
    ["mw", "wp", "wm", "cz", "rfc", "voy", "doi", "wmf", "wmc", "rev", "osm", "oeis", "imdb", "pmid", "phab"]
)  # short prefixes that are no languages
_MAGIC = re.compile(r"__[^\W\da-z_]+(?:_[^\W\da-z_]+)*__")
_EXTERNAL = re.compile(
    r"\[(?:(?:https?|ftps?|ircs?|gopher|git|ssh|svn|worldwind):)?//[^\s\[\]<>]+[ \t]*([^\]\n]*)\]"
    r"|\[(?:mailto|news|tel|sip|sms|geo|magnet|urn|xmpp):\S+ ([^\]\n]*)\]"
)
_ADDRESS = re.compile(r"(?:https?|ftp)://[^\s<>\[\]\"|]*[^\s<>\[\]\"|.,;:!?)]")
_LEFT = re.compile(
    r"\{\{|\}\}|\[\[|\]\]|</?(?:ref|gallery|math|timeline|pre|source|syntaxhighlight|score|imagemap)\b", re.I
)
_OWN_NAME = re.compile(r"\{\{\s*(?:(?:FULL|BASE|ROOT|SUBJECT|ARTICLE)?PAGENAME|SEITENNAME)E?\s*\}\}")
_RULE = re.compile(r"-{4,}")
_UNKNOWN = 0xF0000  # + the number of a template's name
_MARK = f"[{GONE}\U000f0000-\U000fffff]"
_MARKS = re.compile(_MARK)
# The regular expressions for what stands around marks begin with a character or a set of them, which is found fast.
_EMPTY = re.compile(
    rf"\((?:[\s,;:/–—]|pronounced|pronunciation|pron\.|IPA)*{_MARK}(?:{_MARK}|[\s,;:/–—])*\)|\[\s*{_MARK}+\s*\]"
    rf"|<\s*{_MARK}+\s*>|/(?<!\w/){_MARK}+/(?!\w)"
)
_OPENED = re.compile(rf"[(\[]\s*{_MARK}")
_FIRST = re.compile(rf"(?<=[(\[])\s*{_MARK}(?:{_MARK}|[\s,;:])*")
_CLOSED = re.compile(rf"{_MARK}\s*[)\]]")
_LAST = re.compile(rf"(?:\s*[,;:])?\s*{_MARK}+\s*(?=[)\]])")
_BETWEEN = re.compile(rf"([,;]) *(?:{_MARK} *)+(?=[,;])")
_GAP = re.compile(rf"{_MARK}(?: *{_MARK})* *")


class Cleaned(NamedTuple):
    """The paragraphs of a page, one a line; how many were dropped; the unknown templates inside sentences, by name."""

    text: str
    dropped: int
    templates: Counter[str]


def clean(wikitext: str, wiki: Wiki = ENGLISH, title: str = "") -> Cleaned:
    """A page's text as a reader reads it; the title is what it calls itself by `{{PAGENAME}}`.

    Inline templates give the words that the table has for them; others go, and are counted where they stood inside a
    sentence. Malformed markup that is left costs its paragraph rather than the reader.
    """
    names: dict[str, int] = {}
    text = hide(prepared(wikitext))
    if title and "NAME" in text:
        text = _OWN_NAME.sub(lambda _: inert(title), text)
    text = _flat(text, wiki, names)
    text = _EXTERNAL.sub(lambda m: m[1] or m[2] or GONE, _MAGIC.sub("", text))
    text = untag(_ADDRESS.sub(GONE, text))
    known = list(names)
    paragraphs: list[str] = []
    templates: Counter[str] = Counter()
    dropped, in_table = 0, False
    for raw in text.split("\n"):
        line = raw.strip()
        opens = "{|" in line and line.lstrip(":*# ").startswith("{|")
        in_table = bool(line) and (in_table or opens)
        if not line or (line[0] == "=" and line.rstrip(GONE)[-1:] == "=") or not line.strip("-"):
            continue
        if line[0] == "|" or opens or (in_table and line[0] == "!") or _LEFT.search(line):
            dropped += 1
            continue
        if line[0] == "-":
            line = _RULE.sub("", line, count=1) if line.startswith("----") else line
        elif line[0] == ";":
            term, colon, meaning = line.partition(": ")
            line = f"{term.rstrip()}: {meaning}" if colon else line
        line = line.lstrip("*#:; ")
        if "''" in line:
            line = unquote(line)
        marks = _MARKS.findall(line)
        if marks:
            line = _tidy(" ".join(line.split()))  # in long runs of spaces the expressions would take their square
        line = plain(line)
        if line:
            paragraphs.append(line)
        if any(c.isalpha() for c in line):
            templates.update(known[ord(mark) - _UNKNOWN] for mark in marks if mark != GONE)
    return Cleaned("\n".join(paragraphs), dropped, templates)


def _flat(text: str, wiki: Wiki, names: dict[str, int]) -> str:
    """Text whose templates, links and tables are resolved, the innermost first; unclosed ones stay as they are.

    `parts` is what was read so far; an open mark is held by its place there, so what never closes is text already.
    """
    parts: list[str] = []
    opened: list[tuple[str, int]] = []
    counts = {"{{": 0, "[[": 0, "{|": 0}
    at, text = 0, "\n" + text
    for match in _TOKEN.finditer(text):
        token = match[0]
        parts.append(text[at : match.start()])
        at = match.end()
        kind = token[-2:]
        if kind in counts:
            opened.append((kind, len(parts)))
            counts[kind] += 1
            parts.append(token)
            continue
        wanted = {"}}": "{{", "]]": "[[", "|}": "{|"}[kind]
        if not counts[wanted] or (kind == "]]" and opened[-1][0] != "[["):
            parts.append(token)
            continue
        found = ""
        while found != wanted:
            found, start = opened.pop()
            counts[found] -= 1
        if wanted == "{|":
            resolved = "\n"
        else:
            content = "".join(parts[start + 1 :])
            resolved = _link(content, wiki) if wanted == "[[" else _template(content, names, wiki)
        del parts[start:]
        parts.append(unsplit(resolved) if opened else resolved)
    parts.append(text[at:])
    return "".join(parts)


def _template(content: str, names: dict[str, int], wiki: Wiki) -> str:
    name, *arguments = content.split("|")
    shown = expand(name, arguments, wiki.language)
    if shown is not None:
        return shown
    name = " ".join(_MARKS.sub("", name).replace("_", " ").split())
    if not name or "\n" in content.strip() or len(names) > 60_000:
        return GONE  # a box: it stands beside the text
    return chr(_UNKNOWN + names.setdefault(name[:80].lower(), len(names)))


def _link(content: str, wiki: Wiki) -> str:
    """The words of a link; nothing for files, categories and links to the same page in another language."""
    target, bar, words = content.partition("|")
    if "\n" in target:
        return f"[[{content}]]"
    target = target.strip()
    prefix, colon, rest = target.partition(":")
    if colon and prefix:
        space = " ".join(prefix.replace("_", " ").split()).lower()
        if space in wiki.hidden or (_INTERLANGUAGE.fullmatch(prefix.strip()) and space not in _PROJECTS):
            return GONE
    if words.strip():
        return words
    if bar:  # the pipe trick: the title without its namespace and what tells it from others of the name
        return re.sub(r"\s*\([^()]*\)$|,.*$", "", rest if colon else target).strip()
    return target.removeprefix(":")


def _tidy(line: str) -> str:
    """A line without its marks, and without the spaces, commas and brackets that were there for what is gone."""
    line = _EMPTY.sub(GONE, line)
    if _OPENED.search(line):
        line = _FIRST.sub("", line)
    if _CLOSED.search(line):
        line = _LAST.sub("", line)
    line = _BETWEEN.sub("", line)
    parts, at = [], 0
    for match in _GAP.finditer(line):
        text = line[at : match.start()]
        before, at = text.rstrip(" "), match.end()
        parts += [before, _between(before[-1:], text[len(before) :] + match[0], line[at : at + 2])]
    return "".join([*parts, line[at:]])


def _between(before: str, gap: str, after: str) -> str:
    """What stands for marks and the spaces around them: nothing, or one space, between words or what was spaced."""
    if " " in gap:
        next_, second = after[:1], after[1:]
        punctuation = next_ and (next_ in ",;:!?)" or (next_ == "." and not second.isalnum()))
        return "" if punctuation else " "
    unknown = gap.strip(GONE)  # 18{{x}}27 is no 1827
    return " " if unknown and before.isalnum() and after[:1].isalnum() else ""
