"""Our cleaned text against wikiextractor's on the same pages: similarity, and MB/s of both on one core.

python tests/perf/wikitext_text.py DUMP.xml.bz2      (needs `pip install wikiextractor`)
"""

from __future__ import annotations

import difflib
import re
import sys
import time
from pathlib import Path
from statistics import mean, median

from wikiextractor.extract import Extractor  # type: ignore[import-not-found]

from ckl_bench.benchmarks.temporalwiki.dumps import open_dump, pages
from ckl_bench.benchmarks.temporalwiki.wikitext import clean


def words(text: str) -> list[str]:
    """Words without markup of headings and lists, which the two render differently."""
    return re.findall(r"\w+", text)


def main() -> None:
    """Print similarity of words (difflib's ratio, per page) and the speed of both."""
    dump = Path(sys.argv[1])
    articles = [p for p in pages(open_dump(dump), str(dump)) if p.namespace == 0 and not p.redirect]
    size = sum(len(page.text.encode()) for page in articles) / 1e6
    start = time.perf_counter()
    ours = [clean(page.text)[0] for page in articles]
    own = time.perf_counter() - start
    start = time.perf_counter()
    theirs = []
    for page in articles:
        extractor = Extractor(page.id, page.revision, "", page.title, page.text.split("\n"))
        theirs.append("\n".join(extractor.clean_text(page.text, html_safe=False)))
    other = time.perf_counter() - start
    ratios = []
    for a, b in zip(ours, theirs, strict=True):
        ratios.append(difflib.SequenceMatcher(None, words(a), words(b), autojunk=False).ratio())
    marks = ("{{", "[[", "<ref", "|-", "'''")
    left = [sum(any(mark in text for mark in marks) for text in side) for side in (ours, theirs)]
    print(f"{len(articles)} articles, {size:.1f} MB of wikitext")
    print(f"ours           {size / own:5.2f} MB/s, {left[0]} articles with markup left")
    print(f"wikiextractor  {size / other:5.2f} MB/s, {left[1]} articles with markup left")
    print(f"words: mean similarity {mean(ratios):.3f}, median {median(ratios):.3f}; speed ratio {other / own:.2f}")


if __name__ == "__main__":
    main()
