"""What is heard of a run through a file: where it runs and whoever waits for it see the same folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ckl_bench.running.heard import Heard

HEARD = TypeAdapter(Heard)


class Postbox:
    """A file with what was told last, whole at any time; it may be lost in a power cut, with the run that told it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: Heard | None = None  # as of the last look
        self._seen = b""

    def tell(self, heard: Heard) -> None:
        """Put it in the place of what was told before."""
        new = self.path.with_suffix(".new")
        new.write_bytes(HEARD.dump_json(heard))
        os.replace(new, self.path)

    def news(self) -> Heard | None:
        """What was told since the last look, if anything was."""
        try:
            now = self.path.read_bytes()
        except OSError:  # nothing was told yet
            return None
        if now == self._seen:
            return None
        self._seen = now
        with suppress(ValidationError):
            self.last = HEARD.validate_json(now)
        return self.last

    def remove(self) -> None:
        """Leave nothing behind."""
        for path in (self.path, self.path.with_suffix(".new")):
            path.unlink(missing_ok=True)
