"""Peak memory of `build temporalwiki` on a dump repeated N and 4·N times: it must not grow with the dump's length.

python tests/perf/temporal_memory.py DUMP.xml.bz2 [N=5]     (DUMP: a real pages-articles dump, the shared excerpt, say)
"""

from __future__ import annotations

import bz2
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PAGE = re.compile(rb"  <page>.*?</page>\n", re.S)
RUN = "from ckl_bench.cli.app import main; main()"


def repeat(xml: bytes, times: int, folder: Path) -> list[str]:
    """Two months of the dump's pages, `times` over, with ids and titles of their own; in the second all are edited."""
    head, articles = xml[: xml.index(b"  <page>")], PAGE.findall(xml)
    arguments = ["--wikipedia"]
    for month in (1, 2):
        path = folder / f"wiki-20240{month}01-pages-articles.xml.bz2"
        with bz2.open(path, "wb", 1) as out:
            out.write(head)
            for copy in range(times):
                for number, page in enumerate(articles):
                    page = re.sub(rb"<id>\d+</id>", b"<id>%d</id>" % (copy * 100_000 + number + 1), page, count=1)
                    page = re.sub(rb"(<revision>\s*)<id>\d+</id>", rb"\g<1><id>%d</id>" % month, page, count=1)
                    page = page.replace(b"</title>", b" (%d)</title>" % copy, 1)
                    fixed = f"\n\nThe place called Town {copy}-{number} lies in Province {number % 50}."
                    edit = f"{fixed}\n\nIn month {month} its people met at Hall {number}.</text>".encode()
                    out.write(page.replace(b"</text>", edit, 1))
            out.write(b"</mediawiki>\n")
        arguments.append(str(path))
    arguments.append("--wikidata")
    titles = [re.search(rb"<title>(.*?)</title>", page)[1].decode() for page in articles]  # type: ignore[index]
    for month in (1, 2):
        path = folder / f"wikidata-20240{month}01.json"
        with open(path, "w", encoding="utf-8") as file:
            file.write("[\n")
            for code, label in (("P276", "location"), ("P131", "province")):
                file.write(json.dumps({"id": code, "labels": {"en": {"value": label}}, "claims": {}}) + ",\n")
            names = [f"Hall {number}" for number in range(len(articles))] + [f"Province {k}" for k in range(50)]
            for number, name in enumerate(names, 1):
                file.write(json.dumps({"id": f"Q{number}", "labels": {"en": {"value": name}}}) + ",\n")
            for copy in range(times):
                for number, title in enumerate(titles):
                    hall, province = _item(number + 1), _item(len(articles) + 1 + number % 50)
                    claims = {"P131": [province], **({"P276": [hall]} if month == 2 else {})}
                    site = {"enwiki": {"title": f"{title} ({copy})"}}
                    town = {"en": {"value": f"Town {copy}-{number}"}}
                    body = {"labels": town, "sitelinks": site, "claims": claims}
                    file.write(json.dumps({"id": f"Q{10_000 + copy * 10_000 + number}", **body}) + ",\n")
            file.write("]\n")
        arguments.append(str(path))
    return arguments


def _item(number: int) -> dict[str, object]:
    value = {"value": {"entity-type": "item", "id": f"Q{number}"}}
    return {"mainsnak": {"snaktype": "value", "datavalue": value}, "rank": "normal"}


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = children.read_text().split() if children.exists() else []
    return [pid, *(found for child in own for found in _tree(int(child)))]


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def peak(arguments: list[str]) -> tuple[int, float]:
    """Peak memory in bytes of the build and its workers together (proportional set size), and its seconds."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, "build", "temporalwiki", *arguments], stdout=subprocess.DEVNULL
    )
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.2):
            most = max(most, sum(map(_resident, _tree(child.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = child.wait()
    done.set()
    watcher.join()
    assert code == 0
    return most, time.perf_counter() - start


def main() -> None:
    """Print both peaks and their ratio."""
    xml, times = bz2.decompress(Path(sys.argv[1]).read_bytes()), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    peaks = []
    for factor in (times, 4 * times):
        with tempfile.TemporaryDirectory() as folder:
            arguments = repeat(xml, factor, Path(folder))
            size = sum(len(xml) for _ in range(factor)) / 1e6
            most, seconds = peak([*arguments, "--out", f"{folder}/out", "--memory", "200", "--max-relation-share", "1"])
            peaks.append(most)
            print(
                f"{factor:3d} times, {size:6.0f} MB of XML a month: peak {most / 1e6:6.0f} MB, {seconds:5.0f} s",
                flush=True,
            )
    print(f"ratio of the peaks: {peaks[1] / peaks[0]:.2f} for four times the text")


if __name__ == "__main__":
    main()
