"""The model that has learned is kept: what is loaded again scores as the run's last epoch did."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.learning.keep import load_model
from ckl_bench.models.find import find_model
from ckl_bench.records import StageScores, read_record
from ckl_bench.scoring.sets import score_sets
from ckl_bench.stacks.stack import make_stack
from ckl_bench.storage.checkpoint import Keeper
from ckl_bench_methods.qlora import load_nf4
from conftest import Command


def saved_run(command: Command, small: Path, *more: object) -> Any:
    return command("run", "--model", "tiny", "--benchmark", small, "--save-model", "models", *more)


def only_folder() -> Path:
    (folder,) = Path("models").iterdir()
    return folder


def same_as_last_epoch(model: torch.nn.Module, small: Path, folder: Path) -> None:
    same_as(model, small, read_record(Path(f"runs/records/{folder.name}.json")).stages[-1], -1)


def same_as(model: torch.nn.Module, small: Path, stage: StageScores, epoch: int) -> None:
    now = score_sets(model, find_model("tiny").tokenizer, load_benchmark(str(small)).stages[-1].probes)
    for name, scores in stage.epochs[epoch].sets.items():
        assert now[name].probe_accuracy == pytest.approx(scores.probe_accuracy, abs=1e-5)
        assert now[name].probe_nll == pytest.approx(scores.probe_nll, abs=1e-5)
        assert scores.probe_nll != pytest.approx(stage.epochs[0].sets[name].probe_nll, abs=1e-3)  # it has learned


@pytest.mark.parametrize(
    "method", ["lora", "qlora", "finetune", "kadapter", "lora+wiseft", "finetune+wiseft", "oracle+kadapter"]
)
def test_a_kept_model_scores_as_the_last_epoch(method: str, command: Command, small: Path, tmp_path: Path) -> None:
    result = saved_run(command, small, "--method", method, "--lr", "1e-2")
    assert result.code == 0, result.err
    folder = only_folder()
    assert f"model: models/{folder.name}" in result.err
    same_as_last_epoch(load_model(folder, make_stack(method), find_model("tiny")), small, folder)


def test_other_tools_load_what_is_kept(command: Command, small: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert saved_run(command, small, "--method", "lora", "--lr", "1e-2").code == 0
    adapter = only_folder()
    model: Any = PeftModel.from_pretrained(find_model("tiny").load(), str(adapter))
    same_as_last_epoch(model, small, adapter)
    same_as_last_epoch(model.merge_and_unload(), small, adapter)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    assert saved_run(command, small, "--method", "finetune", "--lr", "1e-2").code == 0
    (whole,) = set(Path("models").iterdir()) - {adapter}
    same_as_last_epoch(AutoModelForCausalLM.from_pretrained(whole).eval(), small, whole)
    assert find_model(str(whole)).tokenizer_hash == find_model("tiny").tokenizer_hash


def test_other_tools_load_an_adapter_that_was_learned_over_four_bits(command: Command, small: Path) -> None:
    from peft import PeftModel

    assert saved_run(command, small, "--method", "qlora", "--lr", "1e-2").code == 0
    folder = only_folder()
    held: Any = PeftModel.from_pretrained(load_nf4(find_model("tiny").load), str(folder))
    same_as_last_epoch(held, small, folder)
    whole: Any = PeftModel.from_pretrained(find_model("tiny").load(), str(folder))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        apart, learned = whole(input_ids=ids).logits, held(input_ids=ids).logits
        merged = whole.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, apart, atol=1e-4, rtol=1e-4)
    assert torch.nn.functional.cosine_similarity(merged, learned, dim=-1).min() > 0.9  # but for what four bits lose


@pytest.mark.parametrize("method", ["lora", "qlora", "finetune", "kadapter"])
def test_the_card_is_a_whole_program(
    method: str, command: Command, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert saved_run(command, small, "--method", method, "--lr", "1e-2").code == 0
    folder = only_folder()
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    capsys.readouterr()
    exec(lines.replace('"this folder"', repr(str(folder))), {})
    said = capsys.readouterr().out
    tokenizer = find_model("tiny").tokenizer
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    model: Any = load_model(folder, make_stack(method), find_model("tiny"))
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    assert said.strip() == tokenizer.decode(ids[0]).strip()


def test_the_card_says_what_the_record_says(command: Command, small: Path, tmp_path: Path) -> None:
    assert saved_run(command, small, "--method", "lora", "--seed", "3", "--set", "lora.r=2").code == 0
    folder = only_folder()
    record = read_record(Path(f"runs/records/{folder.name}.json"))
    card = (folder / "README.md").read_text()
    last = record.stages[0].epochs[-1].sets["to_learn"]
    for said in (record.run_id, "lora(r=2)", record.spec.benchmark_hash, record.spec.model_revision, '"r": 2'):
        assert said in card
    assert f"| {last.accuracy:.4f} |" in card
    assert f"| {last.nll:.4f} |" in card
    benchmark = load_benchmark(str(small))
    row = next(line for line in card.splitlines() if line.startswith("| facts | to_learn |"))
    first = record.stages[0].epochs[0].sets["to_learn"]
    assert [cell.strip() for cell in row.split("|")[3:-1]] == [
        f"{getattr(scores, name):.4f}" for name in ("accuracy", "exact", "nll") for scores in (first, last)
    ]
    assert benchmark.licences
    assert f"texts ({', '.join(benchmark.licences)}) holds" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize("method", ["lora", "kadapter"])
def test_a_stopped_run_keeps_the_same_bytes(
    method: str, command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert saved_run(command, small, "--method", method).code == 0
    once, after, steps = _hashes(only_folder()), Keeper.after_step, iter(range(10**6))

    def stop(keeper: Keeper, state: Any) -> None:
        if next(steps) == 3:
            signal.raise_signal(signal.SIGTERM)
        after(keeper, state)

    again: list[object] = ["run", "--model", "tiny", "--benchmark", small, "--method", method]
    again += ["--output", "stopped", "--save-model", "again"]
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", stop)
        assert command(*again).code == 130
    assert not Path("again").exists()
    assert command(*again).code == 0
    (folder,) = Path("again").iterdir()
    assert _hashes(folder) == once


def _hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_what_cannot_be_kept_is_one_line(command: Command, small: Path, tmp_path: Path) -> None:
    result = saved_run(command, small, "--method", "none")
    assert result.code == 2
    assert "there is no model to keep" in result.err
    assert not Path("runs").exists()
    assert not Path("models").exists()
    assert command("run", "--model", "tiny", "--benchmark", small, "--method", "lora").code == 0
    late = saved_run(command, small, "--method", "lora")
    assert late.code == 2
    assert "--fresh runs it again" in late.err
    (run_id,) = [path.stem for path in Path("runs/records").glob("*.json")]
    taken = Path("models") / run_id
    taken.mkdir(parents=True)
    (taken / "mine.txt").write_text("mine")
    refused = saved_run(command, small, "--method", "lora", "--fresh")
    assert refused.code == 2
    assert "was not written by --save-model" in refused.err
    assert (taken / "mine.txt").read_text() == "mine"


def test_weights_of_another_build_are_refused(command: Command, small: Path) -> None:
    from ckl_bench.errors import UserError

    assert saved_run(command, small, "--method", "kadapter").code == 0
    with pytest.raises(UserError, match="holds no weights of this model"):
        load_model(only_folder(), make_stack("kadapter", ["kadapter.layers=1"]), find_model("tiny"))
    with pytest.raises(UserError, match="holds no weights of this model"):
        load_model(only_folder(), make_stack("lora"), find_model("tiny"))
