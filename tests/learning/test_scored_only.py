"""`ckl-bench score`: a model as it stands gets a record and a row of its own; a kept run scores as its last epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.models.find import find_model
from ckl_bench.records import Record, read_record, read_records
from ckl_bench.scoring.engine import score_probes
from ckl_bench.spec import Spec
from conftest import Command


def kept(command: Command, small: Path, method: str) -> tuple[Path, Record]:
    """A run's folder of --save-model, and its record."""
    before = set(Path("models").iterdir()) if Path("models").exists() else set()
    arguments = ("--model", "tiny", "--benchmark", small, "--method", method, "--lr", "1e-2")
    result = command("run", *arguments, "--save-model", "models")
    assert result.code == 0, result.err
    (folder,) = set(Path("models").iterdir()) - before
    return folder, read_record(Path(f"runs/records/{folder.name}.json"))


def scored(command: Command, small: Path, *more: object) -> Record:
    result = command("score", "--benchmark", small, "--json", *more)
    assert result.code == 0, result.err
    value: dict[str, Any] = json.loads(result.out)
    return read_record(Path(f"runs/records/{value['run_id']}.json"))


def same_scores(now: Record, then: Record) -> None:
    for stage, other in zip(now.stages, then.stages, strict=True):
        assert len(stage.epochs) == 1
        last = other.epochs[-1].sets if stage is now.stages[-1] else stage.epochs[0].sets
        for name, scores in stage.epochs[0].sets.items():
            assert scores.probe_accuracy == last[name].probe_accuracy
            assert scores.probe_nll == pytest.approx(last[name].probe_nll, abs=1e-5)


@pytest.mark.parametrize("method", ["lora", "qlora", "finetune", "kadapter", "lora+wiseft"])
def test_a_kept_run_scores_as_its_last_epoch(method: str, command: Command, small: Path) -> None:
    folder, run = kept(command, small, method)
    now = scored(command, small, "--model", folder)
    same_scores(now, run)
    assert now.spec.scored_only
    assert (now.spec.model, now.spec.model_revision) == (run.spec.model, run.spec.model_revision)
    assert set(now.spec.inputs) == ({"folder"} if method == "finetune" else {"adapter"})
    if method != "finetune":  # the same by both ways to name it
        assert scored(command, small, "--model", "tiny", "--adapter", folder).run_id == now.run_id


def test_what_was_scored_is_told_apart(command: Command, small: Path) -> None:
    plain = scored(command, small, "--model", "tiny")
    assert plain.spec.method == "score"
    first, _ = kept(command, small, "lora")
    over = scored(command, small, "--model", first)
    again, _ = kept(command, small, "finetune")
    whole = scored(command, small, "--model", again)
    few = scored(command, small, "--model", "tiny", "--limit", "2")
    assert len({plain.run_id, over.run_id, whole.run_id, few.run_id}) == 4
    again_result = command("score", "--benchmark", small, "--model", "tiny")
    assert "scored already" in again_result.err
    same = {stage.name: stage.epochs[0].sets for stage in plain.stages}
    run = next(r for r in read_records(Path("runs")) if not r.spec.scored_only)
    assert same[run.stages[0].name] == run.stages[0].epochs[0].sets


def test_an_adapter_of_other_tools(command: Command, small: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base: Any = find_model("tiny").load()
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, settings).save_pretrained("theirs", save_embedding_layers=False)
    now = scored(command, small, "--model", "tiny", "--adapter", "theirs")
    plain = scored(command, small, "--model", "tiny")
    assert now.stages[0].epochs[0].sets["to_learn"].probe_nll != plain.stages[0].epochs[0].sets["to_learn"].probe_nll
    assert now.spec.method == "score(adapter=theirs)"
    saved: Any = find_model("tiny").load()
    saved.save_pretrained("base")
    find_model("tiny").tokenizer.save_pretrained("base")
    about = json.loads(Path("theirs/adapter_config.json").read_text())
    Path("theirs/adapter_config.json").write_text(json.dumps(about | {"base_model_name_or_path": "base"}))
    theirs = scored(command, small, "--model", "theirs")
    for name, found in theirs.stages[0].epochs[0].sets.items():
        assert found.probe_nll == pytest.approx(now.stages[0].epochs[0].sets[name].probe_nll, abs=1e-5)


