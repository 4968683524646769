"""Our cleaned text against a second opinion and against what was before: words lost, words invented, MB/s of a core.

    python tests/perf/wikitext_text.py [--before COMMIT] [--draw 40]

Reads the excerpt of English Wikipedia under `CKL_BENCH_REFERENCE`; needs `pip install wikiextractor`, and for
`--before` what that commit's `wikitext.py` imports. Lost: words of wikiextractor's paragraphs that ours lacks, there
and in the two paragraphs behind (formulas left out, for which it has placeholders). Invented: words of ours in such a
paragraph that stand neither in its nor in the page's source, and are no unit, language or country of the table.
wikiextractor knows no inline template: what these gain and lose is read off `--draw`, which shows paragraphs that have
some, source and text.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import time
import types
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from wikiextractor.extract import Extractor  # type: ignore[import-not-found]

from ckl_bench.benchmarks.temporalwiki.dumps import Page, open_dump, pages
from ckl_bench.benchmarks.temporalwiki.tables import codes
from ckl_bench.benchmarks.temporalwiki.wikitext import clean

FILE = "ckl_bench/benchmarks/temporalwiki/wikitext.py"
KINDS = ("units", "languages", "countries")
LEAST = 8  # words of a paragraph that is compared


def words(text: str) -> list[str]:
    """Words in small letters; powers and ligatures as plain characters."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", unicodedata.normalize("NFKC", text).lower())
    return re.findall(r"[^\W_]+", plain)


def extracted(page: Page) -> str:
    """wikiextractor's text of a page."""
    extractor = Extractor(page.id, page.revision, "", page.title, page.text.split("\n"))
    return "\n".join(extractor.clean_text(page.text, html_safe=False))


def timed(articles: Sequence[Page], work: Callable[[Page], str], size: float) -> tuple[list[str], float]:
    """Texts, and megabytes of wikitext a second."""
    start = time.process_time()
    found = [work(page) for page in articles]
    return found, size / (time.process_time() - start)


def differing(source: str, ours: str, other: str) -> tuple[int, int, int]:
    """Words compared, lost and invented, over the other's paragraphs that have a counterpart in ours."""
    own = [Counter(words(line)) for line in ours.split("\n")]
    at: dict[str, list[int]] = {}
    for i, paragraph in enumerate(own):
        for word in paragraph:
            at.setdefault(word, []).append(i)
    known = set(words(source)) | set(
        words(" ".join(w for kind in KINDS for w in codes(kind).values()).replace("_", " "))
    )
    total = lost = invented = 0
    for line in other.split("\n"):
        theirs = Counter(words(re.sub(r"(?:formula|codice)_\d+", " ", line)))
        if theirs.total() < LEAST:
            continue
        total += theirs.total()
        votes = Counter(i for word in theirs for i in at.get(word, ()))
        best = max((i for i, _ in votes.most_common(5)), key=lambda i: (theirs & own[i]).total(), default=None)
        mine = own[best] if best is not None else Counter[str]()
        near = sum((own[i] for i in range(best, min(best + 3, len(own)))), Counter[str]()) if best is not None else mine
        lost += (theirs - near).total()
        invented += sum(number for word, number in (mine - theirs).items() if word not in known)
    return total, lost, invented


def before(commit: str) -> Callable[[Page], str]:
    """The cleaner as it was at a commit."""
    module = types.ModuleType("before")
    exec(subprocess.check_output(["git", "show", f"{commit}:{FILE}"], text=True), module.__dict__)
    return lambda page: str(module.clean(page.text)[0])


def draw(articles: Sequence[Page], number: int) -> None:
    """Paragraphs with a template inside, drawn by hash, beside our text of them."""
    found = []
    for page in articles:
        for line in page.text.split("\n"):
            if len(line) > 120 and line[0] not in "|{!=}*#:;[< " and "{{" in line:
                found.append((hashlib.sha256(line.encode()).hexdigest(), page.title, line))
    for _, title, line in sorted(found)[:number]:
        print(f"\n[{title}]\n{re.sub(r'<ref[^<>]*/>|<ref.*?</ref>', '', line)}\n-> {clean(line).text}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", help="commit whose cleaner is run too")
    parser.add_argument("--draw", type=int, default=0)
    options = parser.parse_args()
    dump = Path(os.environ["CKL_BENCH_REFERENCE"]) / "wikipedia" / "enwiki-pages-articles-excerpt.xml.bz2"
    articles = [p for p in pages(open_dump(dump), str(dump)) if p.namespace == 0 and not p.redirect]
    size = sum(len(page.text.encode()) for page in articles) / 1e6
    opinion, speed = timed(articles, extracted, size)
    print(f"{len(articles)} articles, {size:.1f} MB of wikitext; wikiextractor {speed:.2f} MB/s")
    ways: dict[str, Callable[[Page], str]] = {"ours": lambda page: clean(page.text).text}
    if options.before:
        ways = {"before": before(options.before)} | ways
    for name, work in ways.items():
        texts, speed = timed(articles, work, size)
        parts = [differing(p.text, a, b) for p, a, b in zip(articles, texts, opinion, strict=True)]
        total, lost, invented = (sum(part[i] for part in parts) for i in range(3))
        kept = sum(len(words(text)) for text in texts)
        print(
            f"{name:7s} {speed:5.2f} MB/s, {kept:,} words; of {total:,} words compared, a thousand has "
            f"{1000 * lost / total:.2f} lost and {1000 * invented / total:.2f} invented"
        )
    unknown = sum((clean(page.text).templates for page in articles), Counter[str]())
    print(f"unknown templates inside sentences: {unknown.total()}: {', '.join(dict(unknown.most_common(20)))}")
    draw(articles, options.draw)


if __name__ == "__main__":
    main()
