"""Errors that a person reads: one line, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CklError(Exception):
    """A failure of a run that is reported in one line (exit code 1)."""

    exit_code = 1


class UserError(CklError):
    """The user's input is wrong: what was given, what was expected, what to type next (exit code 2)."""

    exit_code = 2


def unknown(what: str, given: str, known: Iterable[str], hint: str = "") -> UserError:
    """The error for a name that does not exist: names the closest one, then all that do."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    listed = f" Known: {', '.join(names)}." if names else " There are none."
    return UserError(f"unknown {what} '{given}'{guess}{listed}{' ' + hint if hint else ''}")
