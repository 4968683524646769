"""Time and memory of ours beside transformers' Trainer with peft, lm-eval's HFLM and a full log-softmax, in one run.

Each side runs in a process of its own, on smollm2-135m in float32 and the same documents or probes, after one pass to
warm up. Trainer pads its batches of 8 as they come; HFLM gets batches of 32.

    make perf        (needs: pip install lm_eval accelerate)
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

DOCUMENTS, BATCH, PROBES = 16, 8, 200
# name, ours, theirs, of what, how many times at least (rate) or at most (memory) the issue of this table asks for
RATIOS = (
    ("training, tokens/s", "train-ours", "train-trainer", "rate", 1.2),
    ("training, peak memory", "train-ours", "train-trainer", "peak", 1.0),
    ("scoring LAMA prompts, probes/s", "lama-ours", "lama-hflm", "rate", 1.4),
    ("scoring TemporalWiki prompts, probes/s", "wiki-ours", "wiki-hflm", "rate", 1.6),
    ("loss at a 262k vocabulary, memory", "loss-ours", "loss-full", "above", 0.25),
)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _documents(tokenizer: Any) -> Any:
    from ckl_bench.benchmarks.format import load_benchmark
    from ckl_bench.encode import encode_documents

    return encode_documents(tokenizer, list(load_benchmark("lama-ckl-mini").stages[0].documents)[:DOCUMENTS], 512)


def _train(side: str) -> tuple[float, Callable[[], object]]:
    import torch

    from ckl_bench.encode import batches
    from ckl_bench.learning.sizes import micro_batch
    from ckl_bench.learning.train import train_epoch
    from ckl_bench.models.find import find_model
    from ckl_bench_methods.lora import Lora

    base = find_model("smollm2-135m")
    model, documents = Lora().build(base.load), _documents(base.tokenizer)
    tokens = sum(len(document.ids) for document in documents)
    if side == "ours":
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)
        at_once = micro_batch(model, "cpu", None)

        def ours() -> object:
            stream = batches(documents, BATCH, random.Random(0))
            ones = lambda batch, nll: torch.ones_like(nll)  # noqa: E731
            return train_epoch(model, stream, optimizer, ones, micro_batch=at_once, reads_nll=False)

        return tokens, ours
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    base.tokenizer.pad_token = base.tokenizer.pad_token or base.tokenizer.eos_token
    folder = tempfile.mkdtemp()
    given = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    rows: Any = [{"input_ids": list(document.ids)} for document in documents]
    collator = DataCollatorForLanguageModeling(base.tokenizer, mlm=False)
    return tokens, lambda: Trainer(model=model, args=given, train_dataset=rows, data_collator=collator).train()


def _score(benchmark: str, side: str) -> tuple[float, Callable[[], object]]:
    from ckl_bench.benchmarks.format import load_benchmark
    from ckl_bench.models.find import find_model
    from ckl_bench.scoring.engine import score_probes

    base = find_model("smollm2-135m")
    stages = load_benchmark(benchmark).stages
    probes = [probe for stage in stages for rows in stage.probes.values() for probe in rows][:PROBES]
    model = base.load()
    if side == "ours":
        return len(probes), lambda: score_probes(model, base.tokenizer, probes)
    from lm_eval.api.instance import Instance  # type: ignore[import-untyped]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]

    peer = HFLM(pretrained=model, tokenizer=base.tokenizer, batch_size=32)
    cut = [(probe.prompt[: probe.prompt.rindex(probe.object)].rstrip(), probe) for probe in probes]
    asked = [
        Instance("loglikelihood", {}, (prefix, probe.prompt[len(prefix) :][: 1 + len(probe.object)]), i)
        for i, (prefix, probe) in enumerate(cut)
    ]
    return len(probes), lambda: peer.loglikelihood(asked, disable_tqdm=True)


def _loss(side: str) -> tuple[float, Callable[[], object]]:
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ckl_bench.models.head import Hidden, weighted_nll

    tokens = 1024
    head = nn.Linear(256, 1 << 18, bias=False).requires_grad_(False)
    states = torch.randn(1, tokens, 256, requires_grad=True)
    rows = torch.arange(tokens)

    def ours() -> object:
        scales = torch.full((tokens,), 1 / tokens)
        return weighted_nll(Hidden(states=states, head=head), rows, rows, scales).backward()  # type: ignore[no-untyped-call]

    def full() -> object:
        return F.nll_loss(F.log_softmax(head(states[0]), -1), rows).backward()  # type: ignore[no-untyped-call]

    return tokens, ours if side == "ours" else full


def measure(name: str) -> dict[str, float]:
    """What one side takes: units a second in its second pass, peak memory and that above what was loaded, in bytes."""
    what, side = name.split("-")
    benchmarks = {"lama": "lama-ckl-mini", "wiki": "temporalwiki-mini"}
    made = {"train": _train, "loss": _loss}
    units, work = made[what](side) if what in made else _score(benchmarks[what], side)
    loaded = _peak()
    work()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return {"rate": units / seconds, "peak": _peak(), "above": _peak() - loaded}


def main() -> None:
    """The table: both sides of every ratio, what is asked, and whether it is met."""
    found: dict[str, dict[str, float]] = {}
    print("| what | ours | theirs | ratio | asked | met |\n|---|---|---|---|---|---|")
    for label, ours, theirs, of, asked in RATIOS:
        for name in (ours, theirs):
            if name not in found:
                done = subprocess.run([sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, check=True)
                found[name] = json.loads(done.stdout.splitlines()[-1])
        a, b = found[ours][of], found[theirs][of]
        unit, scale = ("", 1.0) if of == "rate" else (" GB", 1e9)
        met = a / b >= asked if of == "rate" else a / b <= asked
        bound = f"{'at least' if of == 'rate' else 'at most'} {asked}"
        shown = (f"{value / scale:.{1 if of == 'rate' else 2}f}{unit}" for value in (a, b))
        print(f"| {label} | {' | '.join(shown)} | {a / b:.2f} | {bound} | {'yes' if met else 'no'} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
