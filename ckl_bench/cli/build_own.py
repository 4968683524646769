"""`ckl-bench build own`: documents and questions of one's own -> a benchmark directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ckl_bench.cli.options import (
    LOADING,
    DeviceOption,
    PickleOption,
    PretestBackendOption,
    RemoteOption,
    VllmOption,
    above_zero,
    at_least_one,
    say,
)

MODEL = "smollm2-135m"


def build_own(
    documents: Annotated[
        str,
        typer.Option(help="A folder of .txt or .md, a .csv, .jsonl or .parquet file, or a data set's id (owner/name)."),
    ],
    questions: Annotated[Path, typer.Option(help="CSV or JSON Lines of prompt, answer[, document, set].")],
    out: Annotated[Path, typer.Option(help="The benchmark directory to write; must not exist.")],
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Questions that must not be forgotten, in the same form.", show_default="facts that the model knows"
        ),
    ] = None,
    lama: Annotated[Path | None, typer.Option(help="A LAMA release, to draw known facts from too.")] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="BENCHMARK",
            help="A benchmark whose solved pairs teach a method how facts are asked for, such as lama-ckl-mini.",
            show_default="those that you mark",
        ),
    ] = None,
    pretest_model: Annotated[
        list[str] | None,
        typer.Option(help="Models asked what they know; the first's tokens cut passages.", show_default=MODEL),
    ] = None,
    pretest_backend: PretestBackendOption = "transformers",
    vllm: VllmOption = None,
    text_column: Annotated[str, typer.Option(help="The column of a table that holds the text.")] = "text",
    stages: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column whose values are stages, learned in order; of files: folder."),
    ] = None,
    passage_tokens: Annotated[int, typer.Option(help="Longer documents are cut into passages.")] = 512,
    not_to_forget: Annotated[
        int | None, typer.Option(help="Facts not to forget.", show_default="100, or half of those known")
    ] = None,
    rehearsal: Annotated[
        bool,
        typer.Option(
            "--rehearsal/--no-rehearsal",
            help="Known facts that a method may rehearse; without, and with --keep, only your own questions are asked.",
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 42,
    licence: Annotated[str, typer.Option(help="Licence of your documents, for the manifest.")] = "unknown",
    epochs: Annotated[int, typer.Option(help="Default epochs of runs on this benchmark.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Default batch size of runs.")] = 8,
    lr: Annotated[float, typer.Option(help="Default learning rate of runs.")] = 5e-4,
    device: DeviceOption = "auto",
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """Your documents and questions: what is to be learned, and facts that must not be forgotten for it."""
    from ckl_bench.benchmarks.own_check import OwnSources, read_own
    from ckl_bench.errors import UserError
    from ckl_bench.progress import line

    above_zero("--lr", lr)
    at_least_one(passage_tokens=passage_tokens, not_to_forget=not_to_forget, epochs=epochs, batch_size=batch_size)
    if Path(documents).is_dir() and out.resolve().is_relative_to(Path(documents).resolve()):
        raise UserError(f"--out {out} lies in the folder of documents, and would be read with them; put it elsewhere")
    sources = OwnSources(
        documents=documents,
        questions=questions,
        keep=keep,
        lama=lama,
        text_column=text_column,
        stages=stages,
        pairs=pairs,
        licence=licence,
    )
    with line(f"reading {documents} and {questions}"):
        read = read_own(sources)  # before torch is loaded: mistakes show at once
    with line(LOADING):
        from ckl_bench.benchmarks.own import build_own
        from ckl_bench.encode import tokenize
        from ckl_bench.learning.environment import pick_device
        from ckl_bench.models.find import find_model
        from ckl_bench.scoring.pretest import AT_ONCE, pretest_models
        from ckl_bench.scoring.vllm_engine import options_of
        from ckl_bench.storage.writing import require_writable

    require_writable(out.absolute().parent)
    names = pretest_model or [MODEL]
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    place = pick_device(device)
    how: dict[str, Any] = {"backend": pretest_backend, "vllm": options_of(vllm or [])}
    with line(f"reading {', '.join(names)}"), pretest_models(names, device=place, **trust, **how) as models:
        tokenizer = find_model(names[0], device=place, **trust).tokenizer
        counts = build_own(
            sources,
            read,
            out,
            models=models,
            at_once=AT_ONCE[pretest_backend],
            backend=pretest_backend,
            length=lambda text: len(tokenize(tokenizer, text)[0]),
            passage_tokens=passage_tokens,
            not_to_forget=not_to_forget,
            rehearsal=rehearsal,
            seed=seed,
            defaults={"epochs": epochs, "batch_size": batch_size, "learning_rate": lr},
        )
    if len(read.stages) > 1:
        say(f"stages, in this order: {', '.join(read.stages)}")
    say(f"{out}: {counts['documents']} documents in {counts['passages']} passages")
    for name, number in counts["kept"].items():
        say(f"  {number:6d}  {name}")
    asked, known = counts["pretested"]["questions"], counts["pretested"]["answered_already"]
    say(f"  {known:6d}  of {asked} questions are answered before anything is learned, by {', '.join(models)}")
    for note, number in counts["notes"].items():
        say(f"  {number:6d}  {note}")
    for reason, number in counts["refused"].items():
        say(f"  {number:6d}  facts passed over: {reason}")
    say(f"next: ckl-bench run --method lora --benchmark {out} --model {names[0]}")
