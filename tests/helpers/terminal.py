"""A command whose stderr is a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

MAIN = "import sys\nsys.argv[0] = 'ckl-bench'\nfrom ckl_bench.cli.app import main\nmain()"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(*words: object, cwd: Path, columns: int = 80) -> tuple[int, str, str]:
    """Run `ckl-bench WORDS`: its exit code, its stdout (a pipe), and all that a terminal got as its stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=cwd,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    got = b""
    try:
        while part := os.read(ours, 65536):
            got += part
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    out, _ = child.communicate()
    return child.returncode, out.decode(), got.decode()


def frames(got: str) -> list[str]:
    """What stood in a line of the terminal at one time or another, without colours."""
    return [text for text in re.split(r"[\r\n]+", ESCAPES.sub("", got)) if text.strip()]
