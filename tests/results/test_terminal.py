"""What comes from data does nothing to a terminal, and is not taken for markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ckl_bench.spec import Spec
from conftest import Command, forge

RUN = ("run", "--method", "oracle", "--model", "tiny")
HOSTILE = "[red]\x1b[2J\x1b]0;owned\x07[/red]"


def test_a_terminal_is_not_moved_by_what_comes_from_data(command: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.py").write_text(f'"""A {HOSTILE} method."""\n')
    listed = command("methods")
    record = json.loads(command(*RUN, "--benchmark", small, "--json").out)

    def change(value: dict[str, Any]) -> None:
        value["spec"]["method"] = value["spec"]["model"] = HOSTILE
        value["run_id"] = Spec.model_validate(value["spec"]).run_id
        value["stages"][0]["token_weights"][0]["tokens"][1] = HOSTILE

    path = tmp_path / "runs" / "records" / f"{record['run_id']}.json"
    forge(path, change)
    shown = command("show", path)
    asked = command("run", "--method", HOSTILE, "--model", "tiny")
    assert (listed.code, shown.code, asked.code) == (0, 0, 2)
    for text in (listed.out, shown.out, asked.err):
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\x07" not in text
        assert "[red]" in "".join(text.split())  # neither taken for markup
