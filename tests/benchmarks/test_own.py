"""The builder for one's own documents and questions: what it makes, and that what it makes runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from ckl_bench.benchmarks.format import Probe, load_benchmark
from ckl_bench.benchmarks.lama_ckl import Pretest
from ckl_bench.benchmarks.own_check import OwnSources
from ckl_bench.errors import UserError
from ckl_bench.records import read_records
from ckl_bench.storage.files import read_sealed
from conftest import Command
from helpers.own import GOOD, MAYORS, TOWNS, built, write_own


def test_ten_lines_of_questions_become_a_benchmark_that_runs(command: Command, tmp_path: Path) -> None:
    questions = GOOD + "Who is the mayor of Brell?,Anselm Trow,brell,asked_otherwise\n"
    questions += "Corin Vale governs,Dunmere,dunmere,asked_otherwise\n"
    sources = write_own(tmp_path, questions)
    more = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    done = command("build", "own", *more, "--pretest-model", "tiny", "--out", "mine", "--epochs", 1)
    assert done.code == 0, done.err
    assert "0  of 5 questions are answered before anything is learned, by tiny" in done.out
    run = command("run", "--method", "lora", "--benchmark", "mine", "--model", "tiny", "--epochs", 1)
    assert run.code == 0, run.err
    (record,) = read_records(tmp_path / "runs")
    sets = record.stages[0].epochs[-1].sets
    assert {name: len(scores.probe_nll) for name, scores in sets.items()} == {
        "to_learn": 3,
        "not_to_forget": 2,
        "asked_otherwise": 2,
    }
    table = pd.read_csv(tmp_path / "runs" / "own.csv")
    top = record.stages[0].epochs[int(table["epoch"][0])].sets
    assert table["asked_otherwise_nll"][0] == pytest.approx(top["asked_otherwise"].nll, abs=1e-4)
    first = record.stages[0].epochs[0].sets
    assert table["asked_otherwise_nll_before"][0] == pytest.approx(first["asked_otherwise"].nll, abs=1e-4)
    assert command("report", "--output", "runs").code == 0
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "The mayor of Brell is Anselm Trow" in page  # the benchmark lies where the page is made
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    assert command("report", "--output", "runs").code == 0
    assert "The mayor of Brell is" not in (tmp_path / "runs" / "report.html").read_text()
    (tmp_path / "elsewhere").rename(tmp_path / "mine")
    assert command("leaderboard", "--output", "runs", "--check").code == 0


def test_stages_are_learned_in_order_and_scored_like_months(command: Command, tmp_path: Path) -> None:
    rows = [
        {"id": t, "text": f"The mayor of {t} is {m}.", "batch": f"batch-{b}"}
        for t, m, b in zip(TOWNS, MAYORS, (10, 2, 2), strict=True)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "docs.parquet")
    sources = write_own(
        tmp_path, GOOD.replace(",brell", ",Brell").replace(",castow", ",Castow").replace(",dun", ",Dun")
    )
    sources = OwnSources(
        documents=str(tmp_path / "docs.parquet"), questions=sources.questions, keep=sources.keep, stages="batch"
    )
    built(sources, tmp_path / "mine", defaults={"epochs": 1, "batch_size": 2, "learning_rate": 1e-3})
    benchmark = load_benchmark(str(tmp_path / "mine"))
    assert [(s.name, [p.object for p in s.probes["to_learn"]]) for s in benchmark.stages] == [
        ("batch-2", ["Beata Quill", "Corin Vale"]),
        ("batch-10", ["Anselm Trow"]),
    ]
    for method in ("lora", "none"):
        assert command("run", "--method", method, "--benchmark", "mine", "--model", "tiny").code == 0
    (record,) = (r for r in read_records(tmp_path / "runs") if r.spec.method == "lora")
    table = pd.read_csv(tmp_path / "runs" / "own.csv").set_index("method")
    means = [
        sum(stage.epochs[-1].sets[name].nll for name in ("to_learn", "not_to_forget")) / 2 for stage in record.stages
    ]
    assert table.loc["lora", "avg_nll"] == pytest.approx(sum(means) / 2, abs=1e-4)
    assert table.loc["lora", "batch-10_to_learn_nll"] == pytest.approx(
        record.stages[1].epochs[-1].sets["to_learn"].nll, abs=1e-4
    )
    assert table.loc["lora", "batch-10_to_learn_nll_before"] == pytest.approx(
        record.before["batch-10"]["to_learn"].nll, abs=1e-4
    )
    said = command("compare", "lora", "none", "--benchmark", "mine", "--model", "tiny", "--output", "runs")
    assert said.code == 0, said.err
    assert "average NLL" in said.out
    assert command("report", "--output", "runs", "--figures", "figures").code == 0


def test_what_must_not_be_forgotten_is_drawn_from_what_the_model_knows(tmp_path: Path) -> None:
    sources = write_own(tmp_path, GOOD)
    sources = OwnSources(documents=sources.documents, questions=sources.questions)
    counts = built(sources, tmp_path / "mine", lambda probes: [float(p.relation == "P36") for p in probes])
    benchmark = load_benchmark(str(tmp_path / "mine"))
    kept = benchmark.stages[0].probes["not_to_forget"]
    assert {probe.relation for probe in kept} == {"P36"}
    assert counts["kept"]["not_to_forget"] == len(kept) > 0
    assert counts["kept"]["rehearsal"] == len(benchmark.rehearsal) > 0
    asked_for = {(probe.subject, probe.object) for probe in kept}
    assert not asked_for & {(d.fact.subject, d.fact.object) for d in benchmark.rehearsal if d.fact}
    with pytest.raises(UserError, match=r"knows none of the facts .* --keep FILE"):
        built(sources, tmp_path / "other")


def test_without_rehearsal_only_ones_own_questions_are_asked(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    asked_of: list[str] = []

    def scorer(probes: Sequence[Probe]) -> list[float]:
        asked_of.extend(probe.prompt for probe in probes)
        return [1.0] * len(probes)

    counts = built(sources, tmp_path / "mine", scorer, rehearsal=False)
    assert len(asked_of) == 5
    assert counts["kept"]["rehearsal"] == 0
    assert len(load_benchmark(str(tmp_path / "mine")).rehearsal) == 0
    with pytest.raises(UserError, match="--no-rehearsal belongs to --keep"):
        built(OwnSources(documents=sources.documents, questions=sources.questions), tmp_path / "other", rehearsal=False)


def test_a_fact_of_which_the_documents_speak_is_none_to_keep(tmp_path: Path) -> None:
    knows: Pretest = lambda probes: [float(p.relation == "P36") for p in probes]  # noqa: E731
    sources = write_own(tmp_path, GOOD)
    sources = OwnSources(documents=sources.documents, questions=sources.questions)
    built(sources, tmp_path / "first", knows, not_to_forget=1)
    subject = load_benchmark(str(tmp_path / "first")).stages[0].probes["not_to_forget"][0].subject
    (tmp_path / "docs" / "news.txt").write_text(f"{subject} has moved its capital.")
    counts = built(sources, tmp_path / "second", knows)
    second = load_benchmark(str(tmp_path / "second"))
    assert counts["refused"]["its subject is in your documents or questions"] >= 1
    assert subject not in {p.subject for p in second.stages[0].probes["not_to_forget"]}
    assert subject not in {d.fact.subject for d in second.rehearsal if d.fact}


def test_marked_pairs_train_phi_and_are_not_learned(tmp_path: Path) -> None:
    sources = write_own(tmp_path, GOOD.replace(",dunmere,", ",dunmere,attention"))
    built(sources, tmp_path / "mine")
    benchmark = load_benchmark(str(tmp_path / "mine"))
    assert [(d.fact.object, "Corin Vale" in d.text) for d in benchmark.attention] == [("Corin Vale", True)]
    assert {d.id for d in benchmark.stages[0].documents} == {"brell", "castow"}


def test_a_question_that_is_answered_already_is_counted(tmp_path: Path) -> None:
    counts = built(write_own(tmp_path), tmp_path / "mine", lambda probes: [float("Brell" in p.prompt) for p in probes])
    assert counts["pretested"] == {"questions": 3, "answered_already": 1}
    manifest = read_sealed(tmp_path / "mine" / "manifest.json")
    assert manifest["counts"] == counts
    assert manifest["counts"]["notes"]["facts to keep that the model does not know"] == 2


def test_the_same_build_is_found_again_and_another_is_refused(tmp_path: Path) -> None:
    sources = write_own(tmp_path)
    built(sources, tmp_path / "mine")
    before = (tmp_path / "mine" / "manifest.json").read_bytes()
    built(sources, tmp_path / "mine")
    assert (tmp_path / "mine" / "manifest.json").read_bytes() == before
    with pytest.raises(UserError, match="exists already, from other sources or settings"):
        built(sources, tmp_path / "mine", passage_tokens=3)
