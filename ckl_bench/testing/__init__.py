"""The conformance suite: does a method keep the contract that makes its numbers comparable?

`ckl-bench check-method NAME|PATH` prints it; `check_method` is for a plugin's own tests. It needs no GPU, no download
and well under two minutes: a few invented documents, and two tiny models of different architectures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckl_bench.errors import CklError, UserError
from ckl_bench.stacks.plugins import canonical

from .rules import RULES
from .subject import Breach, Subject

__all__ = ["Check", "check_method"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the list: `passed` is None where an earlier failure made it pointless."""

    name: str
    passed: bool | None
    detail: str = ""  # what was found, and what to do


def check_method(what: str, methods_dir: Path | None = None) -> Iterator[Check]:
    """Check a method by name, or by the path of its file or package; yields one Check after the other.

    Raises UserError for a name or path that there is none of.
    """
    path = Path(what)
    if path.suffix == ".py" or (path / "__init__.py").is_file():
        if not path.exists():
            raise UserError(f"there is no file {path}; give a method's name, or the path of its file or package")
        what, methods_dir = path.stem, path.resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(canonical(what), methods_dir, Path(folder))
        blocked = False
        for name, rule, essential in RULES:
            if blocked:
                yield Check(name=name, passed=None, detail="not reached")
                continue
            try:
                yield Check(name=name, passed=True, detail=rule(subject) or "")
            except Exception as error:  # whatever a plugin raises is its own breach
                if isinstance(error, UserError) and str(error).startswith("unknown method"):
                    raise
                shown = str(error) if isinstance(error, Breach | CklError) else f"{type(error).__name__}: {error}"
                yield Check(name=name, passed=False, detail=" ".join(shown.split()))
                blocked = essential
