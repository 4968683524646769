"""vLLM beside transformers for real, where it is installed: `make vllm` runs these in an environment of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import torch

from ckl_bench.benchmarks.format import Probe, load_benchmark
from ckl_bench.errors import CklError
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.records import Record, read_records
from ckl_bench.scoring.engine import EncodedProbe, encode_probe, score_probes
from ckl_bench.scoring.vllm_backend import vllm_scorer
from ckl_bench.scoring.vllm_engine import Engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: make vllm runs this with it"),
]
NEAR = 1e-3  # nats between the two likeliest tokens: which of them is first is rounding
FIRST = ("score", "--limit", 5, "--vllm", "max_num_seqs=8", "--vllm", f"kv_cache_memory_bytes={1 << 28}")


def _command(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    """A command in a process of its own: an engine starts others, which import what it was started from."""
    typed = [sys.executable, "-m", "ckl_bench", *map(str, arguments)]
    return subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def _typed(*arguments: object) -> None:
    process = _command(*arguments)
    _, said = process.communicate(timeout=1800)
    assert process.returncode == 0, said[-2000:]


def _both(*arguments: object) -> tuple[Record, Record]:
    """A model scored by transformers and by vLLM."""
    ((ours, theirs),) = _pairs(*arguments)
    return ours, theirs


def _pairs(*arguments: object) -> list[tuple[Record, Record]]:
    """Each adapter scored by transformers and by vLLM, in the order of their names."""
    for backend in ("transformers", "vllm"):
        _typed("score", *arguments, "--backend", backend)
    made = sorted(
        read_records(Path("runs")), key=lambda record: str(record.spec.hyperparameters["score"].get("adapter"))
    )
    theirs = [record for record in made if "backend" in record.spec.hyperparameters["score"]]
    return list(zip([record for record in made if record not in theirs], theirs, strict=True))


def _differing(ours: Record, theirs: Record) -> list[tuple[str, str]]:
    """Set and id of the probes whose accuracy or guess differs; of all the NLL is the same to 1e-3 nats."""
    found = []
    for stage, other in zip(ours.stages, theirs.stages, strict=True):
        for name, scores in stage.epochs[0].sets.items():
            beside = other.epochs[0].sets[name]
            assert beside.probe_nll == pytest.approx(scores.probe_nll, abs=1e-3)
            columns = (stage.probe_ids[name], scores.probe_accuracy, beside.probe_accuracy)
            for probe, one, two, *guesses in zip(*columns, scores.probe_guess, beside.probe_guess, strict=True):
                if one != two or guesses[0] != guesses[1]:
                    found.append((name, probe))
    return found


def _far(differing: Sequence[tuple[str, str]], benchmark: str, adapter: Path | None = None) -> list[tuple[str, str]]:
    """Those of the probes that are no near-tie: at every position of the object the likeliest token leads by more."""
    from peft import PeftModel

    base = find_model("smollm2-135m")
    model: Any = base.load()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
    sets = load_benchmark(benchmark).stages[0].probes
    probes = {(name, probe.id): probe for name, rows in sets.items() for probe in rows}
    margins = {which: _margin(model, encode_probe(base.tokenizer, probes[which])) for which in differing}
    print(f"differing: {margins}")
    return [which for which, margin in margins.items() if margin > NEAR]


@torch.no_grad()
def _margin(model: Any, encoded: EncodedProbe) -> float:
    """The least distance, in nats, between the two likeliest tokens at any of the object's positions."""
    told = model(input_ids=torch.tensor([encoded.ids])).logits[0].log_softmax(-1)
    top = told[[at - 1 for at in encoded.objects]].topk(2).values
    return float((top[:, 0] - top[:, 1]).min())


