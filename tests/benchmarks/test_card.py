"""The dataset card and the Croissant file: others' tools read from a benchmark what ckl-bench reads from it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.benchmarks.format import CARD, CROISSANT, Document, Probe, Stage, load_benchmark, write_benchmark
from ckl_bench.benchmarks.own import build_own
from ckl_bench.benchmarks.own_check import OwnSources, read_own
from ckl_bench.storage.files import data_dir, read_json
from conftest import Command

DEFAULTS = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-3}


def published(command: Command, folder: Path) -> Path:
    """Two months of TemporalWiki, as its authors publish them."""
    for month in ("0801-0901", "0901-1001"):
        (folder / "TWiki_Probes").mkdir(parents=True, exist_ok=True)
        (folder / "TWiki_Diffsets").mkdir(exist_ok=True)
        for kind in ("changed", "unchanged"):
            rows = [{"subject": f"{kind} {i}", "relation": "seat", "object": f"Port {i}"} for i in range(3)]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "TWiki_Probes" / f"{month}_{kind}.jsonl").write_text(lines)
        text = f"In {month} the mayor of Ost opened a bridge that carries the road over the river."
        name = f"wikipedia_{month[:2]}{month[5:7]}_subset.csv"
        with open(folder / "TWiki_Diffsets" / name, "w", newline="") as file:
            csv.writer(file).writerows([["id", "url", "title", "text"], ["1", "u", "Ost", text]])
    done = command("build", "temporalwiki", "--published", folder, "--out", folder / "built")
    assert done.code == 0, done.err
    return folder / "built"


def own(folder: Path) -> Path:
    """Two stages of one's own, with a document of two facts and a set with a name of its own."""
    folder.mkdir()
    rows = [
        {"id": "brell", "text": "Brell's mayor is Anselm Trow, its baker Dora Lunt.", "batch": "a-1"},
        {"id": "castow", "text": "The mayor of Castow is Beata Quill.", "batch": "a_1"},
    ]
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "questions.csv").write_text(
        "prompt,answer,document,set\nThe mayor of Brell is,Anselm Trow,brell,\nThe baker of Brell is,Dora Lunt,brell,\n"
        "The mayor of Castow is,Beata Quill,castow,\nWho governs Castow?,Beata Quill,castow,asked-otherwise\n"
    )
    (folder / "keep.csv").write_text("prompt,answer\nThe capital of France is,Paris\n")
    sources = OwnSources(
        documents=str(folder / "docs.jsonl"),
        questions=folder / "questions.csv",
        keep=folder / "keep.csv",
        stages="batch",
        licence="CC-BY-4.0",
    )
    models: Any = {"known": ("test", lambda probes: [0.0] * len(probes))}
    build_own(sources, read_own(sources), folder / "built", models=models, length=len, defaults=DEFAULTS)
    return folder / "built"


@pytest.fixture(params=["lama-ckl", "temporalwiki", "own"])
def built(request: pytest.FixtureRequest, small: Path, command: Command, tmp_path: Path) -> Path:
    """A benchmark of every kind, as its builder left it."""
    if request.param == "lama-ckl":
        return small
    return published(command, tmp_path / "src") if request.param == "temporalwiki" else own(tmp_path / "src")


