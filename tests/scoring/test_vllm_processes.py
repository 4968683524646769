"""Processes of an engine: a killed one ends what waits for it, and none is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import psutil
import pytest

from ckl_bench.scoring.vllm_processes import none_left, while_alive

_SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def _env(hidden: bool) -> dict[str, str]:
    """An environment that says whose process it is, or hides it."""
    return {} if hidden else dict(os.environ)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_killed_process_ends_what_waits_for_it(hidden: bool) -> None:
    """vLLM waits for the answer of a killed engine for ever; setproctitle hides what its processes were given."""
    others = subprocess.Popen(_SLEEPS)
    with none_left() as processes:
        child = subprocess.Popen(_SLEEPS, env=_env(hidden))
        assert [one.pid for one in processes()] == [child.pid]
        threading.Timer(0.5, child.kill).start()
        with pytest.raises(ChildProcessError, match="was killed"):
            while_alive(threading.Event().wait, processes())
    with none_left() as processes:
        other = subprocess.Popen(_SLEEPS, env=_env(hidden))
        with pytest.raises(ValueError, match="invalid literal"):
            while_alive(lambda: int("a"), processes())
        assert while_alive(lambda: 3, processes()) == 3
    assert not psutil.pid_exists(other.pid)
    assert others.poll() is None  # it was there before
    others.kill()
    others.wait()


@pytest.mark.parametrize("hidden", [False, True])
def test_processes_of_a_killed_process_are_not_left(hidden: bool) -> None:
    code = f"import subprocess; p = subprocess.Popen({_SLEEPS!r}, env={{}}); print(p.pid, flush=True); p.wait()"
    with none_left() as processes:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=_env(hidden))
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert {one.pid for one in processes()} == {child.pid, grandchild}
        child.kill()
        child.wait()
        assert psutil.Process(grandchild).is_running()
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