@pytest.mark.parametrize("benchmark", ["lama-ckl-mini", "published"])
def test_smollm2_scores_the_same(
    benchmark: str,
    users_cache: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """On every probe of lama-ckl-mini, and of the published LAMA-ckl where that is at hand, but for near-ties."""
    monkeypatch.chdir(tmp_path)
    if benchmark == "published":
        folder: Path = request.getfixturevalue("reference")
        _typed("build", "lama-ckl", "--published", folder / "lama_ckl", "--out", benchmark)
    differing = _differing(*_both("--model", "smollm2-135m", "--benchmark", benchmark))
    assert not _far(differing, benchmark)


def test_a_kept_lora_scores_the_same(users_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ("run", "--method", "lora", "--epochs", 2, "--limit", 8, "--lr", "2e-3", "--save-model", "models")
    _typed(*run, "--output", "learned")
    (model,) = Path("models").iterdir()
    ours, theirs = _both("--model", model, "--limit", 8)
    assert not _far(_differing(ours, theirs), "lama-ckl-mini", model)
    (learned,) = read_records(Path("learned"))
    before, after = (learned.stages[0].epochs[at].sets["to_learn"].nll for at in (0, -1))
    assert before - after > 0.1  # it has learned, so that vLLM cannot have left it out
    assert theirs.stages[0].epochs[0].sets["to_learn"].nll == pytest.approx(after, abs=1e-3)


def test_ranks_scalings_and_a_token_before_the_first_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters with ranks, alphas and modules of their own, by one engine; a tokenizer that adds a token."""
    from peft import LoraConfig, get_peft_model
    from tokenizers.processors import TemplateProcessing
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<eos> $A", special_tokens=[("<eos>", 0)])
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=257, max_position_embeddings=1024, **sizes))
    for folder in (model, tokenizer):
        folder.save_pretrained("base")
    asked = LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"v_proj": 9},
        alpha_pattern={"down_proj": 31},
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, asked).save_pretrained("adapter")
    other = LoraConfig(
        r=17, lora_alpha=99, target_modules=["gate_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(LlamaForCausalLM.from_pretrained("base"), other).save_pretrained("other")
    (ours, theirs), (second, seconds) = _pairs(
        *("--model", "base", "--adapter", "adapter", "--adapter", "other", "--limit", 8)
    )
    assert not _differing(ours, theirs)
    assert not _differing(second, seconds)
    base = find_model("base")
    probe = Probe(id="a", prompt="It is here.", object="here")
    assert encode_probe(base.tokenizer, probe).ids[0] == 0
    _typed("score", "--model", "base", "--limit", 8, "--output", "bare")
    (bare,) = read_records(Path("bare"))
    for record in (ours, second):  # each adapter does something, ten times what would be rounding
        moved = bare.stages[0].epochs[0].sets["to_learn"].nll - record.stages[0].epochs[0].sets["to_learn"].nll
        assert abs(moved) > 0.01


def test_spaces_repetitions_long_prompts_and_a_killed_engine(users_cache: None) -> None:
    base = find_model("smollm2-135m")
    texts = ["The capital of France is  Paris", "The capital of France is Paris.", "It lies in\n\n  Rome , Italy"]
    long = "Of all towns it was said that they are far away. " * 60 + "The capital of Italy is Rome"
    objects = ["Paris", "Paris", "Rome", "Rome"]
    probes = [
        Probe(id=f"{number}-{again}", prompt=text, object=thing)
        for again in range(3)  # prompts that are in the cache already
        for number, (text, thing) in enumerate(zip([*texts, long], objects, strict=True))
    ]
    ours = score_probes(base.load(), base.tokenizer, probes)
    with vllm_scorer(Engine(base=base), 900) as score:
        for theirs in (score(probes), score(probes)):
            for one, other in zip(theirs, ours, strict=True):
                assert (one.id, one.guess, one.accuracy) == (other.id, other.guess, other.accuracy)
                assert one.nll == pytest.approx(other.nll, abs=1e-3)
        for child in psutil.Process().children(recursive=True):
            if "EngineCore" in " ".join(child.cmdline()) or "spawn_main" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(CklError, match="--vllm max_num_batched_tokens"):
            score(probes)


def test_an_engine_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    """Attention on a CPU has no kernel for heads as small as those of tiny."""
    if torch.cuda.is_available():
        pytest.skip("of engines on a CPU")
    process = _command(*FIRST, "--model", "tiny", "--backend", "vllm", cwd=tmp_path)
    out, said = process.communicate(timeout=1800)
    assert process.returncode == 1
    assert out == ""
    lines = [line for line in said.splitlines() if not line.startswith("asked again")]
    assert len(lines) == 1, said
    assert "head_dim=16" in said
    assert "--backend transformers" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_an_engine_starts_leaves_no_process(number: int, users_cache: None, tmp_path: Path) -> None:
    mark = uuid4().hex
    process = _command(
        *(*FIRST, "--model", "smollm2-135m", "--backend", "vllm"),
        cwd=tmp_path,
        env=os.environ | {"CKL_BENCH_TESTED": mark},
        start_new_session=True,
    )
    while process.poll() is None and len(psutil.Process(process.pid).children()) < 2:
        time.sleep(0.2)  # a tracker of shared memory, and the engine
    time.sleep(5)
    if number == signal.SIGINT:  # as a terminal sends it, to all of them
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert (out, said.count("\n")) == ("", 1), said
    assert said.startswith("error: interrupted; run the same command again to go on: ckl-bench score")
    time.sleep(2)  # the tracker ends behind whoever it served
    assert not [one.cmdline() for one in psutil.process_iter() if _has(one, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get("CKL_BENCH_TESTED") == mark)
    except (psutil.Error, OSError):
        return False
