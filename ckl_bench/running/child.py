"""The process of one run of a sweep: `python -m ckl_bench.running.child FILE`, with the task on its stdin.

It tells how far it is through FILE. Its stdin stays open as long as whoever started it lives: at its end the run is
saved and stopped, as by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from pathlib import Path

from ckl_bench.running.files import Postbox
from ckl_bench.running.task import TASK
from ckl_bench.running.work import work


def _read_line() -> bytes:
    """A line of stdin, without Python's buffer: a thread that waits in there would not let the interpreter end."""
    line = b""
    while not line.endswith(b"\n") and (part := os.read(0, 65536)):
        line += part
    return line


def _end_with_parent() -> None:
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Read the task, and do it."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    post = Postbox(Path(sys.argv[1]))
    task = TASK.validate_json(_read_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    post.tell(work(task, post.tell))


if __name__ == "__main__":
    main()
