"""Worker processes that end with the process they work for, however that one ends."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process

from ckl_bench.storage.stops import STOPS


def workers() -> ProcessPoolExecutor:
    """One process a core."""
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    for number in STOPS:
        if number != signal.SIGTERM:  # which is how the pool itself ends them
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C and a hangup reach the whole group; the parent decides
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End with the parent: a killed one cannot say so, and the queue of work never closes by itself."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
