"""What the tests of this process do with less work, where no test is about that work."""

from __future__ import annotations

from functools import cache

FEW = 2  # general texts of 16: all are a third of what a run of the tiny model takes


def be_quick() -> None:
    """Commands are read once, and how far a model moves is looked at on few general texts."""
    import typer.main

    from ckl_bench.benchmarks.general import general_text
    from ckl_bench.learning import measures

    vars(typer.main)["get_command"] = cache(typer.main.get_command)
    vars(measures)["general_text"] = lambda: general_text()[:FEW]
