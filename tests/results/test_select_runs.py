"""Runs named by label, settings or id; and the settings that tell runs apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckl_bench.errors import UserError
from ckl_bench.records import Record, write_record
from ckl_bench.results.differences import differences, shown
from ckl_bench.results.select_runs import find_runs, names_of
from ckl_bench.spec import Spec
from conftest import Command
from helpers.runs import record

A = "a" * 64


def run(**changes: Any) -> Record:
    return record([[0.0], [1.0]], [[1.0], [1.0]], **changes)


PLAIN, SEED = run(), run(seed=1)
SLOW = run(learning_rate=0.0001, epochs=8)
SMALL = run(method="lora(r=8)", hyperparameters={"lora": {"r": 8}})
TAALM, OTHER = (
    run(
        method="taalm+lora",
        hyperparameters={"taalm": {"attention": None}, "lora": {"r": 16}},
        inputs={"attention": "c" * 10 + digit * 54},
    )
    for digit in "12"
)
RUNS = [PLAIN, SEED, SLOW, SMALL, TAALM]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("lora@lr=1e-3", [PLAIN, SEED]),
        ("lora@learning_rate=0.0010,batch-size=2.0", [PLAIN, SEED]),
        ("lora@lr=.001,seed=1", [SEED]),
        ("lora@epochs=8", [SLOW]),
        ("lora@batch=2,max_tokens=512,limit=none,lr=1e-4", [SLOW]),
        ("lora@lora.r=8", [SMALL]),
        ("lora(r=8)", [SMALL]),
        ("lora(r=8)@lr=1e-3", [SMALL]),
        ("taalm", [TAALM]),
        ("lora+taalm", [TAALM]),
        ("taalm@lora.r=16,benchmark_hash=aaaa,model_revision=seed", [TAALM]),
        ("taalm@inputs.attention=ccc", [TAALM]),
        ("taalm+lora@attention=ccc*", [TAALM]),
        ("lora@benchmark=aaaa,model=seed,tokenizer=cc,seed=1,lr=1e-3", [SEED]),
        ("lora(r=8)*", [SMALL]),
        ("lora(r=8)†", [SMALL]),
        (SLOW.run_id[:4], [SLOW]),
        (f"{PLAIN.run_id}@lr=1e-3", [PLAIN]),
    ],
)
def test_runs_are_named_by_what_they_are(wanted: str, found: list[Record]) -> None:
    assert find_runs(RUNS, wanted) == found


def test_a_name_alone_finds_what_was_run_with_other_settings_where_nothing_else_was() -> None:
    assert find_runs([SMALL, TAALM], "lora") == [SMALL]
    assert find_runs([SMALL, PLAIN], "lora") == [PLAIN]
    smaller = run(method="lora(r=4)", hyperparameters={"lora": {"r": 4}})
    with pytest.raises(UserError, match=r"'lora' was run with several settings; name one: .*r=8.*r=4"):
        find_runs([SMALL, smaller], "lora")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            "lora@lrr=1",
            "unknown setting 'lrr'; did you mean 'lr'? Known: batch, batch_size, benchmark, benchmark_hash, dtype",
        ),
        ("lora@rho1.keep=1", "unknown setting 'rho1.keep'"),
        ("lora@lr=2e-3", "no run of 'lora' has learning_rate=2e-3; among those that are meant it is 1e-3, 1e-4"),
        ("lora@lr=fast", "has learning_rate=fast"),
        ("lora@lr=1e-3,lr=1e-4", "it is 1e-3"),
        ("lora@lr", "expected NAME@setting=value"),
        ("lora@", "expected NAME@setting=value"),
        ("lora@=1", "expected NAME@setting=value"),
        ("@lr=1", "unknown stack or run ''"),
        ("rho1@lr=1", "unknown stack or run 'rho1'"),
        ("lora", f"lora@lr=1e-3,epochs=1 or {PLAIN.run_id[:8]}; lora@lr=1e-4,epochs=8 or {SLOW.run_id[:8]}"),
    ],
)
def test_what_names_no_runs_or_too_many_is_one_line(wanted: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        find_runs(RUNS, wanted)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_an_error_says_to_type_finds_that_run() -> None:
    many = [run(learning_rate=lr, epochs=e, inputs=i) for lr in (1e-5, 3e-4) for e in (1, 2) for i in ({}, {"x": A})]
    for group in ([PLAIN, SLOW], [TAALM, OTHER], [run(model_revision=f"seed:{n}") for n in (1, 10)], many):
        for one, name in zip(group, names_of([r.spec for r in group]), strict=True):
            assert find_runs(group, name) == [one]
    with pytest.raises(UserError, match=r"; and 3 more$"):
        find_runs(many, "lora")
    assert names_of([TAALM.spec, OTHER.spec]) == [
        "taalm+lora@inputs.attention=cccccccccc1",
        "taalm+lora@inputs.attention=cccccccccc2",
    ]


def test_a_failed_run_is_not_meant() -> None:
    failed = SLOW.model_copy(update={"status": "failed"})
    assert find_runs([PLAIN, failed], "lora") == [PLAIN]


def test_differences_are_the_settings_in_which_specs_differ() -> None:
    def told(*runs: Record) -> dict[str, list[Any]]:
        return differences([r.spec for r in runs])

    assert told() == told(PLAIN) == told(PLAIN, SEED) == {}
    assert told(PLAIN, SLOW, SEED) == {"learning_rate": [0.001, 0.0001, 0.001], "epochs": [1, 8, 1]}
    assert told(PLAIN, SMALL) == {"lora.r": [16, 8]}
    assert told(PLAIN, TAALM) == {}  # taalm's own settings and file say no more than its name
    assert told(SMALL, TAALM) == {"lora.r": [8, 16]}
    assert list(told(TAALM, OTHER)) == ["inputs.attention"]
    assert told(PLAIN, run(inputs={"x": A})) == {"inputs.x": [None, A]}
    assert told(PLAIN, run(hyperparameters={"lora": {"r": 16, "rank": 2}})) == {"lora.rank": [None, 2]}
    assert list(told(PLAIN, run(benchmark_hash="b" * 64, limit=3, max_tokens=9, batch_size=4, model_revision="x"))) == [
        *("batch_size", "limit", "max_tokens", "model_revision", "benchmark_hash")
    ]
    assert list(told(PLAIN, run(dtype="bfloat16", tokenizer_hash="d" * 64))) == ["dtype", "tokenizer_hash"]
    idle, slower = (run(method="none", hyperparameters={"none": {}}, learning_rate=rate) for rate in (0.1, 0.01))
    assert told(PLAIN, idle) == told(idle, SLOW) == {}  # how one trains says nothing beside one that does not
    assert list(told(run(limit=3), idle)) == ["limit"]
    assert told(idle, slower) == {"learning_rate": [0.1, 0.01]}
    old = PLAIN.model_copy(update={"spec": PLAIN.spec.as_of(1)})
    assert told(PLAIN, old) == {"tokenizer_hash": ["c" * 64, None], "schema_version": [2, 1]}
    looked_at = {"learning_rate", "epochs", "batch_size", "limit", "max_tokens", "model_revision", "benchmark_hash"}
    looked_at |= {"dtype", "tokenizer_hash", "schema_version"}
    apart = {"method", "benchmark", "benchmark_kind", "model", "seed", "hyperparameters", "inputs"}
    assert looked_at | apart == set(Spec.model_fields)  # a new field of the spec is to be told too


def test_hashes_are_shown_as_far_as_they_tell_apart() -> None:
    assert shown("benchmark_hash", [A, A]) == ["a" * 8] * 2
    assert shown("model_revision", ["wheel:" + A, "wheel:aaaab" + A]) == ["wheel:aaaaa", "wheel:aaaab"]
    assert shown("limit", [None, 3]) == ["none", "3"]


def test_compare_says_what_tells_its_sides_apart(command: Command, tmp_path: Path) -> None:
    for item in RUNS:
        write_record(tmp_path / "runs", item)
    where = ("--benchmark", "made-up", "--model", "tiny")
    tail = "seed 0; p corrected for 3 comparisons (Holm):"

    def head(first: str, second: str) -> str:
        result = command("compare", first, second, *where)
        assert result.code == 0, result.err
        return result.out.splitlines()[0]

    assert head("taalm", SLOW.run_id[:6]) == (
        f"taalm+lora against lora on made-up, learning_rate 1e-3 against 1e-4, epochs 1 against 8, {tail}"
    )
    assert head("taalm", "lora@lr=1e-3") == f"taalm+lora against lora on made-up, {tail}"
    assert head("lora@lora.r=8", "lora@epochs=1") == f"lora(r=8) against lora on made-up, lora.r 8 against 16, {tail}"
    several = command("compare", "lora", "taalm", *where)
    assert (several.code, several.err.count("\n"), several.out) == (2, 1, "")
    assert "lora@lr=1e-3,epochs=1 or" in several.err
    refused = command("compare", "lora@lr=1e-3", "taalm", "--benchmark", "made-up", "--model", "smollm2-135m")
    assert refused.code == 2
    text = " ".join(command("compare", "--help").out.replace("│", " ").split())
    assert "lora@lr=1e-3" in text
    assert "(Holm)" in text


def test_a_stack_is_compared_with_itself_under_names_of_their_own(command: Command, tmp_path: Path) -> None:
    n = 12
    weak = record([[0.0] * n] * 2, [[1.0] * n] * 2, learning_rate=1e-5)
    for item in (weak, record([[0.0] * n, [1.0] * n], [[1.0] * n] * 2)):
        write_record(tmp_path / "runs", item)
    result = command("compare", "lora@lr=1e-5", "lora@lr=1e-3", "--benchmark", "made-up", "--model", "tiny")
    assert "lora against lora on made-up, learning_rate 1e-5 against 1e-3, seed 0;" in result.out
    assert "more than chance, lora@lr=1e-3 is better." in result.out
