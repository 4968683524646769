"""What is heard of a run from where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

# lost: whatever ran it is gone without a word (killed, a node that went away). busy: another process is at this run.
# stopped: saved and ended since something asked it to.
State = Literal["running", "done", "failed", "busy", "stopped", "lost"]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """How a run stands: what it told last, or how it ended."""

    state: State
    stage: str = ""
    epoch: int = 0
    epochs: int = 0
    measured: str = ""  # the newest scores in words, as on the progress line
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # probe set -> accuracy, nll (nats)
    left: float | None = None  # seconds, at the pace since it began or went on
    error: str = ""


Tell = Callable[[Heard], None]