def tables(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every table of a benchmark that has rows, as ckl-bench itself reads it."""
    benchmark = load_benchmark(str(folder))
    for stage in benchmark.stages:
        yield "documents", [asdict(row) for row in stage.documents]
        for rows in stage.probes.values():
            yield "probes", [asdict(row) for row in rows]
    for config, own in (("attention", benchmark.attention), ("rehearsal", benchmark.rehearsal)):
        if own:
            yield config, [asdict(row) for row in own]


def known(value: Any) -> Any:
    """A row without what is not known, which one reader leaves out and another calls None, "" or an empty list."""
    if isinstance(value, dict):
        return {name: known(inner) for name, inner in value.items() if known(inner)}
    return [known(inner) for inner in value] if isinstance(value, list | tuple) else value


def test_datasets_reads_every_table_of_every_kind(built: Path, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    configs = get_dataset_config_names(str(built))
    read = {c: load_dataset(str(built), c, cache_dir=str(tmp_path / "cache")) for c in configs}
    found = [(c, [known(row) for row in rows]) for c, splits in read.items() for rows in splits.values()]
    expected = [(config, [known(row) for row in rows]) for config, rows in tables(built)]
    assert sorted(found, key=json.dumps) == sorted(expected, key=json.dumps)
    whole = load_dataset(str(built), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in whole.items()} == {n: len(r) for n, r in read["documents"].items()}


def test_splits_are_named_by_stage_and_set(command: Command, small: Path, tmp_path: Path) -> None:
    def splits(folder: Path) -> dict[str, list[str]]:
        front = yaml.safe_load((folder / CARD).read_text(encoding="utf-8").split("---\n")[1])
        return {c["config_name"]: [file["split"] for file in c["data_files"]] for c in front["configs"]}

    assert splits(small) == {
        "documents": ["facts"],
        "probes": ["to_learn", "not_to_forget"],
        "attention": ["train"],
        "rehearsal": ["train"],
    }
    found = splits(published(command, tmp_path / "twiki"))
    assert found["documents"] == ["0801_0901", "0901_1001"]
    assert set(found["probes"]) == {f"{m}.{s}" for m in found["documents"] for s in ("changed", "unchanged")}
    mine = splits(own(tmp_path / "own"))  # its stages a-1 and a_1 are one name to `datasets`
    assert mine["documents"] == ["a_1", "a_1_2"]
    assert len(set(mine["probes"])) == 5
    assert "attention" not in mine


def test_card_and_croissant_are_no_part_of_the_benchmark(command: Command, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(small, folder)
    before = load_benchmark(str(folder)).hash
    texts = {name: (folder / name).read_bytes() for name in (CARD, CROISSANT)}
    for name in texts:
        (folder / name).unlink()
    assert load_benchmark(str(folder)).hash == before
    assert command("card", folder).code == 0
    assert {name: (folder / name).read_bytes() for name in texts} == texts
    assert load_benchmark(str(folder)).hash == before
    (folder / CARD).write_text("# my own words\n")
    refused = command("card", folder)
    assert refused.code == 2
    assert "was not written by ckl-bench; move it" in refused.err
    assert (folder / CARD).read_text() == "# my own words\n"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_cards_of_the_embedded_benchmarks_are_current(command: Command, name: str, tmp_path: Path) -> None:
    """Where one fails: ckl-bench card NAME."""
    shutil.copytree(data_dir() / "benchmarks" / name, tmp_path / name)
    assert command("card", tmp_path / name).code == 0
    for file in (CARD, CROISSANT):
        assert (tmp_path / name / file).read_bytes() == (data_dir() / "benchmarks" / name / file).read_bytes()


def test_what_a_card_says_of_licences(tmp_path: Path) -> None:
    def front(*licences: str) -> dict[str, Any]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        probes = [Probe(id="1", prompt="A is B", object="B")]
        stage = Stage(
            name="all", documents=[Document(id="1", text="A is B.")], probes={"unchanged": probes, "changed": probes}
        )
        about = {"sources": [{"file": "x", "licence": name} for name in licences], "defaults": DEFAULTS}
        write_benchmark(folder, name="made", kind="temporalwiki", about=about, stages=[stage])
        found: dict[str, Any] = yaml.safe_load((folder / CARD).read_text(encoding="utf-8").split("---\n")[1])
        return found

    assert front("Apache-2.0", "Apache-2.0")["license"] == "apache-2.0"
    assert front("CC-BY-SA-4.0 (Wikipedia), CC0-1.0 (Wikidata)")["license"] == ["cc-by-sa-4.0", "cc0-1.0"]
    assert front()["license"] == "unknown"
    assert front("The Firm's Own, 2026")["license"] == "other"
    assert front("The Firm's Own")["license_name"] == "the-firm-s-own"
    assert front()["configs"][0]["data_files"][0]["split"] == "all_"  # `all` would ask for every split


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlcroissant") is None, reason="mlcroissant is not installed")
def test_mlcroissant_finds_no_fault_and_reads_every_table(built: Path) -> None:
    import mlcroissant

    read = mlcroissant.Dataset(jsonld=built / CROISSANT)
    assert not read.metadata.ctx.issues.errors
    names = [record_set["@id"] for record_set in read_json(built / CROISSANT)["recordSet"]]
    found = [(name.split("/")[0], [_flat(row, name) for row in read.records(name)]) for name in names]
    expected = [(config, [known(row) for row in rows]) for config, rows in tables(built)]
    assert sorted(found, key=json.dumps) == sorted(expected, key=json.dumps)


def _flat(value: Any, prefix: str) -> Any:
    """A record of mlcroissant's by the names of its columns, without what is not known."""
    if isinstance(value, dict):
        inner = {name.rsplit("/", 1)[1]: _flat(part, prefix) for name, part in value.items()}
        return known(inner)
    if isinstance(value, list):
        return [part for part in (_flat(part, prefix) for part in value) if part]
    return value.decode() if isinstance(value, bytes) else value
