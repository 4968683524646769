"""`ckl-bench build`: a raw source -> a benchmark directory."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ckl_bench.benchmarks.lama_sources import MIN_EVIDENCE, PAPER_INVARIANT
from ckl_bench.cli.build_own import build_own
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
from ckl_bench.errors import UserError

LrOfOption = Annotated[
    list[str] | None,
    typer.Option(metavar="STACK=RATE", help="Default rate of a stack and all that is joined to it: taalm+lora=5e-4."),
]

build = typer.Typer(no_args_is_help=True, help="Build a benchmark directory from its raw source.")
build.command("own")(build_own)


@build.command("lama-ckl")
def build_lama_ckl(
    out: Annotated[Path, typer.Option(help="The benchmark directory to write; must not exist.")],
    lama: Annotated[Path | None, typer.Option(help="LAMA release: relations.jsonl and TREx/P*.jsonl.")] = None,
    published: Annotated[Path | None, typer.Option(help="The paper's files: variant.jsonl, invariant_*.jsonl.")] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="BENCHMARK",
            help="With --published: a benchmark whose solved pairs join it, such as lama-ckl-mini.",
        ),
    ] = None,
    pretest_model: Annotated[list[str] | None, typer.Option(help="Model(s) that certify the split.")] = None,
    pretest_backend: PretestBackendOption = "transformers",
    vllm: VllmOption = None,
    to_learn: Annotated[int, typer.Option(help="To-learn facts to sample.")] = 500,
    not_to_forget: Annotated[int, typer.Option(help="Not-to-forget facts to sample.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 42,
    form: Annotated[str, typer.Option(help="Prompt form: descriptive or schematic.")] = "descriptive",
    ask_otherwise: Annotated[
        bool, typer.Option("--ask-otherwise", help="Ask for the to-learn facts in the other form too, as a third set.")
    ] = False,
    min_evidence: Annotated[
        int, typer.Option(help="Evidence must be longer than so many characters; the paper's rule by default.")
    ] = MIN_EVIDENCE,
    invariant: Annotated[
        str, typer.Option(help="Relations that time does not change, by comma; the paper's list by default.")
    ] = PAPER_INVARIANT,
    keep_stated: Annotated[
        bool, typer.Option("--keep-stated", help="Keep attention and rehearsal rows that state a probed fact, too.")
    ] = False,
    licence: Annotated[str, typer.Option(help="Licence of the source, for the manifest.")] = "CC-BY-NC-4.0",
    epochs: Annotated[int, typer.Option(help="Default epochs of runs on this benchmark.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Default batch size of runs.")] = 64,
    lr: Annotated[float, typer.Option(help="Default learning rate of runs.")] = 1e-4,
    lr_of: LrOfOption = None,
    device: DeviceOption = "auto",
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """LAMA-ckl: a to-learn and a not-to-forget set, certified by pre-testing every fact on a model."""
    from ckl_bench.progress import line

    with line(LOADING):
        from ckl_bench.benchmarks.lama_ckl import build_from_lama, build_from_published
        from ckl_bench.benchmarks.lama_select import Rules
        from ckl_bench.learning.environment import pick_device
        from ckl_bench.scoring.pretest import AT_ONCE, pretest_models
        from ckl_bench.scoring.vllm_engine import options_of
        from ckl_bench.storage.writing import require_writable

    if (lama is None) == (published is None):
        raise UserError("give exactly one of --lama DIR (with --pretest-model) and --published DIR")
    if published is not None and (vllm or pretest_backend != "transformers"):
        raise UserError("--pretest-backend and --vllm are for --lama DIR: published rows are not pre-tested here")
    if published is None and pairs is not None:
        raise UserError(f"--pairs {pairs} is for --published DIR: from --lama DIR come solved pairs of its own")
    if form not in ("descriptive", "schematic"):
        raise UserError(f"--form {form}: expected descriptive or schematic")
    at_least_one(to_learn=to_learn, not_to_forget=not_to_forget, epochs=epochs, batch_size=batch_size)
    relations = [code.strip() for code in invariant.split(",")]
    if not all(re.fullmatch(r"P\d+", code) for code in relations):
        raise UserError(f"--invariant {invariant}: expected Wikidata's codes with commas between, such as P36,P19")
    if min_evidence < 0:
        raise UserError(f"--min-evidence {min_evidence}: expected 0 or more characters")
    rules = Rules(min_evidence=min_evidence, invariant=frozenset(relations), keep_stated=keep_stated)
    require_writable(out.absolute().parent)
    above_zero("--lr", lr)
    defaults = {"epochs": epochs, "batch_size": batch_size, "learning_rate": lr, **_rates(lr_of)}
    if published is not None:
        with line(f"reading {published}"):
            counts = build_from_published(
                published,
                out,
                form=form,  # type: ignore[arg-type]
                otherwise=ask_otherwise,
                rules=rules,
                pairs=pairs,
                defaults=defaults,
            )
    else:
        assert lama is not None
        if not pretest_model:
            raise UserError("--lama needs --pretest-model M: a split is certified for a base model")
        testing = pretest_models(
            pretest_model,
            device=pick_device(device),
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            backend=pretest_backend,
            vllm=options_of(vllm or []),
        )
        with line(f"reading {lama} and {', '.join(pretest_model)}"), testing as models:
            counts = build_from_lama(
                lama,
                out,
                models=models,
                at_once=AT_ONCE[pretest_backend],
                backend=pretest_backend,
                to_learn=to_learn,
                not_to_forget=not_to_forget,
                seed=seed,
                form=form,  # type: ignore[arg-type]
                otherwise=ask_otherwise,
                rules=rules,
                licence=licence,
                defaults=defaults,
            )
    say(f"{out}: {counts['facts']} facts read")
    for name, number in counts["kept"].items():
        say(f"  {number:6d}  {name}")
    for reason, number in counts["refused"].items():
        say(f"  {number:6d}  refused: {reason}")
    for reason, number in counts.get("left_out", {}).items():
        say(f"  {number:6d}  left out: {reason}")
    if lama is None and "stating_a_probed_fact" in counts:
        say(f"  {counts['stating_a_probed_fact']['attention']:6d}  left out: states a probed fact in passing")
    for name, number in counts.get("kept_stated", {}).items():
        say(f"  {number:6d}  of {name} state a probed fact in passing, and are kept")


@build.command("temporalwiki")
def build_temporalwiki(
    out: Annotated[Path, typer.Option(help="The benchmark directory to write; must not exist.")],
    wikipedia: Annotated[
        list[Path] | None,
        typer.Option(help="Wikipedia dumps, the oldest first; files of one date, or folder, are parts of a snapshot."),
    ] = None,
    wikidata: Annotated[list[Path] | None, typer.Option(help="Wikidata dumps of the same dates.")] = None,
    published: Annotated[Path | None, typer.Option(help="TWiki_Probes and TWiki_Diffsets, as published.")] = None,
    diffset: Annotated[
        str | None,
        typer.Option(help="Published diffsets: whole (..._gpt2) or subset.", show_default="whole where there is one"),
    ] = None,
    score_only: Annotated[
        bool, typer.Option("--score-only", help="Published probes without documents: nothing is learned.")
    ] = False,
    page_props: Annotated[list[Path] | None, typer.Option(help="page_props.sql[.gz] of the same dates.")] = None,
    wiki: Annotated[str | None, typer.Option(help="Whose sitelinks name the articles.", show_default="enwiki")] = None,
    language: Annotated[
        str | None, typer.Option(help="Language of labels; `mul` where it has none.", show_default="that of the wiki")
    ] = None,
    attention_months: Annotated[
        int | None, typer.Option(help="Pairs that train φ.", show_default="1 of three snapshots up")
    ] = None,
    max_subject_share: Annotated[float, typer.Option(help="Share of the probes one subject may have.")] = 0.01,
    max_relation_share: Annotated[float, typer.Option(help="Share of the probes one relation may have.")] = 0.05,
    max_probes: Annotated[int | None, typer.Option(help="Probes of a set at most.")] = None,
    unchanged_articles: Annotated[
        int, typer.Option(help="Articles without a new revision to ask unchanged facts of, drawn by hash.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 42,
    licence: Annotated[str | None, typer.Option(help="Licence of the dumps, for the manifest.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for intermediate files.", show_default="OUT.work")] = None,
    memory: Annotated[int, typer.Option(help="Megabytes that joins may take before they spill to disk.")] = 2000,
    engine: Annotated[
        str, typer.Option(help="Where dumps are parsed: local, or ray (this machine's, or RAY_ADDRESS's cluster).")
    ] = "local",
    epochs: Annotated[int, typer.Option(help="Default epochs a month of runs on this benchmark.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Default batch size of runs.")] = 64,
    lr: Annotated[float, typer.Option(help="Default learning rate of runs.")] = 1e-4,
    lr_of: LrOfOption = None,
) -> None:
    """TemporalWiki: what changed from month to month in Wikipedia and Wikidata, and what did not."""
    from ckl_bench.progress import line

    with line("loading duckdb and pyarrow"):
        from ckl_bench.benchmarks.temporalwiki.build import build_from_dumps
        from ckl_bench.benchmarks.temporalwiki.published import build_from_published
        from ckl_bench.benchmarks.temporalwiki.select import Caps
        from ckl_bench.benchmarks.temporalwiki.sources import Sources
        from ckl_bench.storage.writing import refuse_existing

    at_least_one(epochs=epochs, batch_size=batch_size, max_probes=max_probes, memory=memory)
    for name, share in (("subject", max_subject_share), ("relation", max_relation_share)):
        if not 0 < share <= 1:
            raise UserError(f"--max-{name}-share {share}: expected a share above 0 and at most 1, such as 0.05")
    above_zero("--lr", lr)
    defaults = {"epochs": epochs, "batch_size": batch_size, "learning_rate": lr, **_rates(lr_of)}
    if published is not None:
        if wikipedia or wikidata:
            raise UserError("give either --published DIR, or --wikipedia and --wikidata dumps")
        if diffset not in (None, "whole", "subset"):
            raise UserError(f"--diffset {diffset}: expected whole or subset")
        refuse_existing(out)
        with line(f"reading {published}"):
            counts = build_from_published(
                published,
                out,
                diffset=diffset,  # type: ignore[arg-type]
                score_only=score_only,
                defaults=defaults,
            )
    else:
        if diffset or score_only:
            raise UserError("--diffset and --score-only are for --published files")
        if not (wikipedia and wikidata):
            raise UserError("give --wikipedia OLD NEW and --wikidata OLD NEW, or --published DIR")
        if unchanged_articles < 0:
            raise UserError(f"--unchanged-articles {unchanged_articles}: expected 0 or more")
        if language is not None and not re.fullmatch(r"[A-Za-z]{2,}(-[A-Za-z0-9]+)*", language):
            raise UserError(f"--language {language}: expected a code of Wikidata's, such as de or pt-br")
        sources = Sources(
            wikipedia=wikipedia,
            wikidata=wikidata,
            page_props=page_props or [],
            wiki=wiki or (f"{language.lower().replace('-', '_')}wiki" if language else "enwiki"),
            language=language or "",
        )
        if licence is not None:
            sources = replace(sources, licence=licence)
        caps = Caps(subject=max_subject_share, relation=max_relation_share, probes=max_probes, seed=seed)
        with line(f"building {out}"):
            counts = build_from_dumps(
                sources,
                out,
                caps=caps,
                attention_months=attention_months,
                unchanged_articles=unchanged_articles,
                defaults=defaults,
                memory_mb=memory,
                work=work,
                engine=engine,
            )
    _print_counts(str(out), counts)


def _print_counts(name: str, counts: Any, indent: int = 0) -> None:
    """Nested counts as indented lines."""
    if isinstance(counts, Mapping):
        say(" " * indent + f"{name}:")
        for key, value in counts.items():
            _print_counts(key, value, indent + 2)
    elif isinstance(counts, Sequence) and not isinstance(counts, str):
        for label, value in zip(("old", "new"), counts, strict=False):
            _print_counts(f"{name} ({label})", value, indent)
    else:
        say(" " * indent + f"{name}: {counts:,}")


def _rates(given: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """`STACK=RATE ...` -> `learning_rates` of a manifest; nothing where none is given. UserError for another form."""
    rates: dict[str, float] = {}
    for item in given or ():
        stack, _, text = item.rpartition("=")
        try:
            rates[stack] = float(text)
        except ValueError:
            stack = ""
        if not stack or not 0 < rates[stack] < math.inf:
            raise UserError(f"--lr-of {item}: expected STACK=RATE with a rate above 0, as in --lr-of taalm+lora=5e-4")
    return {"learning_rates": rates} if rates else {}
