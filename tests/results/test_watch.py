"""`report --watch`, asked over HTTP as a browser does."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from ckl_bench.records import write_record
from conftest import Command
from helpers.runs import KEPT, LEARNED, record


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on an empty folder, and its address."""
    words = ["-m", "ckl_bench", "report", "--watch", "--port", "0", "--output", "runs"]
    (tmp_path / "runs" / "records").mkdir(parents=True)
    (tmp_path / "runs" / "secret.txt").write_text("nobody's business")
    child = subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    ends = Timer(240, child.kill)  # so that nobody waits for a line that never comes
    ends.start()
    first = child.stdout.readline()
    found = re.match(r"http://127\.0\.0\.1:\d+/", first)
    assert found, first + str(child.stderr and child.stderr.read())
    yield child, found[0]
    ends.cancel()
    child.kill()
    child.communicate()


def get(address: str, **headers: str) -> str:
    with urlopen(Request(address, headers=headers), timeout=30) as answer:
        return str(answer.read().decode())


def wait_for(address: str, text: str) -> str:
    end = time.monotonic() + 120
    while text not in (page := get(address)):
        assert time.monotonic() < end, page[:2000]
        time.sleep(0.2)
    return page


def status(address: str, **headers: str) -> int:
    with pytest.raises(HTTPError) as refused:
        get(address, **headers)
    return refused.value.code


def test_a_record_that_comes_in_appears(served: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    child, address = served
    waiting = get(address)
    assert "There is no finished run yet" in waiting
    first = get(f"{address}version")
    assert f'!== "{first}"' in waiting  # with which the page finds out that there is another
    write_record(tmp_path / "runs", record(LEARNED, KEPT, method="first-stack"))
    page = wait_for(address, "first-stack")
    assert get(f"{address}version") != first
    assert f'!== "{get(f"{address}version")}"' in page
    assert "connect-src 'self'" in page
    assert "connect-src" not in (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    damaged = tmp_path / "runs" / "records" / "0000.json"
    damaged.write_text("{")
    assert child.stdout is not None
    while "the page stays as it was" not in (line := child.stdout.readline()):
        assert line
    assert "first-stack" in get(address)
    damaged.unlink()
    write_record(tmp_path / "runs", record(LEARNED, KEPT, method="second-stack", seed=1))
    assert "first-stack" in wait_for(address, "second-stack")
    for path in ("secret.txt", "records/", "../secret.txt", "%2e%2e/secret.txt", "runs/report.html"):
        assert status(address + path) == 404
    assert status(address, Host="evil.example") == 403
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert err == ""
    assert out.splitlines()[-1] == f"{address}: ended"


def test_what_cannot_be_watched_is_one_line(command: Command, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = command("report", "--watch", "--output", tmp_path, "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "give another --port" in done.err
    alone = command("report", "--output", tmp_path, "--port", "8000")
    assert alone.code == 2
    assert "--port belongs to --watch" in alone.err
    both = command("report", "--output", tmp_path, "--watch", "--figures", "f")
    assert both.code == 2
    assert "--figures and --watch" in both.err
    far = command("report", "--output", tmp_path, "--watch", "--port", "70000")
    assert far.code == 2
    assert "give another --port" in far.err
