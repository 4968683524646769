"""Work that can be stopped: its state on disk, written whole and verified when read; when to save; who may go on."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from ckl_bench import ranks
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_sealed, sha256_bytes, sha256_file
from ckl_bench.storage.json import sealed
from ckl_bench.storage.locks import locked
from ckl_bench.storage.stops import on_stops, put_back
from ckl_bench.storage.writing import write_bytes, write_json

SHARE = 0.02  # of the time, at most, goes into saving
ONE_STOP = 2.0  # seconds in which whoever started a run may pass on a signal that its processes have had already


class Resumable(Protocol):
    """Work that goes on where it was stopped: what it is made of at this moment, and how that is put back."""

    def state(self) -> Any:
        """Everything needed to go on behind this step: a tree of dicts, lists, plain values and tensors."""

    def take_up(self, saved: Any) -> None:
        """Put back what `state` gave."""


class Store:
    """The newest state of one run in a folder of its own: tensors as safetensors, everything else as JSON.

    The JSON is written last and names the tensors' file by its hash, so a half-done save is never read; the state
    before is kept until the next is complete. Tensors that are set aside have a file of their own, which the states
    behind it name.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self._identity = folder, identity
        self._file = self._beside = ""  # of the saved state: its tensors, and what was set aside then
        self._aside = ""  # what is set aside now

    def save(self, state: Any) -> None:
        """Write a state: a tree of dicts, lists, plain values and tensors."""
        tensors: dict[str, Tensor] = {}
        tree = _pack(state, tensors)
        file, whole = self._write("state", tensors)
        head = {"identity": self._identity, "file": file, "sha256": whole, "aside": self._aside, "tree": tree}
        write_json(self.folder / "state.json", sealed(head))
        self._file, self._beside = file, self._aside
        self._tidy()

    def set_aside(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors for later, in place of those before, which stay as long as the saved state names them."""
        self._aside, _ = self._write(name, tensors)
        self._tidy()

    def aside(self, name: str) -> dict[str, Tensor] | None:
        """What was set aside last, if that is its name; UserError where the file is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        start, _, rest = self._aside.rpartition("-")
        if start != name:
            return None
        try:
            content = (self.folder / self._aside).read_bytes()
            if not sha256_bytes(content).startswith(rest.removesuffix(".safetensors")):
                raise self._damaged()
            found: dict[str, Tensor] = load(content)
        except (OSError, ValueError, SafetensorError) as error:
            raise self._damaged() from error
        return found

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> tuple[str, str]:
        """Write tensors to a file whose name tells their hash; that name, and the hash."""
        from safetensors.torch import save

        content = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        whole = sha256_bytes(content)
        file = f"{name}-{whole[:16]}.safetensors"
        write_bytes(self.folder / file, content)
        return file, whole

    def _tidy(self) -> None:
        """Delete what no state needs any more, and what a killed process has left half-written."""
        needed = ("state.json", self._file, self._beside, self._aside)
        for old in self.folder.iterdir():
            if old.name not in needed:
                old.unlink(missing_ok=True)

    def _damaged(self) -> UserError:
        return UserError(f"the checkpoint in {self.folder} is damaged; --fresh starts the run anew")

    def load(self) -> Any | None:
        """The saved state of this very run, or None; UserError where its files are damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / "state.json"
        if not path.is_file():
            return None
        try:
            head = read_sealed(path)
            if head["identity"] != self._identity:
                return None
            tensors = self.folder / Path(head["file"]).name
            if sha256_file(tensors) != head["sha256"]:
                raise self._damaged()
            state = _unpack(head["tree"], load_file(tensors))
            self._file, self._beside = tensors.name, Path(head.get("aside", "")).name
            self._aside = self._beside
            return state
        except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
            raise self._damaged() from error

    def remove(self) -> None:
        """Delete the state: the run is complete, or is to start anew."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, tensors) for item in value]}
    return {"value": value}


def _unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "items":
        return {key: _unpack(item, tensors) for key, item in value}
    return [_unpack(item, tensors) for item in value] if kind == "list" else value


class Keeper:
    """Saves a run's state as it goes on: often, but for at most `SHARE` of the time; and when it is asked to stop.

    A first Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 is noted, and the run is saved and stopped behind the step under way
    (KeyboardInterrupt); a second one stops at once. Of several processes the first saves, and all stop behind one step.
    Two signals that differ are one notice, if whoever watches over a run can have passed it on.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._saved, self._cost = time.perf_counter(), 0.01
        self._asked, self._since, self._by = False, 0.0, 0  # when, and by which signal
        self._aside: tuple[str, dict[str, Tensor]] = "", {}  # where nothing is stored

    def load(self) -> Any | None:
        """The state to go on from, if there is one."""
        return ranks.from_first(self._store.load) if self._store else None

    def take_up(self, work: Resumable) -> bool:
        """Put back the saved state, if there is one; whether there was."""
        saved = self.load()
        if saved is None:
            return False
        work.take_up(saved)
        return True

    def set_aside(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Have these tensors at hand later, and if the run is stopped, in place of those set aside before."""

        def put() -> None:
            if self._store:
                self._store.set_aside(name, tensors)
            else:
                self._aside = name, {key: tensor.detach().cpu().clone() for key, tensor in tensors.items()}

        ranks.from_first(put)

    def aside(self, name: str) -> dict[str, Tensor] | None:
        """In the first process: what was set aside last, if that is its name. UserError where it is damaged."""
        if self._store:
            return self._store.aside(name)
        return self._aside[1] if self._aside[0] == name else None

    def after_step(self, state: Callable[[], Any]) -> None:
        """Save if it is time to, or if the run was asked to stop; then stop."""
        now, asked = time.perf_counter(), ranks.any_of(self._asked)
        if self._store and ranks.first() and (asked or (now - self._saved) * SHARE > self._cost):
            self._store.save(state())
            self._saved = time.perf_counter()
            self._cost = self._saved - now
        if asked:
            ranks.wait()  # whoever left earlier would have the others ended
            raise KeyboardInterrupt

    @contextmanager
    def kept(self, state: Callable[[], Any]) -> Iterator[None]:
        """Save what there is where the step in the block fails or is stopped, but for a mistake of the user's."""
        try:
            yield
        except BaseException as error:
            if self._store and ranks.first() and not isinstance(error, UserError):
                self._store.save(state())
            raise

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notice the signals that ask for a stop inside the block (in the main thread, where signals arrive)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            now = time.perf_counter()
            passed_on = (ranks.world() > 1 or number != self._by) and now - self._since <= ONE_STOP
            if self._asked and not passed_on:
                raise KeyboardInterrupt
            if not self._asked:
                self._asked, self._since, self._by = True, now, number

        before = on_stops(ask)
        try:
            yield
        finally:
            put_back(before)


@contextmanager
def undertaking(store: Store, lock: Path, what: str, *, fresh: bool = False) -> Iterator[None]:
    """Work that one process does at a time, and whose state is deleted once it is done; `fresh` begins without one.

    Raises UserError where another process is at it.
    """
    with locked(lock, what):
        if fresh:
            store.remove()
        yield
        store.remove()


def sha256_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of named tensors: their names, types, shapes and bytes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        whole.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
        whole.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def random_state(device: str) -> dict[str, Tensor]:
    """The state of torch's random generators."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {})


def set_random_state(states: Mapping[str, Tensor], device: str) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
