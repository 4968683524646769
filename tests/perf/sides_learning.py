"""The sides of `sides.py` that learn: batches of documents, and φ's meta-steps."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from typing import Any

DOCUMENTS, BATCH, TOKENS = 16, 8, 256
TRAINING = ("train", "rows")  # documents of lama-ckl-mini; eight of 256 tokens, as published rows are at most
DOCUMENT_STEPS = ("meta",)
META_TOKENS = 128


def _documents(tokenizer: Any, kind: str) -> Any:
    from ckl_bench.benchmarks.format import load_benchmark
    from ckl_bench.encode import EncodedDocument, encode_documents

    encoded = encode_documents(tokenizer, load_benchmark("lama-ckl-mini").stages[0].documents, 512)
    if kind == "train":
        return encoded
    text = [token for document in encoded for token in document.ids]
    cut = [tuple(text[TOKENS * i : TOKENS * (i + 1)]) for i in range(BATCH)]
    return tuple(EncodedDocument(id=str(i), text="", ids=ids, offsets=()) for i, ids in enumerate(cut))


def training(kind: str, side: str) -> tuple[float, Callable[[], object], float]:
    """Tokens, what learns them in one epoch of LoRA, and the share of real tokens in what ours computes."""
    import torch

    from ckl_bench.encode import batches
    from ckl_bench.learning.sizes import micro_batch, precision
    from ckl_bench.learning.train import split, train_epoch
    from ckl_bench.models.find import find_model
    from ckl_bench_methods.lora import Lora
    from ckl_bench_methods.lora.low_rank import low_rank

    dtype = "bfloat16" if side.endswith("16") else "float32"
    base = find_model("smollm2-135m", dtype=dtype if side == "ours16" else "float32")
    every = _documents(base.tokenizer, kind)
    documents = every[:DOCUMENTS]
    tokens = sum(len(document.ids) for document in documents)
    if side.startswith("ours"):
        model = Lora().build(base.load)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)
        at_once = micro_batch(model, "cpu", None)
        parts = [part for batch in batches(every, BATCH, random.Random(0)) for part in split(batch, at_once)]
        share = sum(int(part.mask.sum()) for part in parts) / sum(part.ids.numel() for part in parts)

        def ours() -> object:
            stream = batches(documents, BATCH, random.Random(0))
            ones = lambda batch, nll: torch.ones_like(nll)  # noqa: E731
            with precision("cpu", dtype):
                return train_epoch(model, stream, optimizer, ones, micro_batch=at_once, reads_nll=False)

        return tokens, ours, share
    from peft import get_peft_model
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    bare = base.load()
    plain = get_peft_model(bare, low_rank(bare, r=Lora().r, alpha=Lora().alpha))  # peft's own layers, as they are
    base.tokenizer.pad_token = base.tokenizer.pad_token or base.tokenizer.eos_token
    given = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        bf16=dtype == "bfloat16",
        dataloader_pin_memory=False,
    )
    rows: Any = [{"input_ids": list(document.ids)} for document in documents]
    collator = DataCollatorForLanguageModeling(base.tokenizer, mlm=False)
    return tokens, lambda: Trainer(model=plain, args=given, train_dataset=rows, data_collator=collator).train(), 0.0


def meta(kind: str, side: str) -> tuple[float, Callable[[], object], float]:
    """Documents, and a meta-step of φ on them: as train-attention takes it, or through a graph of second order."""
    import torch
    from perf.meta_step import through_the_update

    from ckl_bench.encode import EncodedDocument
    from ckl_bench.models.find import find_model
    from ckl_bench.models.trunk import share_trunk
    from ckl_bench_methods.taalm.attention import Shape, TrainAttention
    from ckl_bench_methods.taalm.learners import compute_again
    from ckl_bench_methods.taalm.meta_gradient import Adam
    from ckl_bench_methods.taalm.meta_train import Example, MetaTraining, make_learners, meta_step
    from ckl_bench_methods.taalm.texts import Task
    from ckl_bench_methods.taalm.tried import side_by_side, supported_form

    base, count, again = find_model("smollm2-135m"), 8 if side.endswith("8") else 1, side.startswith("again")
    # Fused attention has no double backward, so the other side needs the eager kind.
    options = {"attn_implementation": "eager"} if side == "graph" else {}
    learners = make_learners(base.load(**options), r=16, alpha=16.0, seed=0, keeps=not again)
    trunk = share_trunk(learners.model)
    assert trunk is not None
    phi = TrainAttention(trunk, Shape(), seed=0)
    for model in (learners.model, phi.trunk) if again else ():  # as with --checkpoint-activations
        compute_again(model, base.name)
    draw = torch.Generator().manual_seed(0)
    made = []
    for i in range(count):
        ids = torch.randint(10, 49000, (META_TOKENS,), generator=draw)
        task = Task(ids=torch.randint(10, 49000, (12,), generator=draw), objects=(10, 11))
        document = EncodedDocument(id=str(i), text="", ids=tuple(ids.tolist()), offsets=())
        made.append(Example(document=document, task=task, on_object=torch.zeros(META_TOKENS - 1, dtype=torch.bool)))
    if side == "graph":
        ids, theta = torch.tensor(made[0].document.ids), learners.named(learners.start)
        once = lambda: through_the_update(phi, learners.model, theta, ids, made[0].task, Adam(), 1)  # noqa: E731
        return count, once, 0.0
    texts = [example.document.ids for example in made]
    form = supported_form(learners, texts[0], torch.device("cpu"))
    learners.together = side_by_side(learners, texts, torch.device("cpu"))
    return count, lambda: meta_step(phi, learners, made, MetaTraining(), form, "cpu"), 0.0
