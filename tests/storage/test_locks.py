"""Locks: bounded where they cannot be had, held on disks without flock too, and no wait without a word."""

from __future__ import annotations

import errno
import io
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ckl_bench.errors import UserError
from ckl_bench.storage import locks
from ckl_bench.storage.locks import locked
from ckl_bench.storage.writing import require_writable, write_text
from conftest import Command

RUN = ("run", "--method", "lora", "--model", "tiny", "--epochs", "1", "--limit", "2")
WITHOUT_FLOCK = (
    "import errno, fcntl\ndef refuse(*arguments):\n    raise OSError(errno.{0}, 'Not here')\nfcntl.flock = refuse\n"
)
HOLD = (
    "import sys, time; from pathlib import Path; from ckl_bench.storage.locks import locked\n"
    "with locked(Path(sys.argv[1]), 'it'):\n    print('held', flush=True); time.sleep(60)"
)
needs_proc = pytest.mark.skipif(not Path("/proc/1").is_dir(), reason="no /proc, in which nothing can be made")


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A disk that has no flock; what this process finds out of it is forgotten again."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_WITHOUT", set())


@needs_proc
@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/y", "/sys/x"])
@pytest.mark.parametrize("words", [RUN, ("train-attention", "--model", "tiny", "--out")], ids=["run", "train"])
def test_a_folder_that_cannot_be_made_is_one_line(place: str, words: tuple[str, ...], command: Command) -> None:
    start = time.monotonic()
    given = (*words, f"{place}/phi.safetensors") if words[-1] == "--out" else (*words, "--output", place)
    result = command(*given)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert place.rpartition("/")[0] in result.err
    assert time.monotonic() - start < 20


@needs_proc
def test_a_home_in_which_nothing_can_be_made_is_one_line(tmp_path: Path) -> None:
    around = {k: v for k, v in os.environ.items() if k not in ("CKL_BENCH_CACHE", "XDG_CACHE_HOME")}
    program = [sys.executable, "-c", "from ckl_bench.cli.app import main; main()"]
    given = [*program, "run", "--method", "lora", "--output", str(tmp_path)]
    done = subprocess.run(given, env={**around, "HOME": "/proc/1"}, capture_output=True, text=True, timeout=60)
    reasons = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2
    assert len(reasons) == 1
    assert "/proc/1/.cache" in reasons[0]
    assert "set CKL_BENCH_CACHE to a folder you may write to" in reasons[0]


def test_a_lock_that_can_never_be_had_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanished(*arguments: object, **more: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", vanished)
    start = time.monotonic()
    for wait in (False, True):
        with (
            pytest.raises(UserError, match=r"cannot write .*x\.lock: No such file"),
            locked(tmp_path / "x.lock", "it", wait=wait),
        ):
            pass
    assert time.monotonic() - start < 10


def test_a_folder_is_asked_by_trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_writable(tmp_path / "new" / "er")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        require_writable(tmp_path / "file" / "below")

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("ckl_bench.storage.writing.tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match=f"{tmp_path}: Disk quota exceeded"):
        require_writable(tmp_path)


def test_a_disk_that_takes_nothing_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(io.FileIO):
        def write(self, content: object) -> int:
            return 0

    monkeypatch.setattr("ckl_bench.storage.writing.io.FileIO", Stubborn)
    with pytest.raises(UserError, match=r"a\.txt: nothing is written"):
        write_text(tmp_path / "a.txt", "text")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("no_flock", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], indirect=True)
def test_without_flock_a_lock_is_a_file_that_names_its_holder(
    no_flock: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = rf"run 5 is running already, by process {os.getpid()} on {platform.node()} since .* remove .*x\.soft\.lock"
    with locked(tmp_path / "x.lock", "run 5"), locked(tmp_path / "y.lock", "run 6"):
        assert (tmp_path / "x.soft.lock").exists()
        with pytest.raises(UserError, match=own), locked(tmp_path / "x.lock", "run 5"):
            pass
    with locked(tmp_path / "x.lock", "run 5"):
        pass
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr().err
    assert said.count("has no flock") == 1  # for all that is locked in this folder
    assert "by hand" in said


@pytest.mark.parametrize("no_flock", [errno.ENOLCK], indirect=True)
def test_a_run_ends_on_a_disk_without_flock(no_flock: None, command: Command, small: Path, tmp_path: Path) -> None:
    result = command(*RUN, "--benchmark", small)
    assert result.code == 0, result.err
    assert "Traceback" not in result.err
    made = sorted(path.relative_to(tmp_path / "runs").as_posix() for path in (tmp_path / "runs").rglob("*"))
    assert [name for name in made if not name.startswith("records")] == ["lama-ckl.csv", "lama-ckl.md"]


def test_without_flock_a_killed_holders_lock_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_WITHOUT", {tmp_path})
    path = tmp_path / "x.lock"
    code = WITHOUT_FLOCK.format("ENOLCK") + HOLD
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"by process {holder.pid} on "), locked(path, "run 5"):
            pass
        holder.kill()
    with locked(path, "run 5"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_long_wait_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    path = tmp_path / "x.lock"
    command = [sys.executable, "-c", HOLD.replace("sleep(60)", "sleep(1.5)"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with locked(path, "the writing", wait=True):
            pass
    said = capsys.readouterr().err
    assert said.count(f"the writing is running already, by process {holder.pid}") == 1
    assert "this command waits for it" in said
