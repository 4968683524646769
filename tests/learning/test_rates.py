"""Which learning rate a run has where none is typed: the stack's own on a benchmark, the method's, the benchmark's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.benchmarks.lama_ckl import build_from_lama
from ckl_bench.learning.run import RunRequest, plan_run
from ckl_bench.stacks.stack import make_stack
from conftest import Command, knows_first_capitals

RATES = {"lora": 2e-4, "oracle+lora": 5e-4, "rho1+lora": 6e-4, "mixreview+lora": 7e-4}


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory, lama: Path) -> Path:
    """A benchmark that names rates for some stacks."""
    out = tmp_path_factory.mktemp("rated") / "rated"
    defaults = {"epochs": 2, "batch_size": 2, "learning_rate": 3e-3, "learning_rates": RATES}
    models = {"known": ("test", knows_first_capitals)}
    build_from_lama(lama, out, models=models, to_learn=5, not_to_forget=5, defaults=defaults)
    return out


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        ("lora", 2e-4),
        ("recadam", 2e-4),  # whose builder is lora
        ("oracle", 5e-4),
        ("oracle+lora+recadam", 5e-4),
        ("rho1+mixreview", 6e-4),  # as long as mixreview+lora, and named before it
        ("mixreview", 7e-4),
        ("finetune", 5e-5),  # what the method asks for
        ("kadapter", 3e-3),  # the benchmark's
    ],
)
def test_the_rate_is_that_of_the_longest_named_stack(rated: Path, method: str, rate: float) -> None:
    assert plan_run(RunRequest(method=method, benchmark=str(rated), model="tiny")).spec.learning_rate == rate


def test_a_method_that_does_not_build_asks_for_a_rate_with_one_that_does(writer: Path) -> None:
    def rate(method: str) -> float:
        settings = [f"restate.writer={writer}"] if "restate" in method else []
        request = RunRequest(method=method, benchmark="lama-ckl-mini", model="tiny", settings=settings)
        return plan_run(request).spec.learning_rate

    assert rate("restate") == 1e-3 != rate("lora")
    assert rate("restate+finetune") == rate("finetune")
    assert rate("restate+kadapter") == rate("kadapter")


def test_of_several_rates_that_are_asked_for_the_lowest_counts() -> None:
    assert make_stack("taalm+lora-null").learning_rate == 1e-2
    assert make_stack("restate+lora-null").learning_rate == 4e-3
    assert make_stack("taalm+restate+lora-null").learning_rate == 4e-3


def test_a_rate_that_is_typed_counts(rated: Path) -> None:
    request = RunRequest(method="oracle", benchmark=str(rated), model="tiny", learning_rate=0.0)
    assert plan_run(request).spec.learning_rate == 0


@pytest.mark.parametrize("given", ["5e-4", "lora=", "=1", "lora=fast", "lora=0", "lora=-1", "lora=nan", "lora=inf"])
def test_a_rate_of_a_stack_has_a_form(command: Command, tmp_path: Path, given: str) -> None:
    for kind in ("lama-ckl", "temporalwiki"):
        result = command("build", kind, "--published", tmp_path, "--lr-of", given, "--out", tmp_path / "out")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert f"--lr-of {given}: expected STACK=RATE" in result.err
        assert not (tmp_path / "out").exists()
