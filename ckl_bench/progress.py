"""Progress: one line that moves, on stderr so that stdout stays clean; notes above it; seconds per phase."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from ckl_bench.errors import broken, printable

Advance = Callable[[int], None]

T = TypeVar("T")

GAP = "  "
SHORTEST = 5  # columns of a bar that still says something
LONGEST = 24
ECHO = 2  # columns of the ^C that a terminal echoes: in the last ones it would break the line in two


def log(message: str) -> None:
    """Print one line of progress to stderr; a terminal gets it broken between words."""
    if sys.stderr is not None:
        print(broken(printable(message), sys.stderr), file=sys.stderr)


@dataclass
class Line:
    """What the one line says: a label, shortened where there is no room for it; what goes on; a bar and the time left.

    `done` of `total` units, both without meaning to the line; without a total there is neither bar nor time.
    """

    label: str
    status: str = ""
    total: float = 0.0
    done: float = 0.0

    def __post_init__(self) -> None:
        self._spinner = Spinner("dots")
        self.begin(self.total, self.done)

    def begin(self, total: float, done: float = 0.0) -> None:
        """Measure from here on: so many units, of which some were done before."""
        self.total, self.done, self._first = total, done, done
        self._start = self._last = time.monotonic()

    def advance(self, amount: float) -> None:
        """So many units more are done."""
        self.done, self._last = self.done + amount, time.monotonic()

    def draw(self) -> None:
        """Show it now rather than at the next frame, if it is on the screen."""
        if _SCREEN.live is not None and _SCREEN.live.is_started:
            _SCREEN.live.refresh()

    def left(self) -> str:
        """The time left, at the pace since `begin`; empty while there is none to go by."""
        if not self.total or self.done <= self._first:
            return ""
        pace = (self._last - self._start) / (self.done - self._first)
        seconds = pace * max(self.total - self.done, 0.0) - (time.monotonic() - self._last)
        return f"{duration(seconds)} left"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line, never wider than the terminal: the bar gives way first, then the label."""
        label, status = (printable(text).translate({9: " ", 10: " "}) for text in (self.label, self.status))
        left, room = self.left(), options.max_width - 2 - ECHO  # the spinner has two
        label = shortened(label, room - sum(cell_len(part) + len(GAP) for part in (status, left) if part))
        parts = [Text(part) for part in (label, status, left) if part]
        free = min(room - sum(part.cell_len + len(GAP) for part in parts), LONGEST)
        if self.total and free >= SHORTEST:
            bar = ProgressBar(total=self.total, completed=min(self.done, self.total), width=free)
            segments = console.render(bar, options)
            parts.insert(len(parts) - bool(left), Text.assemble(*((s.text, s.style or "") for s in segments)))
        turning = self._spinner.render(console.get_time())
        whole = Text.assemble(turning if isinstance(turning, Text) else "", " ", Text(GAP).join(parts), no_wrap=True)
        whole.truncate(options.max_width - ECHO)
        yield whole


def duration(seconds: float) -> str:
    """Seconds as `1:05`, or `2h05` from an hour on."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}" if hours else f"{minutes}:{rest:02d}"


def shortened(text: str, width: int) -> str:
    """Text of at most `width` columns: what lies in its middle gives way to an ellipsis."""
    if cell_len(text) <= width:
        return text
    keep = max(width - 1, 0)
    while keep and cell_len(text[: keep - keep // 2] + text[len(text) - keep // 2 :]) > width - 1:
        keep -= 1
    return text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :] if width > 0 else ""


class _Screen:
    """The line that is shown is the innermost one; a terminal has one place for it."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.live: Live | None = None

    def __rich__(self) -> Line | Text:
        return self.lines[-1] if self.lines else Text()


_SCREEN = _Screen()


@contextmanager
def line(label: str, total: float = 0.0) -> Iterator[Line]:
    """A line that moves while the block runs, and is gone behind it. Silent where stderr is no terminal.

    Inside of another one's block it takes its place for as long.
    """
    new = Line(label, total=total)
    _SCREEN.lines.append(new)
    try:
        if len(_SCREEN.lines) == 1 and sys.stderr is not None and sys.stderr.isatty():
            # What others print stands above the line; a stdout that goes elsewhere is left alone.
            both = sys.stdout is not None and sys.stdout.isatty()
            console = Console(stderr=True)
            with Live(_SCREEN, console=console, transient=True, redirect_stdout=both, refresh_per_second=8) as live:
                _SCREEN.live = live
                yield new
        else:
            yield new
    finally:
        _SCREEN.lines.remove(new)
        if not _SCREEN.lines:
            _SCREEN.live = None


@contextmanager
def hidden() -> Iterator[None]:
    """No line while the block runs: another program writes to the terminal."""
    live = _SCREEN.live
    if live is None:
        yield
        return
    live.stop()
    try:
        yield
    finally:
        live.start(refresh=True)


def while_waiting(label: str, items: Iterator[T]) -> Iterator[T]:
    """The items, with a line that moves while the next one is awaited, and none while it is dealt with."""
    while True:
        with line(label):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


@contextmanager
def bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    """A line with a bar over `total` units; yields a function that advances it. Silent where stderr is no terminal."""
    with line(description, total) as now:

        def advance(amount: int) -> None:
            now.advance(amount)
            now.status = f"{now.done:,.0f}/{total:,} {unit}"

        yield advance


@dataclass
class Clock:
    """Seconds per phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, function: Callable[..., T]) -> Callable[..., T]:
        """The function, with the seconds of its calls counted."""

        def counted(*given: object) -> T:
            with self.phase(name):
                return function(*given)

        return counted

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
