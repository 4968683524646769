"""Every reader: those of what ckl-bench writes itself, under checksums, here; `fuzz.py` damages their input."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.lama_ckl import build_from_lama
from ckl_bench.errors import UserError
from ckl_bench.models.find import find_model
from ckl_bench.records import read_record
from ckl_bench.results.tables import tables
from ckl_bench.storage.checkpoint import Store, sha256_tensors
from ckl_bench.storage.files import sha256_bytes
from ckl_bench.storage.json import CHECKSUM, json_text, sealed, sha256_json
from ckl_bench.storage.seals import is_sealed, seal_folder
from ckl_bench_methods.taalm.attention import FILES, Shape, TrainAttention, load_attention
from conftest import knows_first_capitals, write_lama
from harness.fuzz_bench import OUTSIDE, SECRET, Files, Reader
from harness.fuzz_sources import SOURCES, put
from helpers.runs import TINY_RECORD


def _object(files: Files, name: str) -> dict[str, Any]:
    """A JSON file's object; an empty one where it holds none."""
    with suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(files.get(name) or "null"), dict):
            return value
    return {}


def _seal(files: Files, name: str, /, **right: object) -> None:
    value = _object(files, name)
    value.pop(CHECKSUM, None)
    with suppress(ValueError):  # half characters and NaN have no checksum
        if value:
            files[name] = json_text(sealed(value | right)).encode()


def _sha256(content: object) -> str:
    return sha256_bytes(content) if isinstance(content, bytes) else ""


_RECORD = {"record.json": TINY_RECORD.read_bytes()}


def _read_record(folder: Path, scratch: Path) -> object:
    record = read_record(folder / "record.json")
    for scores in [scores for stage in record.stages for epoch in stage.epochs for scores in epoch.sets.values()]:
        for whole, probes in ((scores.accuracy, scores.probe_accuracy), (scores.nll, scores.probe_nll)):
            assert math.isclose(whole, sum(probes) / len(probes), abs_tol=1e-4)
    return [record.model_dump(), tables([record])]


def _restore_record(files: Files) -> None:
    with suppress(ValueError):
        _seal(files, "record.json", run_id=sha256_json(_object(files, "record.json").get("spec"))[:16])


def _make_benchmark(folder: Path) -> None:
    lama = write_lama(folder.with_name("lama"))
    build_from_lama(lama, folder, models={"known": ("test", knows_first_capitals)}, to_learn=3, not_to_forget=3)


def _read_benchmark(folder: Path, scratch: Path) -> object:
    benchmark = load_benchmark(str(folder))
    texts: list[Sequence[Any]] = [benchmark.attention, benchmark.rehearsal]
    for stage in benchmark.stages:
        texts += [stage.documents, *stage.probes.values()]
    rows = [asdict(row) for table in texts for row in table]
    plain = [
        value for row in rows for name, value in row.items() if "fact" not in name and (name, value) != ("was", None)
    ]
    assert all(isinstance(value, str) for value in plain)
    assert not any("secret" in row["id"] for row in rows)
    return [benchmark.hash, [stage.name for stage in benchmark.stages], rows]


def _restore_benchmark(files: Files) -> None:
    sums, there = _object(files, "manifest.json").get("files"), files | {OUTSIDE: SECRET}
    if isinstance(sums, dict):
        _seal(files, "manifest.json", files={name: _sha256(there.get(name)) or old for name, old in sums.items()})


def _make_attention(folder: Path) -> None:
    base, shape = find_model("tiny"), Shape(r=2)
    about = {"model": "tiny", "tokenizer_hash": base.tokenizer_hash, "shape": asdict(shape)}
    FILES.save(folder / "phi.safetensors", TrainAttention(base.load(), shape, seed=0).trained(), about)


def _read_attention(folder: Path, scratch: Path) -> object:
    path = folder / "phi.safetensors"
    phi = load_attention(path, find_model("tiny").load())
    return [FILES.about(path), asdict(phi.shape), sha256_tensors(phi.trained())]


def _restore_attention(files: Files) -> None:
    _seal(files, "phi.json", sha256=_sha256(files.get("phi.safetensors")))


def _make_checkpoint(folder: Path) -> None:
    Store(folder, "me").save({"epoch": 2, "more": [None, {"a": torch.arange(9.0)}], "rng": torch.arange(64)})


def _read_checkpoint(folder: Path, scratch: Path) -> object:
    if not (folder / "state.json").is_file():
        raise UserError("there is none")
    return _plain(Store(folder, "me").load())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else getattr(value, "tolist", lambda: value)()


def _restore_checkpoint(files: Files) -> None:
    content = next((content for name, content in files.items() if name.endswith(".safetensors")), b"")
    _seal(files, "state.json", sha256=_sha256(content))


def _make_sealed(folder: Path) -> None:
    put({"a.txt": "a", "b.txt": "b" * 9}, folder)
    seal_folder(folder)


def _read_sealed(folder: Path, scratch: Path) -> object:
    if not is_sealed(folder):
        raise UserError(f"{folder} is not as it was")
    return {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}


_LIST = [
    Reader(name="record", make=partial(put, _RECORD), read=_read_record, restore=_restore_record, share=3),
    Reader(name="benchmark", make=_make_benchmark, read=_read_benchmark, restore=_restore_benchmark, share=0.7),
    Reader(name="attention", make=_make_attention, read=_read_attention, restore=_restore_attention, share=0.7),
    Reader(name="checkpoint", make=_make_checkpoint, read=_read_checkpoint, restore=_restore_checkpoint, share=2),
    Reader(name="sealed folder", make=_make_sealed, read=_read_sealed),
    *SOURCES,
]
READERS = {reader.name: reader for reader in _LIST}
