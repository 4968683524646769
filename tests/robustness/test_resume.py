"""A run that is stopped anywhere and started again ends as if it had never been stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ckl_bench.benchmarks.format import load_benchmark, write_benchmark
from ckl_bench.errors import UserError
from ckl_bench.stacks.plugins import origins
from ckl_bench.storage.checkpoint import Keeper, Store
from ckl_bench.storage.files import read_sealed
from ckl_bench.storage.locks import locked
from ckl_bench.storage.stops import STOPS
from conftest import Command
from helpers.children import start

LEARNING = sorted(origins().keys() - {"none"})  # which takes no step, and so cannot be stopped behind one
PAPER = ["taalm+kadapter", "taalm+mixreview", "taalm+recadam", "taalm+kadapter+mixreview+recadam"]


@contextmanager
def stopping_behind(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every step is saved; behind the given one (counted over the process) the run is asked to stop."""
    seen = 0

    def after_step(self: Keeper, state: Callable[[], Any]) -> None:
        nonlocal seen
        seen += 1
        assert self._store is not None
        self._store.save(state())
        if seen == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "after_step", after_step)
        yield


def measured(text: str) -> Any:
    """Everything in a record that a run measures: all but times and surroundings."""
    record = json.loads(text)
    cost = {k: record["cost"][k] for k in ("train_tokens", "trainable_parameters", "total_parameters")}
    return record["run_id"], record["before"], record["stages"], cost


