"""What the tests of this process do with less work, where no test is about that work."""

from __future__ import annotations

from functools import cache

FEW = 2  # texts of each kind, in place of up to 64: all are half of what a run of the tiny model takes


def be_quick() -> None:
    """Commands are read once, and how far a model moves is looked at on few texts."""
    import typer.main

    from ckl_bench.benchmarks.general import general_text
    from ckl_bench.learning import divergence, measures

    vars(typer.main)["get_command"] = cache(typer.main.get_command)
    vars(measures)["general_text"] = lambda: general_text()[:FEW]
    vars(measures)["moved"] = lambda model, base, documents: divergence.moved(model, base, documents[:FEW])
