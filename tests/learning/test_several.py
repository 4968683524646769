"""One run on several processes computes what one process does, and is one run to whoever looks at it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from ckl_bench import ranks, shares
from ckl_bench.models.find import find_model
from ckl_bench.records import Record, read_records
from helpers.several import WITNESS, Ended, run_several

PLACES = ("one", "several")
RUN = ("run", "--model", "tiny", "--limit", 10, "--batch-size", 4, "--epochs", 2)  # batches of 4, 4 and 2


def watched(folder: Path, method: str, *more: object) -> tuple[object, ...]:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "witness.py").write_text(WITNESS)
    return (*RUN, "--method", method, "--methods-dir", folder / "plugins", *more)


def the_record(folder: Path) -> Record:
    (record,) = read_records(folder / "runs")
    return record


def assert_same(one: Record, other: Record) -> None:
    """The same losses to 1e-5, the same NLL, the same accuracies and guesses."""
    assert one.run_id == other.run_id
    assert other.status == "done", other.error
    assert [stage.rehearsed for stage in one.stages] == [stage.rehearsed for stage in other.stages]
    assert one.told == other.told
    for ours, theirs in zip(one.stages[0].epochs, other.stages[0].epochs, strict=True):
        assert theirs.train_loss == pytest.approx(ours.train_loss, abs=1e-5)
        for name, sets in ours.sets.items():
            assert theirs.sets[name].probe_accuracy == sets.probe_accuracy
            assert theirs.sets[name].probe_guess == sets.probe_guess
            assert theirs.sets[name].probe_nll == pytest.approx(sets.probe_nll, abs=1e-4)
        assert theirs.views.keys() == ours.views.keys()
    for text, kl in one.stages[0].divergence.items():
        assert other.stages[0].divergence[text] == pytest.approx(kl, abs=1e-4)


def lines(ended: Ended) -> list[str]:
    """The errors that were told, by whichever process."""
    return [line for line in ended.err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("world", "method"),
    [
        (2, "rho1+lora+mixreview+ewc+wiseft"),
        pytest.param(3, "oracle+finetune+recadam", marks=pytest.mark.slow),
        pytest.param(2, "kadapter", marks=pytest.mark.slow),
    ],
)
def test_several_processes_learn_what_one_does(world: int, method: str, tmp_path: Path) -> None:
    few = ("--set", "ewc.documents=8") if "ewc" in method else ()
    one = run_several(1, (*RUN, "--method", method, *few), tmp_path / "one")
    several = run_several(world, (*RUN, "--method", method, *few), tmp_path / "several")
    assert one.codes == [0]
    assert several.codes == [0] * world, several.err
    assert several.out.replace("several", "one") == one.out  # the table, once
    assert several.err.count("record: runs/records/") == 1
    assert_same(the_record(tmp_path / "one"), the_record(tmp_path / "several"))
    assert the_record(tmp_path / "several").environment.processes == world


@pytest.mark.slow
def test_after_every_step_all_have_the_same_weights_gradients_and_optimizer_state(tmp_path: Path) -> None:
    ended = run_several(3, watched(tmp_path, "witness+lora"), tmp_path / "several")
    assert ended.codes == [0, 0, 0], ended.err
    seen = [(tmp_path / "several" / f"seen-{rank}.txt").read_text().split() for rank in range(3)]
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 6


@pytest.mark.parametrize("world", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_stopped_with_two_processes_it_goes_on_with_another_number(world: int, tmp_path: Path) -> None:
    arguments = watched(tmp_path, "witness+lora", "--set", "witness.act=SIGTERM")
    plain = run_several(1, arguments, tmp_path / "plain")
    assert plain.codes == [0], plain.err
    folder = tmp_path / "several"
    stopped = run_several(2, arguments, folder)
    assert stopped.codes == [130, 130], stopped.err
    assert [line.startswith("error: interrupted; run the same") for line in lines(stopped)] == [True]
    assert not list(folder.glob("runs/records/*"))
    again = run_several(world, arguments, folder)
    assert again.codes == [0] * world, again.err
    assert again.err.count("going on behind step 3 of epoch 1") == 1
    assert_same(the_record(tmp_path / "plain"), the_record(folder))


@pytest.mark.parametrize(
    ("world", "who"), [(2, 1), pytest.param(2, 0, marks=pytest.mark.slow), pytest.param(3, 1, marks=pytest.mark.slow)]
)
def test_where_one_is_killed_all_end_with_one_line(world: int, who: int, tmp_path: Path) -> None:
    arguments = watched(tmp_path, "witness+lora", "--set", f"witness.act=SIGKILL of {who}")
    ended = run_several(world, arguments, tmp_path / "several")
    assert ended.codes == [-9 if rank == who else 1 for rank in range(world)], ended.err
    assert len(lines(ended)) == 1
    assert f"another of the {world} processes of this run is gone" in ended.err
    assert "Traceback" not in ended.err
    assert not list(tmp_path.glob("several/runs/records/*"))  # it goes on where it was saved, and has not failed


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("raise", "ValueError: no weight today"),
        pytest.param("stray", "the stream gave the processes other", marks=pytest.mark.slow),
    ],
)
def test_what_fails_in_one_process_fails_the_run_with_its_reason(act: str, said: str, tmp_path: Path) -> None:
    arguments = watched(tmp_path, "witness+lora", "--set", f"witness.act={act}")
    ended = run_several(2, arguments, tmp_path / "several")
    assert ended.codes == [1, 1], ended.err
    (told,) = lines(ended)
    assert said in told
    record = the_record(tmp_path / "several")
    assert record.status == "failed"
    assert record.error
    assert said in record.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*RUN, "--method", "nonesuch"), "unknown method 'nonesuch'"),
        ((*RUN, "--method", "lora", "--lr", -3), "--lr -3.0: expected"),
        ((*RUN, "--nonesuch"), "No such option"),
        (("leaderboard",), "several processes were started for 'leaderboard'"),
    ],
    ids=str,
)
def test_a_users_mistake_is_told_once(arguments: tuple[object, ...], said: str, tmp_path: Path) -> None:
    ended = run_several(2, arguments, tmp_path / "several")
    assert ended.codes == [2, 2], ended.err
    assert len(lines(ended)) == 1
    assert said in ended.err


@pytest.mark.slow
def test_several_runs_of_a_file_are_all_shared(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text('method = ["lora", "finetune"]\nmodel = "tiny"\nlimit = 4\nepochs = 1\n')
    ended = run_several(2, ("run", "--config", tmp_path / "two.toml"), tmp_path / "several")
    assert ended.codes == [0, 0], ended.err
    records = list(read_records(tmp_path / "several" / "runs"))
    assert [record.environment.processes for record in records] == [2, 2]


@pytest.mark.slow
def test_a_second_command_finds_it_running_or_done(tmp_path: Path) -> None:
    arguments = (*RUN, "--method", "lora")
    assert run_several(2, arguments, tmp_path / "several").codes == [0, 0]
    again = run_several(2, arguments, tmp_path / "several")
    assert again.codes == [0, 0], again.err
    assert again.err.count("is done already") == 1


def test_work_is_shared_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [9, 1, 7, 3, 5, 5]
    assert shares.share(lengths) == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr(ranks, "workers", lambda: 2)
    each = []
    for rank in range(2):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        each.append(shares.share(lengths))
    assert sorted(each[0] + each[1]) == [0, 1, 2, 3, 4, 5]
    loads = [sum(lengths[i] for i in own) for own in each]
    assert abs(loads[0] - loads[1]) <= 2


def test_a_base_model_that_is_spread_learns_what_a_whole_one_does(tmp_path: Path) -> None:
    sets = ("--set", "lora.dropout=0.1", "--set", "ewc.documents=8")
    arguments = (*RUN, "--method", "lora+mixreview+ewc", *sets, "--save-model", "models")
    one = run_several(1, arguments, tmp_path / "one")
    assert one.codes == [0], one.err
    several = run_several(2, (*arguments, "--shard"), tmp_path / "several")
    assert several.codes == [0, 0], several.err
    assert several.err.count("record: runs/records/") == 1
    ours, theirs = the_record(tmp_path / "one"), the_record(tmp_path / "several")
    assert_same(ours, theirs)
    assert theirs.environment.shard
    assert ours.cost
    assert theirs.cost
    assert theirs.cost.total_parameters == ours.cost.total_parameters
    weights = [load_file(tmp_path / name / "models" / ours.run_id / "adapter_model.safetensors") for name in PLACES]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-5), name
    model: Any = PeftModel.from_pretrained(find_model("tiny").load(), tmp_path / "several" / "models" / ours.run_id)
    assert any(p.abs().sum() > 0 for name, p in model.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize(
    ("world", "arguments", "said"),
    [
        (2, (*RUN, "--method", "finetune", "--shard"), "and finetune builds another"),
        pytest.param(
            2, (*RUN, "--method", "lora", "--shard", "--retain", "x"), "leave out --retain", marks=pytest.mark.slow
        ),
        pytest.param(1, (*RUN, "--method", "lora", "--shard"), "and one was started", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_spread_is_told_once(
    world: int, arguments: tuple[object, ...], said: str, tmp_path: Path
) -> None:
    ended = run_several(world, arguments, tmp_path / "several")
    assert ended.codes == [2] * world, ended.err
    assert len(lines(ended)) == 1
    assert said in ended.err
    assert not list(tmp_path.glob("several/runs/records/*"))


@pytest.mark.slow
def test_accelerate_starts_it_as_the_documentation_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "several-processes.md").read_text(encoding="utf-8")
    file = page.split("```yaml\n")[1].split("```")[0]
    assert "num_processes: 4" in file
    (tmp_path / "fsdp.yaml").write_text(file.replace("num_processes: 4", "num_processes: 2"))
    words = [*map(str, RUN), "--method", "lora", "--device", "cpu"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "fsdp.yaml", "-m", "ckl_bench"]
    ended = subprocess.run([*launch, *words], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("record: runs/records/") == 1
    environment = the_record(tmp_path).environment
    assert (environment.processes, bool(environment.shard)) == (2, True)


@pytest.mark.slow
def test_torchrun_starts_it(tmp_path: Path) -> None:
    """As does `accelerate launch --multi_gpu`, which runs it."""
    words = [*map(str, RUN), "--method", "finetune", "--device", "cpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run([*launch, "-m", "ckl_bench", *words], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("record: runs/records/") == 1
    assert the_record(tmp_path).environment.processes == 2