def assert_it_ends_as_undisturbed(
    command: Command, arguments: tuple[object, ...], stops: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = command(*arguments, "--output", "plain")
    assert plain.code == 0, plain.err
    for stop in stops:
        with stopping_behind(stop, monkeypatch):
            stopped = command(*arguments, "--output", "stopped")
        assert stopped.code == 130
        assert "run the same command again" in stopped.err
    ended = command(*arguments, "--output", "stopped")
    assert ended.code == 0, ended.err
    assert "going on behind step" in ended.err
    assert measured(ended.out) == measured(plain.out)
    assert not Path("stopped/checkpoints").exists()


@pytest.mark.parametrize("method", [*LEARNING, *PAPER])
def test_every_method_ends_bit_identical(
    method: str, command: Command, small: Path, prepared: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [word for name in method.split("+") for word in prepared.get(name, ())]
    run = (
        "run",
        "--method",
        method,
        "--model",
        "tiny",
        "--benchmark",
        small,
        "--limit",
        5,
        "--json",
        *sets,
    )  # all of it
    assert_it_ends_as_undisturbed(
        command, (*run, "--lr", "1e-2"), [2, 2], monkeypatch
    )  # 3 steps an epoch, 2 epochs: in both


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two months of the embedded benchmark, and some of what is beside them."""
    whole, folder = load_benchmark("temporalwiki-mini"), tmp_path_factory.mktemp("months") / "two"
    about = {name: whole.manifest[name] for name in ("builder", "defaults", "sources")}
    some: dict[str, Any] = {"attention": whole.attention[:40], "rehearsal": whole.rehearsal[:20]}
    write_benchmark(folder, name="two", kind="temporalwiki", about=about, stages=whole.stages[:2], **some)
    return folder


@pytest.mark.parametrize("method", [*LEARNING, "ewc+wiseft", "rho1+finetune", *PAPER])
def test_months_end_bit_identical(
    method: str, command: Command, months: Path, prepared: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [word for name in method.split("+") for word in prepared.get(name, ())]
    run = ("run", "--method", method, "--model", "tiny", "--benchmark", months, "--limit", 5, "--json")
    assert_it_ends_as_undisturbed(command, (*run, "--lr", "1e-2", *sets), [1, 2], monkeypatch)  # 2 steps a month


def test_dropout_goes_on_where_it_was(command: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("run", "--method", "lora", "--set", "lora.dropout=0.3", "--model", "tiny", "--benchmark", small, "--json")
    assert_it_ends_as_undisturbed(command, run, [1], monkeypatch)


def test_training_phi_ends_bit_identical(
    command: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("steps=4", "batch_size=2", "validate_every=2", "held_out=3", "inner_r=2", "r=2")
    sets = [x for setting in quick for x in ("--set", setting)]
    train = ("train-attention", "--benchmark", small, "--model", "tiny", *sets, "--out")
    assert command(*train, "whole.safetensors").code == 0
    for stop in (1, 2):
        with stopping_behind(stop, monkeypatch):
            assert command(*train, "stopped.safetensors").code == 130
        assert not Path("stopped.safetensors").exists()
    ended = command(*train, "stopped.safetensors")
    assert ended.code == 0, ended.err
    assert "going on from step 3 of 4" in ended.err
    assert Path("stopped.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    texts = [read_sealed(Path(f"{name}.json")) for name in ("whole", "stopped")]
    for text in texts:
        assert text["cost"].pop("seconds") > 0
    assert texts[0] == texts[1]
    assert texts[0]["cost"]["documents"] == 4 * 2
    assert not list(Path().glob(".*"))  # neither checkpoint nor lock is left


def test_fresh_starts_anew(command: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("run", "--method", "lora", "--model", "tiny", "--benchmark", small, "--json")
    with stopping_behind(2, monkeypatch):
        assert command(*run).code == 130
    again = command(*run, "--fresh")
    assert again.code == 0
    assert "going on" not in again.err


def test_a_damaged_checkpoint_is_refused(command: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("run", "--method", "lora", "--model", "tiny", "--benchmark", small, "--json")
    with stopping_behind(2, monkeypatch):
        assert command(*run).code == 130
    (folder,) = (path for path in Path("runs/checkpoints").iterdir() if path.is_dir())
    (tensors,) = folder.glob("*.safetensors")
    for path in (tensors, folder / "state.json"):
        content = bytearray(path.read_bytes())
        place = len(content) // 2
        content[place] ^= 1
        path.write_bytes(bytes(content))
        result = command(*run)
        assert (result.code, result.err.count("error:")) == (2, 1), result.err
        assert "is damaged; --fresh starts the run anew" in result.err
        content[place] ^= 1
        path.write_bytes(bytes(content))
    assert command(*run).code == 0


def test_a_state_survives_as_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", "run")
    state: dict[str, Any] = {
        "a": torch.arange(6).view(2, 3).t(),
        "n": {0: torch.tensor(3.5), 7: [None, True, "x", 1e-300]},
        "empty": {},
    }
    store.save(state)
    found: Any = store.load()
    assert torch.equal(found["a"], state["a"])
    assert found["n"][0].item() == 3.5
    assert found["n"][7] == [None, True, "x", 1e-300]
    assert Store(tmp_path / "s", "another").load() is None
    store.save({"b": torch.zeros(1)})
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_lets_the_step_finish_and_be_saved_a_second_one_does_not(
    number: int, tmp_path: Path, own_signals: None
) -> None:
    signal.signal(number, signal.SIG_DFL)  # as where these tests do not run under nohup
    store = Store(tmp_path / "s", "run")
    keeper, before = Keeper(store), signal.getsignal(number)
    with keeper.listening():
        os.kill(os.getpid(), number)
        finished = True  # the step under way goes on
        with pytest.raises(KeyboardInterrupt):
            keeper.after_step(lambda: {"finished": finished})
        assert store.load() == {"finished": True}
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("writer", ["write_bytes", "write_json"])
def test_the_state_before_is_kept_until_the_next_is_complete(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, content: object) -> None:
        raise UserError(f"cannot write {path}")

    store = Store(tmp_path / "s", "run")
    store.save({"step": 1, "weights": torch.ones(3)})
    with monkeypatch.context() as patched:
        patched.setattr(f"ckl_bench.storage.checkpoint.{writer}", failing)
        with pytest.raises(UserError, match="cannot write"):
            store.save({"step": 2, "weights": torch.zeros(3)})
    found: Any = store.load()
    assert found["step"] == 1
    assert torch.equal(found["weights"], torch.ones(3))


def test_a_run_in_progress_is_locked_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ckl_bench.storage.locks import locked\n"
        "with locked(Path(sys.argv[1]), 'it'):\n    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"run 5 is running already, by process {holder.pid} on "),
            locked(tmp_path / "x.lock", "run 5"),
        ):
            pass
        holder.kill()
    with locked(tmp_path / "x.lock", "run 5"):
        pass
    assert not (tmp_path / "x.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "stops"),
    [
        ("small", (signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM)),
        ("temporalwiki-mini", (signal.SIGKILL, signal.SIGHUP, signal.SIGINT)),
    ],
    ids=["small", "temporalwiki-mini"],
)
def test_runs_killed_for_real_end_as_undisturbed_ones(
    benchmark: str, stops: tuple[signal.Signals, ...], small: Path, tmp_path: Path
) -> None:
    where, more = (small, ("--epochs", 25)) if benchmark == "small" else (benchmark, ("--epochs", 10, "--limit", 6))
    arguments = ("run", "--method", "recadam+mixreview", "--model", "tiny", "--benchmark", where, "--json", *more)
    draw, logs = random.Random(benchmark), tmp_path / "logs"
    plain = start([*arguments, "--output", "plain"], tmp_path, logs)
    assert plain.wait() == 0, plain.err.read_text()
    went_on = 0
    for stop in (*stops, None):
        child = start([*arguments, "--output", "killed"], tmp_path, logs)
        begun = time.time()
        while stop and child.running:
            saved = list(tmp_path.glob("killed/checkpoints/*/state.json"))
            if any(path.stat().st_mtime > begun for path in saved):
                time.sleep(draw.uniform(0, 0.5))
                child.send(stop)
                break
            time.sleep(0.02)
        code, errors = child.wait(), child.err.read_text()
        went_on += "going on behind step" in errors
        allowed = (0, -signal.SIGKILL) if stop == signal.SIGKILL else (0, 130)
        assert code in allowed, errors
        if code == 0:
            break
    assert went_on >= 1
    assert measured(child.out.read_text()) == measured(plain.out.read_text())
