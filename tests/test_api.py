"""The Python interface: what it gives, its types, and that nothing heavy is loaded before it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ckl_bench
from ckl_bench import CklError, EpochDone, UserError, leaderboard, load_benchmark, load_records, run
from conftest import Command

HEAVY = ("torch", "transformers", "datasets", "pandas", "peft", "numpy")


def test_a_run_from_python_is_the_run_of_the_command(command: Command, small: Path, tmp_path: Path) -> None:
    seen: list[EpochDone] = []
    result = run("lora", benchmark=small, model="tiny", settings={"lora.r": 4}, seed=3, on_epoch=seen.append)
    assert not list(tmp_path.iterdir())  # nothing is written where no output is named
    words = ("run", "--method", "lora", "--benchmark", small, "--model", "tiny", "--set", "lora.r=4", "--seed", 3)
    same = json.loads(command(*words, "--json").out)
    assert same["run_id"] == result.record.run_id
    assert same["weights_sha256"] == result.record.weights_sha256
    assert [(e.epoch, e.loss is None) for e in seen] == [(0, True), (1, False), (2, False)]
    assert [e.sets["to_learn"].nll for e in seen] == [e.sets["to_learn"].nll for e in result.record.stages[0].epochs]


def test_the_model_that_comes_back_is_the_one_that_was_scored(small: Path) -> None:
    from ckl_bench.scoring.sets import score_sets

    result = run("lora", benchmark=small, model="tiny", epochs=1)
    probes = load_benchmark(str(small)).stages[0].probes
    again = score_sets(result.model, result.tokenizer, probes)
    assert again["to_learn"].nll == pytest.approx(result.record.stages[0].epochs[-1].sets["to_learn"].nll, abs=1e-5)


def test_a_run_that_is_there_already_has_a_record_and_no_model(small: Path, tmp_path: Path) -> None:
    first = run("lora", benchmark=small, model="tiny", epochs=1, output=tmp_path)
    again = run("lora", benchmark=small, model="tiny", epochs=1, output=tmp_path)
    assert again.record == first.record
    assert first.model is not None
    with pytest.raises(UserError, match="fresh=True"):
        _ = again.model
    table = leaderboard(tmp_path)
    assert list(table["run_ids"]) == [first.record.run_id]
    other = first.record.spec.model_copy(update={"seed": 1})
    both = [first.record, first.record.model_copy(update={"spec": other, "run_id": other.run_id})]
    assert list(leaderboard(both)["seeds"]) == [2]
    assert sorted(leaderboard(both, each_run=True)["seed"]) == [0, 1]
    assert leaderboard([first.record]).equals(table)
    rows = load_records(tmp_path)
    sets = first.record.stages[0].epochs[-1].sets
    last = rows[(rows["epoch"] == 1) & (rows["set"] == "to_learn")]
    assert list(last["nll"]) == sets["to_learn"].probe_nll
    assert len(rows) == 2 * sum(len(scores.probe_nll) for scores in sets.values())


def test_an_error_of_the_callback_fails_the_run(small: Path) -> None:
    def stop(event: EpochDone) -> None:
        raise ValueError("enough")

    with pytest.raises(CklError, match="ValueError: enough"):
        run("lora", benchmark=small, model="tiny", on_epoch=stop)


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    for wrong in (
        lambda: run("nosuch", model="tiny"),
        lambda: load_benchmark("nosuch"),
        lambda: load_records(tmp_path),
        lambda: leaderboard(tmp_path),
        lambda: leaderboard([], kind="nosuch"),
        lambda: leaderboard([]),
    ):
        with pytest.raises(UserError) as found:
            wrong()
        assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "loaded"),
    [
        ("import ckl_bench; ckl_bench.__version__", False),
        ("import ckl_bench; dir(ckl_bench)", False),
        ("from ckl_bench import Method, Retain, Watcher, UserError", False),
        ("from ckl_bench import run", True),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(line: str, loaded: bool) -> None:
    code = f"{line}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("torch" in done.stdout.split()) == loaded
    assert loaded or not done.stdout.split()


def test_every_name_is_there_and_no_other() -> None:
    for name in ckl_bench.__all__:
        assert getattr(ckl_bench, name) is not None
        assert name in dir(ckl_bench)
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = ckl_bench.nosuch


@pytest.mark.slow
def test_the_interface_is_typed(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(
        "from ckl_bench import RunResult, leaderboard, load_benchmark, load_records, run\n"
        "result = run('lora', seed=0)\n"
        "reveal_type(result)\nreveal_type(result.record.run_id)\nreveal_type(load_benchmark('x').hash)\n"
        "run(3)\n"
    )
    (tmp_path / "mypy.ini").write_text(  # the interface is of types of ours: what others' are is another half minute
        f"[mypy]\nignore_missing_imports = true\nfollow_imports = silent\n[mypy-{','.join(f'{x}.*' for x in HEAVY)}]\n"
        "follow_imports = skip\n"
    )
    words = ["--no-error-summary", "use.py"]
    # An editable installation is one that no type checker finds by itself.
    found = {**os.environ, "MYPYPATH": str(Path(ckl_bench.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=tmp_path, env=found, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert [line.split('"')[1] for line in lines if "Revealed" in line] == ["ckl_bench.api.RunResult", "str", "str"]
    (wrong,) = (line for line in lines if "error" in line)
    assert wrong.startswith("use.py:6")


def test_a_saved_model_is_the_one_that_has_learned(small: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file

    from ckl_bench.models.find import find_model

    result = run("lora", benchmark=small, model="tiny", epochs=1)
    folder = result.save(tmp_path / "models")
    assert folder == tmp_path / "models" / result.record.run_id
    assert load_file(folder / "adapter_model.safetensors")
    again = PeftModel.from_pretrained(find_model("tiny").load(), folder).eval()
    ids = result.tokenizer("The capital", return_tensors="pt")["input_ids"]
    assert (again(input_ids=ids).logits - result.model(input_ids=ids).logits).abs().max() < 1e-5
