"""How a command ends: one line for every error and every interruption, and the exit code that belongs to it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from pydantic import ValidationError

from ckl_bench import ranks
from ckl_bench.errors import OUT_OF_MEMORY, CklError, UserError, broken, expected, out_of_memory, printable
from ckl_bench.storage.stops import on_stops


def quiet_others() -> None:
    """Of several processes let the first one alone be heard; what ends them all, one of them tells."""
    if ranks.started()[0] > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives


def to_the_end(command: Callable[[], Any], typed: Sequence[str]) -> NoReturn:
    """Call a command, which was typed so, and leave Python as it ends (design, section 7).

    An error that is not ours, not of usage, memory or the disk, is raised as it is: a fault, to be reported.
    """
    asked: list[int] = []  # signals to stop: whatever a library makes of one, it is no error

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt  # all are polite requests to stop, as Ctrl-C is

    _on_signals(stop)
    try:
        _somewhere()
        code = command()
        ranks.leave()  # behind the last of what may be several runs
        if sys.stdout is not None:  # it was closed by whoever started this
            sys.stdout.flush()  # a full disk is to be heard of here, not while Python shuts down
    except KeyboardInterrupt:
        _interrupted(typed)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    except Exception as error:
        if asked:
            _interrupted(typed)
        if isinstance(error, CklError):
            _fail(str(error), error.exit_code)
        message = getattr(error, "format_message", None)  # typer's own, of usage, whichever click it is built on
        if isinstance(error.__cause__, ValidationError) and getattr(error, "param", None) is not None:
            _fail(_wrong_value(error, error.__cause__), 2)
        if message is not None:
            _fail(message() or "see ckl-bench --help", 2)
        if isinstance(error, UnicodeEncodeError) and error.reason.startswith("surrogates"):  # of a path, typed or found
            around = error.object[max(error.start - 60, 0) : error.end + 20]
            _fail(
                f"a name is not UTF-8 ('...{around}...'); rename what is called so, then run the same command again", 2
            )
        if out_of_memory(error):
            _fail(OUT_OF_MEMORY, 1)
        if isinstance(error, OSError):
            named = f" ({error.filename})" if error.filename else ""
            _fail(f"{error.strerror or error}{named}; mend that, and run the same command again", 1)
        sys.stderr = sys.__stderr__
        raise
    if code == 130:  # typer has caught a Ctrl-C itself
        _interrupted(typed)
    _leave(code if isinstance(code, int) else 0)


def _wrong_value(error: Any, why: ValidationError) -> str:
    """What was given to an option that wants something else; typer leaves it out."""
    return f"{error.param.opts[-1]} {why.errors()[0]['input']}: {expected(why)}"


def _somewhere() -> None:
    """UserError where the current folder has been removed: whatever is relative to it has no place any more."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the folder you are in does not exist any more; cd to another one") from error


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    if threading.current_thread() is threading.main_thread():
        on_stops(handler)


def _interrupted(typed: Sequence[str]) -> NoReturn:
    again = shlex.join(["ckl-bench", *(word for word in typed if word != "--fresh")])
    _fail("interrupted; run the same command again to go on:", 130, again)


def _fail(message: str, code: int, again: str = "") -> NoReturn:
    """One line on stderr; a terminal gets it broken between words, but the command to type `again` in one piece."""
    _on_signals(signal.SIG_IGN)  # one interruption is one line
    with suppress(OSError, ValueError, AttributeError):  # a closed or full stdout has nothing more to say
        sys.stdout.flush()
    if not ranks.said_first("an error"):
        _leave(code)
    if ranks.started()[0] > 0:
        sys.stderr = sys.__stderr__
    if sys.stderr is not None:
        text = broken("error: " + printable(" ".join(message.split())), sys.stderr)
        last = ("\n  " if sys.stderr.isatty() else " ") + printable(" ".join(again.split())) if again else ""
        print(text + last, file=sys.stderr)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """There is nothing left to stop, and Python's shutting down is no place to raise an exception in."""
    _on_signals(signal.SIG_IGN)
    raise SystemExit(code)
