"""Records that were made up or edited: each kind is refused by `submit`, or marked, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ckl_bench.records import read_record, write_record
from ckl_bench.results.reproduce import agreement
from ckl_bench.spec import Spec
from ckl_bench.stacks.plugins import plugin_hash
from conftest import Command, forge
from helpers.plugin import PLUGIN
from helpers.runs import short_run

Json = dict[str, Any]


def respecified(value: Json, **changes: Any) -> None:
    """Another spec, and the run id that belongs to it."""
    value["spec"].update(changes)
    value["run_id"] = Spec.model_validate(value["spec"]).run_id


def of_to_learn(value: Json) -> Json:
    scores: Json = value["stages"][0]["epochs"][-1]["sets"]["to_learn"]
    return scores


def twice(value: Json) -> None:
    ids = value["stages"][0]["probe_ids"]["to_learn"]
    ids[1] = ids[0]


def two_means(value: Json) -> None:
    of_to_learn(value)["accuracy"] += 0.1
    value["stages"][0]["epochs"][0]["sets"]["not_to_forget"]["nll"] += 1


FORGED: dict[str, tuple[Callable[[Json], object], tuple[str, ...]]] = {
    "the settings of another run id": (lambda v: v["spec"].update(seed=9), ("is not the hash of the spec",)),
    "a negative rate": (lambda v: v["spec"].update(learning_rate=-1.0), ("spec.learning_rate: ", "equal to 0")),
    "negative seconds": (lambda v: v["cost"]["seconds"].update(train=-5.0), ("cost.seconds.train: ", "equal to 0")),
    "negative speed": (lambda v: v["cost"].update(train_tokens_per_second=-1.0), ("equal to 0",)),
    "negative tokens": (lambda v: v["cost"].update(train_tokens=-1), ("cost.train_tokens: ",)),
    "negative memory": (lambda v: v["cost"].update(peak_memory_bytes=-1), ("cost.peak_memory_bytes: ",)),
    "another speed": (lambda v: v["cost"].update(train_tokens_per_second=1e9), ("are not 1000000000.0 a second",)),
    "more trained than there are": (lambda v: v["cost"].update(trainable_parameters=10**12), ("parameters train",)),
    "nothing trained": (lambda v: v["cost"].update(trainable_parameters=0), ("so it learned nothing",)),
    "no cost": (lambda v: v.update(cost=None), ("needs a cost",)),
    "a probe twice": (twice, ("to_learn: a probe stands in it twice",)),
    "an epoch twice": (lambda v: v["stages"][0]["epochs"][1].update(epoch=0), ("its epochs are [0, 0]",)),
    "an epoch missing": (lambda v: v["stages"][0]["epochs"].pop(), ("the scores of all 1 epochs",)),
    "no epochs": (lambda v: v["stages"][0]["epochs"].clear(), ("its epochs are []",)),
    "two means": (two_means, ("epoch 1, to_learn: a mean is", "epoch 0, not_to_forget: a mean is")),
    "fewer documents": (lambda v: v["stages"][0].update(documents=3), ("it learned 3 documents",)),
    "another benchmark's hash": (lambda v: respecified(v, benchmark_hash="b" * 64), ("its benchmark_hash is bbbb",)),
    "another benchmark": (
        lambda v: respecified(v, benchmark="temporalwiki-mini"),
        ("its benchmark_hash is", "its benchmark_kind is lama-ckl, here it is temporalwiki"),
    ),
    "another model's weights": (lambda v: respecified(v, model_revision="seed:1"), ("its model_revision is seed:1",)),
    "another tokenizer": (lambda v: respecified(v, tokenizer_hash="d" * 64), ("its tokenizer_hash is dddd",)),
    "a label of other settings": (lambda v: respecified(v, method="lora"), ("its method is lora, here it is oracle",)),
    "less moved than nothing": (lambda v: v["stages"][0]["divergence"].update(documents=-0.1), ("a KL of -0.1",)),
    "too sure of text": (
        lambda v: v["stages"][0]["perplexity"]["general"].update(after=0.5),
        ("perplexities of", "cannot be"),
    ),
    "an oracle that was not told": (lambda v: v.update(told=False), ("was not told the answers, which it is",)),
    "nothing said of who was told": (lambda v: v.update(told=None), ("does not say whether its method was told",)),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_record_is_refused_and_all_that_is_wrong_is_said(kind: str, command: Command, tmp_path: Path) -> None:
    change, words = FORGED[kind]
    path = write_record(tmp_path, short_run())
    forge(path, change)
    result = command("submit", path, "--output", tmp_path / "board")
    assert result.code == 2
    assert result.err.splitlines()[-1] == "error: 1 of 1 records cannot be submitted; nothing was written"
    for said in words:
        assert said in result.err, result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize("kind", ["a probe twice", "an epoch twice", "negative seconds"])
def test_what_contradicts_itself_is_in_no_table(kind: str, command: Command, tmp_path: Path) -> None:
    forge(write_record(tmp_path, short_run()), FORGED[kind][0])
    result = command("leaderboard", "--output", tmp_path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "is not a valid record" in result.err


def test_a_run_of_none_that_learned_is_refused(command: Command, tmp_path: Path) -> None:
    path = write_record(tmp_path, short_run())

    def idle(value: Json) -> None:
        respecified(value, method="none", hyperparameters={"none": {}})
        value["told"] = False

    forge(path, idle)
    result = command("submit", path, "--output", tmp_path / "board")
    assert result.code == 2
    for words in ("none trains nothing, but", "a model that learns nothing scores otherwise", "a KL of"):
        assert words in result.err, result.err


def mine(folder: Path, nll: float | None = None) -> Path:
    """A run of a plugin that weighs tokens, as if it had been made; with `nll` the base model's scores are altered."""
    (folder / "methods").mkdir(exist_ok=True)
    (folder / "methods" / "half.py").write_text(PLUGIN)

    def change(value: Json) -> None:
        own = {"half": {"start": 0, "share": 0.5, "on": True}, "lora": value["spec"]["hyperparameters"]["lora"]}
        files = {"method:half": plugin_hash("half", folder / "methods")}
        respecified(value, method="half+lora(r=2)", hyperparameters=own, inputs=files)
        value["told"] = False
        if nll is not None:
            scores = value["stages"][0]["epochs"][0]["sets"]["not_to_forget"]
            scores["nll"] += (nll - scores["probe_nll"][2]) / len(scores["probe_nll"])
            scores["probe_nll"][2] = nll

    path = write_record(folder / "mine", short_run())
    forge(path, change)
    return path


