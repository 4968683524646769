"""vLLM as scoring backend: what stands around an engine, and, where vLLM is installed, the same scores for real."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from ckl_bench.benchmarks.format import Probe, load_benchmark
from ckl_bench.errors import CklError, UserError
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.records import Record, read_record, read_records
from ckl_bench.scoring import vllm_engine
from ckl_bench.scoring.engine import score_probes
from ckl_bench.scoring.pretest import AT_ONCE
from ckl_bench.scoring.vllm_backend import vllm_scorer
from ckl_bench.scoring.vllm_engine import Engine, arguments, batched_tokens, options_of
from conftest import Command
from helpers.fake_vllm import Engines, engines

__all__ = ["engines"]
MISSING = find_spec("vllm") is None
alone = pytest.mark.skipif(not MISSING, reason="vLLM is installed here: what is said without it is tested elsewhere")


@alone
def test_without_vllm_it_says_what_to_install(command: Command, small: Path) -> None:
    result = command("score", "--model", "tiny", "--benchmark", small, "--backend", "vllm")
    assert result.code == 2
    assert "pip install 'ckl-bench[vllm]'" in result.err
    assert not Path("runs/records").exists()


def test_the_same_scores(command: Command, small: Path, engines: Engines) -> None:
    arguments = ("score", "--model", "tiny", "--benchmark", small, "--json")
    result = command(*arguments, "--backend", "vllm", "--vllm", "max_num_seqs=4")
    assert result.code == 0, result.err
    theirs = _record(json.loads(result.out))
    ours = _record(json.loads(command(*arguments).out))
    _same(theirs, ours)
    assert theirs.run_id != ours.run_id
    assert theirs.spec.hyperparameters == {"score": {"backend": "vllm"}}  # how many at once changes no number
    (given,) = engines.arguments
    assert given["max_num_seqs"] == 4
    assert not given["enable_chunked_prefill"]
    assert given["enable_prefix_caching"]
    assert engines.ended == 1
    other = command(*arguments, "--backend", "vllm", "--vllm", "quantization=fp8")
    assert _record(json.loads(other.out)).run_id not in (theirs.run_id, ours.run_id)


def test_a_dead_engine_is_one_line_and_finished_slices_stay(
    command: Command, small: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckl_bench.learning.score.SLICE", 3)
    again = ("score", "--model", "tiny", "--benchmark", small, "--backend", "vllm")
    engines.dies_after = 9  # three, asked again each, and three more
    result = command(*again)
    assert result.code == 1
    assert "Traceback" not in result.err
    said = next(line for line in result.err.splitlines() if line.startswith("error:"))
    for words in ("EngineDeadError", "--vllm max_num_batched_tokens=", "the same command goes on"):
        assert words in said
    assert not list(Path("runs").glob("records/*.json"))
    done, engines.dies_after = sum(engines.asked), 10**9
    assert command(*again, "--vllm", "max_num_batched_tokens=64").code == 0
    assert sum(engines.asked) - done == 4 + 3  # of ten probes six were there; the first slice is asked twice
    (record,) = read_records(Path("runs"))
    assert command("score", "--model", "tiny", "--benchmark", small).code == 0
    ours = next(other for other in read_records(Path("runs")) if other.run_id != record.run_id)
    _same(record, ours)


def test_an_engine_that_cannot_start_is_one_line(command: Command, small: Path, engines: Engines) -> None:
    result = command(
        *("score", "--model", "tiny", "--benchmark", small, "--backend", "vllm", "--vllm", "tensor_parallel_size=2")
    )
    assert engines.arguments[0]["tensor_parallel_size"] == 2  # as it was typed, for an engine that has two devices
    assert result.code == 1
    assert "Engine core initialization failed" in result.err
    assert "more of it" not in result.err


def test_probes_that_score_otherwise_when_asked_again_are_noticed(
    command: Command, small: Path, engines: Engines
) -> None:
    engines.noise = 0.01
    result = command("score", "--model", "tiny", "--benchmark", small, "--backend", "vllm")
    assert result.code == 1
    assert "when it is asked again" in result.err


def test_a_prompt_that_vllm_left_out_is_noticed(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(id="a", prompt="It is here.", object="here")
    read = engines.read
    monkeypatch.setattr(engines, "read", lambda model, ids: read(model, ids)[:-2])  # as chunks and caches have done
    with vllm_scorer(Engine(base=find_model("tiny")), 20) as score, pytest.raises(CklError, match="of the 10 tokens"):
        score([probe])


def test_a_token_before_the_first_word_and_spaces_reach_the_engine_as_they_are(
    command: Command, tmp_path: Path, engines: Engines
) -> None:
    """It is given token ids: a tokenizer's first token once, and two spaces before an object as the text has them."""
    base = find_model("tiny")
    base.load().save_pretrained("bos")  # type: ignore[operator]
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<eos> $A", special_tokens=[("<eos>", 0)])
    tokenizer.save_pretrained("bos")
    texts = ["The capital of France is  Paris", "It lies in\n\n  Paris , France", " Paris and   Paris"]
    probes = [Probe(id=str(number), prompt=text, object="Paris") for number, text in enumerate(texts)]
    found = find_model("bos")
    with vllm_scorer(Engine(base=found), 64) as score:
        theirs = score(probes)
    ours = score_probes(found.load(), found.tokenizer, probes)
    for text, ids in zip(texts, engines.prompts, strict=False):
        assert ids == [0, *tokenizer(text[: text.rindex("Paris") + 5], add_special_tokens=False)["input_ids"]]
        assert ids.count(0) == 1
    assert [(one.guess, one.accuracy) for one in theirs] == [(one.guess, one.accuracy) for one in ours]
    assert [one.nll for one in theirs] == pytest.approx([one.nll for one in ours], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--vllm", "max_num_seqs"], "expected key=value"),
        (["--vllm", "max_num_seqs=1", "--vllm", "max-num-seqs=2"], "given twice"),
        (["--vllm", "dtype=half"], "follows from the model"),
        (["--vllm", "max_num_seq=1"], "did you mean max_num_seqs?"),
        (["--retain", "x"], "--retain"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    given: list[str], said: str, command: Command, small: Path, engines: Engines
) -> None:
    result = command("score", "--model", "tiny", "--benchmark", small, "--backend", "vllm", *given)
    assert result.code == 2
    assert said in result.err
    assert not engines.arguments


def test_options_belong_to_vllm(command: Command, small: Path) -> None:
    assert "belongs to --backend vllm" in command("score", "--model", "tiny", "--vllm", "max_num_seqs=1").err
    assert "expected one of" in command("score", "--model", "tiny", "--backend", "llama.cpp").err
    assert options_of(["a-b=1", "c=true", "d=x", "e=0.5"]) == {"a_b": 1, "c": True, "d": "x", "e": 0.5}


def test_what_goes_through_at_once_follows_from_vocabulary_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1 << 30
    few, many = batched_tokens(256_000, gib, 1), batched_tokens(32_000, gib, 1)
    assert few < many
    for vocabulary, free in ((256_000, gib), (32_000, 4 * gib), (49_152, gib // 2)):
        assert 4 * 4 * vocabulary * batched_tokens(vocabulary, free, 1) <= free // 4 + 4 * 4 * vocabulary * 64
    assert batched_tokens(256_000, 1, 700) == 704  # a prompt is never cut
    assert batched_tokens(257, 100 * gib, 1) == 8192
    monkeypatch.setattr(vllm_engine, "_free_memory", lambda given: (gib, False))
    chosen = arguments(Engine(base=find_model("tiny")), 300)
    assert chosen["max_model_len"] == 301
    assert chosen["max_num_batched_tokens"] >= 301
    card = SimpleNamespace(total_memory=24 * gib)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    large = replace(find_model("tiny"), vocabulary=256_000)
    for options, share in (({}, 0.15), ({"gpu_memory_utilization": 0.95}, 0.05)):  # what vLLM leaves is for logits
        chosen = arguments(Engine(base=large, options=options), 300)
        assert chosen["gpu_memory_utilization"] == pytest.approx(1 - share)
        assert chosen["max_num_batched_tokens"] == batched_tokens(256_000, int(card.total_memory * share), 301)
    monkeypatch.undo()
    with (
        pytest.raises(UserError, match="one more than 'tiny' reads"),
        vllm_scorer(Engine(base=_with_positions(300)), 300),
    ):
        pass


def _with_positions(count: int) -> Any:
    return replace(find_model("tiny"), positions=count)


def _record(value: dict[str, Any]) -> Record:
    return read_record(Path(f"runs/records/{value['run_id']}.json"))


def _same(theirs: Record, ours: Record, nll: float = 1e-5) -> None:
    for stage, other in zip(theirs.stages, ours.stages, strict=True):
        for name, scores in stage.epochs[0].sets.items():
            found = other.epochs[0].sets[name]
            assert scores.probe_accuracy == found.probe_accuracy
            assert scores.probe_guess == found.probe_guess
            assert scores.probe_nll == pytest.approx(found.probe_nll, abs=nll)


def test_pretests_find_the_same(command: Command, tmp_path: Path, engines: Engines) -> None:
    """One's own benchmark is the same, but for who is said to have pre-tested; an engine ends with its command."""
    (tmp_path / "docs").mkdir()
    for town in ("Brell", "Castow"):
        (tmp_path / "docs" / f"{town}.txt").write_text(f"{town} is a town. Its mayor is Anselm Trow.\n")
    (tmp_path / "asked.csv").write_text("prompt,answer,document\nThe mayor of Brell is,Anselm Trow,Brell\n")
    (tmp_path / "kept.csv").write_text("prompt,answer\n" + f"The capital of {'far away ' * 70}Italy is,Rome\n")
    build = ("build", "own", "--documents", "docs", "--questions", "asked.csv", "--keep", "kept.csv")
    for backend in ("transformers", "vllm"):
        done = command(*build, "--pretest-model", "tiny", "--pretest-backend", backend, "--out", backend)
        assert done.code == 0, done.err
    ours, theirs = (load_benchmark(name) for name in ("transformers", "vllm"))
    assert theirs.manifest["files"] == ours.manifest["files"]
    assert [one.get("backend") for one in theirs.manifest["pretest_models"]] == ["vllm"]
    assert [one.get("backend") for one in ours.manifest["pretest_models"]] == [None]
    assert engines.ended == len(engines.arguments) == 1
    assert engines.arguments[0]["max_model_len"] > 512  # longer than what room is made for unasked


def test_a_split_is_pretested_the_same(command: Command, lama: Path, engines: Engines) -> None:
    build = ("build", "lama-ckl", "--lama", lama, "--pretest-model", "tiny", "--to-learn", 4, "--not-to-forget", 4)
    said = [
        command(*build, "--pretest-backend", backend, "--out", backend).err.splitlines()[-1]
        for backend in ("transformers", "vllm")
    ]
    assert "no fact qualifies" in said[0]  # a random model knows no capital
    assert said[0] == said[1]
    assert sum(engines.asked) >= 2 * 24  # both forms of every fact
    assert engines.ended == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--pretest-backend", "llama.cpp"], "--pretest-backend llama.cpp: expected one of transformers, vllm"),
        (["--vllm", "max_num_seqs=1"], "belongs to --pretest-backend vllm"),
        (["--pretest-backend", "vllm", "--vllm", "max_num_seq=1"], "did you mean max_num_seqs?"),
    ],
)
def test_a_pretest_that_cannot_be_is_one_line(
    given: list[str], said: str, command: Command, lama: Path, engines: Engines
) -> None:
    result = command("build", "lama-ckl", "--lama", lama, "--pretest-model", "tiny", "--out", "b", *given)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not Path("b").exists()
    assert not engines.arguments


def test_an_engine_that_dies_while_pretesting_is_one_line(
    command: Command, lama: Path, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AT_ONCE, "vllm", 10)
    engines.dies_after = 10 + 8 + 5
    build = ("build", "lama-ckl", "--lama", lama, "--pretest-model", "tiny", "--pretest-backend", "vllm", "--out", "b")
    result = command(*build)
    assert result.code == 1
    assert "--pretest-backend transformers" in result.err
    assert not Path("b").exists()
    engines.dies_after = 10**9
    assert "going on behind 10 pre-tested prompts" in command(*build).err
