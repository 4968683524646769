"""A command whose stderr is a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import tempfile
import termios
import threading
from contextlib import suppress
from pathlib import Path

from helpers.children import Child, start

MAIN = "import sys\nsys.argv[0] = 'ckl-bench'\nfrom ckl_bench.cli.app import main\nmain()"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*words: object, cwd: Path, columns: int = 80) -> tuple[int, str, str]:
    """Run `ckl-bench WORDS`: its exit code, its stdout (a file), and all that a terminal got as its stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with tempfile.TemporaryDirectory() as logs:
        child = start(words, cwd, Path(logs), before=_sits_at_it, err=Path(os.ttyname(theirs)))
        ended = threading.Thread(target=_close_behind, args=(child, theirs))
        ended.start()
        got = b""
        with suppress(OSError):  # the other side is closed
            while part := os.read(ours, 65536):
                got += part
        os.close(ours)
        ended.join()
        code = child.wait()
        assert code is not None
        return code, child.out.read_text(encoding="utf-8"), got.decode()


def _sits_at_it() -> None:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        os.environ.pop(name, None)
    os.environ["TERM"] = "xterm-256color"


def _close_behind(child: Child, side: int) -> None:
    child.wait()  # until then the terminal has to stay: the child opens it after it was started
    os.close(side)


def frames(got: str) -> list[str]:
    """What stood in a line of the terminal at one time or another, without colours."""
    return [text for text in re.split(r"[\r\n]+", ESCAPES.sub("", got)) if text.strip()]