def test_what_a_plugin_scored_before_training_is_what_the_base_model_scores(command: Command, tmp_path: Path) -> None:
    """A plugin that does not build the model starts from the base model, as the runs of the board did."""
    board = tmp_path / "board"
    assert command("submit", write_record(tmp_path, short_run()), "--output", board).code == 0
    result = command("submit", mine(tmp_path, nll=6.5), "--output", board)
    assert result.code == 2
    assert "the NLL of 1 probes differs, the first is 6.500000" in result.err
    honest = command("submit", mine(tmp_path), "--output", board)
    assert honest.code == 0, honest.err


def test_a_plugin_that_was_told_is_marked_and_saying_otherwise_does_not_reproduce(
    command: Command, tmp_path: Path
) -> None:
    path = mine(tmp_path)
    forge(path, lambda value: value.update(told=True))
    honest = read_record(path)
    assert command("submit", path, "--output", tmp_path / "board").code == 0
    (row,) = pd.read_csv(tmp_path / "board" / "lama-ckl.csv").to_dict("records")
    assert (row["told"], pd.isna(row["rank"])) == (True, True)
    assert "half+lora(r=2)\\*" in (tmp_path / "board" / "lama-ckl.md").read_text()
    lied = honest.model_copy(update={"told": False})
    assert agreement(honest, honest).agrees
    report = agreement(lied, honest)
    assert not report.agrees
    assert "told the answers: no and yes: DIFFERS" in report.lines


def test_guesses_that_were_made_up_do_not_reproduce() -> None:
    run = short_run()
    value = run.model_dump()
    of_to_learn(value)["probe_guess"][0] = "made up"
    assert not agreement(type(run).model_validate(value), run).agrees
