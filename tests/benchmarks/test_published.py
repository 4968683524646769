"""Published files by the names and in the forms that their authors read and write."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.temporalwiki.published_files import find_published, named
from ckl_bench.errors import UserError
from conftest import Command

TEXT = "On the first of the month the mayor of {} opened a bridge that carries the road over the river."


def probes(folder: Path, name: str, column: str = "", kinds: tuple[str, ...] = ("changed", "unchanged")) -> None:
    """JSONL, or CSV with the object in `column`."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        rows = [{"subject": f"{kind} {i}", "relation": "seat", "object": f"Port {i}"} for i in range(3)]
        if column:
            with open(folder / f"{name}_{kind}.csv", "w", newline="") as file:
                csv.writer(file).writerows([["subject", "relation", column], *(list(row.values()) for row in rows)])
        else:
            (folder / f"{name}_{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(path: Path, *texts: str, title: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        head = ["id", "url", "title", "text"] if title else ["text"]
        rows = [[str(i), "u", title, text] if title else [text] for i, text in enumerate(texts)]
        csv.writer(file).writerows([head, *rows])


def test_the_repositories_names_are_read_whole_or_subset_and_what_is_not_used_is_named(
    command: Command, tmp_path: Path
) -> None:
    source = tmp_path / "data"
    probes(source / "twiki_probes", "0801-0901", column="objective")
    probes(source / "twiki_probes", "0901_1001")
    table(source / "TWiki_Diffsets" / "wikipedia_0809_gpt2.csv", TEXT.format("Ost"))
    table(source / "TWiki_Diffsets" / "wikipedia_0809_subset.csv", TEXT.format("West"), title="West")
    table(source / "TWiki_Diffsets" / "wikipedia_0910_subset.csv", TEXT.format("Nord"), title="Nord")
    (source / "train").mkdir()
    (source / "train" / "diffset_0910_filtered.jsonl").write_text(json.dumps({"text": TEXT.format("Sued")}) + "\n")
    table(source / "Wikipedia_Full" / "wikipedia_08_gpt2" / "part1.csv", "everything")
    (source / "twiki_probes" / "IL.csv").write_text("subject,relation,object\na,b,c\n")
    build = ("build", "temporalwiki", "--published", source, "--out")
    result = command(*build, tmp_path / "whole")
    assert result.code == 0, result.err
    stages = load_benchmark(str(tmp_path / "whole")).stages
    assert [(s.name, [d.text for d in s.documents]) for s in stages] == [
        ("0801-0901", [TEXT.format("Ost")]),
        ("0901-1001", [TEXT.format("Sued")]),
    ]
    assert [p.object for p in stages[0].probes["changed"]] == ["Port 0", "Port 1", "Port 2"]
    for unused in ("IL.csv", "part1.csv", "wikipedia_0809_subset.csv", "wikipedia_0910_subset.csv"):
        assert unused in result.err
    assert command(*build, tmp_path / "subset", "--diffset", "subset").code == 0
    stages = load_benchmark(str(tmp_path / "subset")).stages
    assert [d.text for s in stages for d in s.documents] == [
        f"West. {TEXT.format('West')}",
        f"Nord. {TEXT.format('Nord')}",
    ]


def test_the_datasets_own_layout_is_read(command: Command, tmp_path: Path) -> None:
    """Folders by date, `.scv` tables, an `objective`."""
    source = tmp_path / "data"
    for kind in ("changed", "unchanged"):
        folder = source / "Wikidata_datasets" / "20211201_20220101" / kind
        folder.mkdir(parents=True)
        (folder / f"final_{kind}_item.scv").write_text("subject,relation,object\nAda,seat,Port\n")
        (folder / f"filtered_{kind}_item.scv").write_text("subject,relation,objective\nAda,seat,Port\nBo,seat,Port\n")
    table(source / "Wikipedia_datasets" / "wikipedia_20211201_20220101_gpt2.csv", TEXT.format("Ost"))
    table(source / "Wikipedia_datasets" / "wikipedia_20211201_20220101_unchanged.csv", TEXT.format("West"), title="W")
    result = command("build", "temporalwiki", "--published", source, "--out", tmp_path / "b")
    assert result.code == 0, result.err
    (stage,) = load_benchmark(str(tmp_path / "b")).stages
    assert stage.name == "20211201-20220101"
    assert [d.text for d in stage.documents] == [TEXT.format("Ost")]
    assert [p.subject for p in stage.probes["changed"]] == ["Ada"]
    assert "filtered_changed_item.scv" in result.err


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["0101-0201", "1101-1201", "1201-0101"], ["1101-1201", "1201-0101", "0101-0201"]),
        (["1001-1101", "0801-0901", "0901-1001"], ["0801-0901", "0901-1001", "1001-1101"]),
        (["0201-0301", "1201-0101"], ["1201-0101", "0201-0301"]),  # a month is missing between them
        (["20220101_20220201", "20211201_20220101"], ["20211201-20220101", "20220101-20220201"]),
    ],
)
def test_periods_are_in_times_order_over_a_years_end(tmp_path: Path, names: list[str], order: list[str]) -> None:
    for name in names:
        probes(tmp_path, name)
    assert [named(p, whole=bool(p[0][0])) for p in find_published(tmp_path).probes] == order


