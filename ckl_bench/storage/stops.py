"""The signals that ask for a stop: Ctrl-C, SIGTERM, and the notices of preemption that job schedulers send."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None

# SIGHUP: the terminal or the session is gone; SIGUSR1: the machine will be taken away (sbatch --signal=USR1@60).
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]


def on_stops(handler: Handler) -> dict[int, Handler]:
    """Let a handler answer every signal that asks for a stop; what answered before, for `put_back`.

    A SIGHUP that is ignored stays so: `nohup` asks for that. Main thread only.
    """
    before = {number: signal.getsignal(number) for number in STOPS}
    hangup = getattr(signal, "SIGHUP", None)
    before = {n: old for n, old in before.items() if not (n == hangup and old is signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before


def put_back(before: dict[int, Handler]) -> None:
    """Let each signal be answered as it was."""
    for number, handler in before.items():
        signal.signal(number, handler)