def test_its_row_is_marked_and_not_ranked(command: Command, small: Path) -> None:
    import pandas as pd

    folder, run = kept(command, small, "lora")
    alone = command("score", "--benchmark", small, "--model", folder)
    assert alone.code == 0, alone.err
    assert "† scored only" in alone.out
    row = pd.read_csv("runs/lama-ckl.csv").set_index("source").loc["scored only"]
    assert pd.isna(row["rank"])
    assert pd.isna(row["gain"])  # nothing is known of it before
    assert pd.isna(row["learning_rate"])
    assert command("run", "--model", "tiny", "--benchmark", small, "--method", "none").code == 0
    table = pd.read_csv("runs/lama-ckl.csv").set_index("source")
    row, own = table.loc["scored only"], table[table["method"] == "lora"].iloc[0]
    last, first = run.stages[0].epochs[-1].sets, run.stages[0].epochs[0].sets
    worth = sum(last[name].accuracy - first[name].accuracy for name in ("to_learn", "not_to_forget"))
    assert row["gain"] == pytest.approx(worth, abs=1e-4)
    assert own["rank"] >= 1
    assert "scored only, by `ckl-bench score`" in Path("runs/lama-ckl.md").read_text()
    assert command("leaderboard", "--output", "runs", "--check").code == 0
    assert command("report", "--output", "runs").code == 0


def test_every_stage_of_a_sequence_is_scored(command: Command) -> None:
    result = command("score", "--model", "tiny", "--benchmark", "temporalwiki-mini", "--limit", "3")
    assert result.code == 0, result.err
    (record,) = read_records(Path("runs"))
    assert len(record.stages) > 1
    assert all(len(stage.epochs) == 1 for stage in record.stages)
    done = command("run", "--model", "tiny", "--benchmark", "temporalwiki-mini", "--limit", "3", "--method", "none")
    assert done.code == 0, done.err
    (run,) = (r for r in read_records(Path("runs")) if not r.spec.scored_only)
    for stage, own in zip(record.stages, run.stages, strict=True):
        for name, scores in stage.epochs[0].sets.items():
            assert scores.probe_nll == pytest.approx(own.epochs[-1].sets[name].probe_nll, abs=1e-5)
    import pandas as pd

    row = pd.read_csv("runs/temporalwiki.csv").set_index("source").loc["scored only"]
    assert row["gain"] == pytest.approx(0, abs=1e-4)
    assert pd.isna(row["backward_transfer"])
    assert pd.isna(row["before_avg_nll"])


def test_from_python(small: Path, tmp_path: Path) -> None:
    from ckl_bench import score

    record = score("tiny", benchmark=small, limit=2)
    assert len(record.stages[0].probe_ids["to_learn"]) == 2
    assert score("tiny", benchmark=small, limit=2, output=tmp_path).run_id == record.run_id
    assert (tmp_path / "records" / f"{record.run_id}.json").is_file()


def test_a_stopped_scoring_goes_on_behind_its_last_slice(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckl_bench.learning import score as module

    whole = scored(command, small, "--model", "tiny")
    monkeypatch.setattr(module, "SLICE", 3)
    asked: list[int] = []
    plain = score_probes

    def stops(model: Any, tokenizer: Any, probes: Any) -> Any:
        asked.append(len(probes))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return plain(model, tokenizer, probes)

    monkeypatch.setattr(module, "score_probes", stops)
    arguments = ("score", "--benchmark", small, "--model", "tiny", "--output", "again")
    assert command(*arguments).code == 130
    assert command(*arguments).code == 0
    assert sum(asked) == 10 + 3  # the slice that was interrupted is asked again
    (record,) = read_records(Path("again"))
    for name, found in record.stages[0].epochs[0].sets.items():
        assert found.probe_nll == pytest.approx(whole.stages[0].epochs[0].sets[name].probe_nll, abs=1e-5)


def test_what_cannot_be_scored_is_one_line(command: Command, small: Path) -> None:
    folder, _ = kept(command, small, "finetune")
    adapter, _ = kept(command, small, "kadapter")

    def said(*arguments: object) -> str:
        result = command("score", "--benchmark", small, *arguments)
        assert result.code == 2, result.err
        assert "Traceback" not in result.err
        return result.err

    assert "expected a folder" in said("--model", "tiny", "--adapter", "nowhere")
    assert "without --adapter" in said("--model", "tiny", "--adapter", folder)
    assert "was learned over tiny" in said("--model", folder, "--adapter", adapter)
    (adapter / "trained.safetensors").write_bytes(b"")
    assert "holds no weights of this model" in said("--model", adapter)
    assert command("score").code == 2


def test_it_is_no_run(command: Command, small: Path) -> None:
    record = scored(command, small, "--model", "tiny")
    assert "scored only" in command("reproduce", record.run_id).err
    assert "scored only" in command("submit", f"runs/records/{record.run_id}.json", "--output", "board").err
    assert not Path("board").exists()


def test_runs_of_before_are_what_they_were() -> None:
    from ckl_bench.storage.files import leaderboards_dir

    records = list(read_records(leaderboards_dir()))
    assert records
    assert not any(record.spec.scored_only for record in records)
    assert all(Spec.model_validate(record.spec.model_dump()).run_id == record.run_id for record in records)
