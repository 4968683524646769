"""Fixtures: the public command in this process, a small LAMA release, and a benchmark built from it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, threads of one would wait for those of the other
    os.environ["OMP_NUM_THREADS"] = "1"
# bitsandbytes hands functions to torch.compile as it is imported, by peft: a second and a half of every process that a
# test starts, and nothing here is compiled.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is imported; no test reaches a hub

from ckl_bench.benchmarks.format import Probe
from ckl_bench.benchmarks.lama_ckl import build_from_lama
from ckl_bench.storage.files import read_json
from ckl_bench.storage.json import CHECKSUM, sealed
from ckl_bench.storage.stops import STOPS
from ckl_bench.storage.writing import write_json
from ckl_bench_methods.restate import Restate
from ckl_bench_methods.taalm import Taalm
from helpers.quick import be_quick

_USERS_CACHE = os.environ.get("CKL_BENCH_CACHE")


@dataclass(frozen=True)
class Result:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]

# A method whose first step raises what is put in for {}.
RAISING = '''"""Fails where it weighs."""
from dataclasses import dataclass
from ckl_bench.method import Method

@dataclass(frozen=True, kw_only=True)
class Bad(Method):
    def weigh(self, model, tokenizer, stage):
        def weights(batch, nll):
            raise {}
        return weights
'''


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a sealed JSON file and seal it again, as its writer would have: what a checksum cannot catch."""
    value = read_json(path)
    del value[CHECKSUM]
    change(value)
    write_json(path, sealed(value))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["CKL_BENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def _quick() -> None:
    be_quick()


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in this process looks at as much text as one in a process that nobody tells to be quick."""
    from ckl_bench.benchmarks.general import general_text
    from ckl_bench.learning import divergence, measures

    monkeypatch.setattr(measures, "general_text", general_text)
    monkeypatch.setattr(measures, "moved", divergence.moved)


@pytest.fixture
def users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own cache: a real model is fetched once, not once a test run."""
    if _USERS_CACHE is None:
        monkeypatch.delenv("CKL_BENCH_CACHE")
    else:
        monkeypatch.setenv("CKL_BENCH_CACHE", _USERS_CACHE)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """What Ctrl-C does to these tests, given back behind commands in this process: they set it for themselves."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_signals: None
) -> Command:
    """Run `ckl-bench ARGUMENTS` in an empty working folder."""
    from ckl_bench.cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Result(stopped.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published data; tests that need it skip where it is not there."""
    folder = os.environ.get("CKL_BENCH_REFERENCE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CKL_BENCH_REFERENCE does not name the folder of published data")
    return Path(folder)


def write_lama(folder: Path, count: int = 12) -> Path:
    """A LAMA release of invented facts: `count` each of P36 (invariant) and P108 (variant)."""
    templates = {"P36": ("capital", "The capital of [X] is [Y] ."), "P108": ("employer", "[X] works for [Y] .")}
    (folder / "TREx").mkdir(parents=True)
    lines = [{"relation": c, "label": lab, "template": t} for c, (lab, t) in templates.items()]
    (folder / "relations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for code, kind in (("P36", "land"), ("P108", "person")):
        rows = []
        for i in range(count):
            subject, obj = f"{kind.title()} {i}", f"Object{code}x{i}"
            filler = " and so on, as the chronicle of the year has it, page after page" * 3
            short = {"masked_sentence": f"{subject} has [MASK]."}
            long = {
                "masked_sentence": f"In story {i}, {subject} is tied to [MASK] rather than to Elsewhere{i}{filler}."
            }
            rows.append(
                {
                    "uuid": f"{code}-{i}",
                    "predicate_id": code,
                    "sub_label": subject,
                    "obj_label": obj,
                    "evidences": [short, long],
                }
            )
        (folder / "TREx" / f"{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def knows_first_capitals(probes: Sequence[Probe]) -> list[float]:
    """A pre-test model that knows the first eight capitals and nothing else."""
    return [1.0 if p.relation == "P36" and int(p.id.split("-")[1]) < 8 else 0.0 for p in probes]


@pytest.fixture(scope="session")
def lama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LAMA release folder."""
    return write_lama(tmp_path_factory.mktemp("lama") / "release")


@pytest.fixture(scope="session")
def small(lama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark directory: 5 to learn, 5 not to forget, 11 to train φ, 3 to rehearse."""
    out = tmp_path_factory.mktemp("benchmark") / "small"
    models = {"known": ("test", knows_first_capitals)}
    defaults = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3}
    build_from_lama(lama, out, models=models, to_learn=5, not_to_forget=5, defaults=defaults)
    return out


@pytest.fixture(scope="session")
def phi(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A train-attention for the tiny model, after one meta-step."""
    folder = tmp_path_factory.mktemp("phi")
    return Path(str(Taalm.for_check(benchmark=str(small), model="tiny", folder=folder)["attention"]))


@pytest.fixture(scope="session")
def writer(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writer of restate for the tiny model, after one step."""
    folder = tmp_path_factory.mktemp("writer")
    return Path(str(Restate.for_check(benchmark=str(small), model="tiny", folder=folder)["writer"]))


@pytest.fixture(scope="session")
def prepared(phi: Path, writer: Path) -> dict[str, list[str]]:
    """Method -> words of a command that name its prepared file for the tiny model, and keep it quick."""
    small = ("beams=2", "replay=8", "statements=2")
    settings = {"taalm": [f"attention={phi}"], "restate": [f"writer={writer}", *small], "ewc": ["documents=8"]}
    return {name: [w for one in given for w in ("--set", f"{name}.{one}")] for name, given in settings.items()}