def test_a_month_without_a_document_is_refused_unless_it_is_only_scored(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "data"
    probes(source, "0801-0901")
    table(source / "wikipedia_0809_gpt2.csv", "short", "nan")
    build = ("build", "temporalwiki", "--published", source, "--out", tmp_path / "b")
    result = command(*build)
    assert result.code == 2
    assert "no text in it is a document (1 under 50 characters, 1 nan)" in result.err
    assert not (tmp_path / "b").exists()
    assert command(*build, "--score-only").code == 0
    assert len(load_benchmark(str(tmp_path / "b")).stages[0].documents) == 0


def test_pairs_that_train_phi_are_read_but_for_those_that_give_a_probe_away(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "data"
    probes(source, "0901-1001")
    table(source / "wikipedia_0910_gpt2.csv", TEXT.format("Ost"))
    pairs = [
        {"subject": "Ida", "relation": "seat", "object": "Oman", "text": "Ida sits in Oman."},
        {"subject": "Ida", "relation": "seat", "object": "Oman", "text": "Ida is a Romanian."},
        {"subject": "Ida", "relation": "seat", "object": "Oman", "text": "Oman, as changed 1 in Port 1, is Ida's."},
    ]
    path = source / "train_attention_traindata_0809.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    assert command("build", "temporalwiki", "--published", source, "--out", tmp_path / "b").code == 0
    benchmark = load_benchmark(str(tmp_path / "b"))
    assert [d.text for d in benchmark.attention] == ["Ida sits in Oman."]
    refused = benchmark.manifest["counts"]["train_attention_traindata_0809"]["refused"]
    assert refused == {"object not in the text": 1, "states a probed fact": 1}


def test_what_could_be_meant_twice_is_refused(tmp_path: Path) -> None:
    probes(tmp_path / "a", "0801-0901")
    probes(tmp_path / "b", "0801-0901")
    assert len(find_published(tmp_path).unused) == 2  # the same bytes
    (tmp_path / "b" / "0801-0901_changed.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="keep one"):
        find_published(tmp_path)
    probes(tmp_path / "c", "0901-1001")
    table(tmp_path / "c" / "wikipedia_0910_gpt2.csv", TEXT)
    with pytest.raises(UserError, match="--diffset subset: there is only"):
        find_published(tmp_path / "c", "subset")
    probes(tmp_path / "d", "0801-0901")
    for year in (2021, 2022):
        table(tmp_path / "d" / f"wikipedia_{year}0801_{year}0901_gpt2.csv", TEXT)
    with pytest.raises(UserError, match="20210801-20210901 or 20220801-20220901"):
        find_published(tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "head", "mark"),
    [("csv", "Subject;Relation;Object", ";"), ("tsv", "relation\tobject \tsubject", "\t"), ("csv", "a,b,c", ",")],
)
def test_columns_are_read_however_they_are_parted_and_written(
    name: str, head: str, mark: str, command: Command, tmp_path: Path
) -> None:
    source = tmp_path / "data"
    table(source / "wikipedia_0809_gpt2.csv", TEXT.format("Ost"))
    values = {"subject": "Ada, the elder", "relation": "seat", "object": "Port"}
    row = mark.join(values.get(column.strip().lower(), "x") for column in head.split(mark))
    for kind in ("changed", "unchanged"):
        (source / f"0801-0901_{kind}.{name}").write_text(f"{head}\n{row}\n")
    result = command("build", "temporalwiki", "--published", source, "--out", tmp_path / "out")
    if head == "a,b,c":
        assert result.code == 2
        assert "has no column 'subject' (it has a, b, c)" in " ".join(result.err.split())
        return
    assert result.code == 0, result.err
    (stage,) = load_benchmark(str(tmp_path / "out")).stages
    assert [(p.subject, p.relation, p.object) for p in stage.probes["changed"]] == [tuple(values.values())]
