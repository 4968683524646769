"""One run on several processes: which of them this is, and what they tell each other.

`torchrun`, or what speaks as it does, starts the processes and says in the environment which one each is. What is cheap
they all do alike; what is dear (gradients, scores) they share; one, the first, writes and speaks. With one process
nothing here does anything, and torch is not imported.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ckl_bench.errors import CklError, UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(days=1)  # the first may score other tasks or write a large model while the others wait
_TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_lost: list[bool] = []  # whether one is gone
_joined: list[Any] = []  # torch.distributed, once this process has joined the others
_in_step: list[bool] = []  # whether the processes divide no work


class Lost(CklError):
    """Another process of the run is gone, and what was under way with it."""


def started() -> tuple[int, int]:
    """(which process this is, of how many), as whoever started it says; (0, 1) where nobody does."""
    told = [os.environ.get(name, "") for name in _TOLD]
    if not all(told) or not told[0].isdigit() or not told[1].isdigit():
        return 0, 1
    return int(told[0]), int(told[1])


def local_device(device: str) -> str:
    """Of `cuda`, this process's own GPU; UserError where there are more processes than GPUs on a machine."""
    if device != "cuda" or started()[1] == 1:
        return device
    import torch

    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", place + 1))
    if here > there:
        raise UserError(
            f"{here} processes on a machine with {there} GPU{'s' * (there != 1)}: start one a GPU, or give --device cpu"
        )
    return f"cuda:{place}"


def join(device: str) -> None:
    """Meet the other processes; nothing where there are none. Raises Lost where they do not come."""
    if started()[1] == 1 or _joined:
        return
    import torch
    import torch.distributed as together

    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") and together.is_nccl_available() else "gloo"
    with _talking():
        together.init_process_group(backend, timeout=PATIENCE)
    _joined.append(together)


def leave() -> None:
    """The work is done; the processes part."""
    if _joined:
        together = _joined.pop()
        with suppress(RuntimeError):
            together.barrier()
        with suppress(RuntimeError):
            together.destroy_process_group()


def world() -> int:
    """How many processes share the work."""
    return started()[1] if _joined else 1


def workers() -> int:
    """Among how many processes work is divided: all of them, or where they go in step each does all of it."""
    return 1 if _in_step else world()


@contextmanager
def in_step(wanted: bool = True) -> Iterator[None]:
    """In it, every process does the same at the same time: what they share is the model itself."""
    if not wanted:
        yield
        return
    _in_step.append(True)
    try:
        yield
    finally:
        _in_step.pop()


def by_model(make: Callable[[], T]) -> T:
    """What one process would make with the model and give to all; where they hold it together, all make it."""
    return make() if _in_step else from_first(make)


def rank() -> int:
    """Which of them this is, from 0."""
    return started()[0] if _joined else 0


def first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def said_first(what: str) -> bool:
    """Whether no process said this before.

    Before they have met, all have been given the same, and the first one says it. Where the one that kept count is
    gone, it has said it or was killed, and then the second one does.
    """
    if not _joined:
        return started()[0] == 0
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        store = _get_default_store()
        store.set_timeout(timedelta(seconds=5))
        return int(store.add(f"ckl-bench: {what}", 1)) == 1
    except Exception:
        return rank() == 1 and bool(_lost)


@contextmanager
def _talking() -> Iterator[None]:
    """What torch raises where another process does not answer is `Lost`."""
    try:
        yield
    except RuntimeError as error:
        _lost.append(True)
        raise Lost(
            f"another of the {started()[1]} processes of this run is gone ({first_line(error)[:120]}); run the same "
            "command again to go on"
        ) from error


def add(values: Tensor) -> None:
    """Let values be the sum of what each process gives."""
    with _talking():
        _joined[0].all_reduce(values)


def wait() -> None:
    """Until every process is here."""
    if world() > 1:
        with _talking():
            _joined[0].barrier()


def gather(value: T) -> list[T]:
    """What each process gives, in their order; given to all."""
    if world() == 1:
        return [value]
    given: list[Any] = [None] * world()
    with _talking():
        _joined[0].all_gather_object(given, value)
    return given


def any_of(flag: bool) -> bool:
    """Whether it is so in any process."""
    if world() == 1:
        return flag
    import torch

    found = torch.tensor([int(flag)])
    add(found)
    return bool(found.item())


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, given to all; its error is raised in all."""
    if world() == 1:
        return make()
    given: list[Any] = [None, None]
    raised: BaseException | None = None
    if first():
        try:
            given[0] = make()
        except (Exception, KeyboardInterrupt) as error:
            given[1], raised = _portable(error), error
    with _talking():
        _joined[0].broadcast_object_list(given, src=0)
    if raised is not None:
        raise raised
    if given[1] is not None:
        raise given[1]
    return given[0]  # type: ignore[no-any-return]


@contextmanager
def together() -> Iterator[None]:
    """Work that each process does for itself; where one fails, its error is raised in all."""
    if world() == 1:
        yield
        return
    raised: Exception | None = None
    try:
        yield
    except Lost:
        raise
    except Exception as error:
        raised = error
    if any_of(raised is not None):
        others = [error for error in gather(None if raised is None else _portable(raised)) if error is not None]
        raise raised if raised is not None else others[0]


def _portable(error: BaseException) -> BaseException:
    """An error as it can be told to another process."""
    try:
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error):
            return error
    except Exception:  # whatever an error of another's holds
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


def as_first(tensors: Sequence[Tensor]) -> None:
    """Let tensors be what they are in the first process."""
    if world() > 1:
        with _talking():
            for tensor in tensors:
                _joined[0].broadcast(tensor, src=0)


def require_same(value: object, what: str) -> None:
    """UserError where a process has another value than the first one."""
    if world() > 1:
        each = gather(value)
        other = next((place for place, found in enumerate(each) if found != each[0]), None)
        if other is not None:
            raise UserError(
                f"{what} is {each[0]} in process 0 and {each[other]} in process {other}; give every machine the same "
                "files and the same command"
            )
