"""The benchmark directory: `manifest.json` and JSONL files, written whole and verified by hash when read.

manifest.json                           what it is and was made of, the hash of every file, a checksum of its own
stages/<nn>-<name>/documents.jsonl      {"id", "text", "fact"}
stages/<nn>-<name>/probes-<set>.jsonl   {"id", "prompt", "object", "subject", "relation", ...}
attention/train.jsonl                   {"id", "text", "fact", "prompt"}: documents with a task, to meta-train φ
rehearsal.jsonl                         {"id", "text", "fact"}: documents that a rehearsal method may replay
README.md, croissant.json               made from the rest for others' tools, and no part of the hash
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ckl_bench.benchmarks.arrow import ArrowRows
from ckl_bench.benchmarks.card import MARK, dataset_card
from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.benchmarks.croissant import croissant
from ckl_bench.benchmarks.manifest import check_manifest
from ckl_bench.benchmarks.parts import parts
from ckl_bench.errors import UserError, unknown
from ckl_bench.progress import log
from ckl_bench.storage.files import cache_dir, data_dir, read_sealed, sha256_file
from ckl_bench.storage.json import json_text, jsonl, sealed, sha256_json
from ckl_bench.storage.writing import new_folder, write_files, write_json

T = TypeVar("T")
SCHEMA = 1
TABLE = 2  # of what is checked when a file's Arrow table is made: another one makes all of them again
CARD, CROISSANT = "README.md", "croissant.json"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """(subject, relation, object); `relation` is the Wikidata code, such as P36.

    `surface` is what the text that states the fact calls its object, where that is another form ("French" of France).
    """

    subject: str
    relation: str
    object: str
    surface: str | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        """What a text may call the object."""
        return (self.object, self.surface) if self.surface else (self.object,)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text to learn, with a stable id; `fact` is what it is evidence of, where that is known."""

    id: str
    text: str
    fact: Fact | None = None
    more_facts: tuple[Fact, ...] = ()  # where a text (a month's changes of an article) is evidence of several

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Every fact the text is evidence of."""
        return (self.fact, *self.more_facts) if self.fact else self.more_facts


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A prompt that contains the object; a model is scored on the object's tokens only."""

    id: str
    prompt: str
    object: str
    subject: str = ""
    relation: str = ""
    was: str | None = None  # the object that this one replaced, where a fact was updated, not added


@dataclass(frozen=True, kw_only=True)
class AttentionDocument(Document):
    """A document with a task: `prompt` asks for the object of its fact (φ's meta-training pair (D, T))."""

    prompt: str
    fact: Fact  # always known here


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Documents to learn, then probe sets to score."""

    name: str
    documents: Sequence[Document]
    probes: Mapping[str, Sequence[Probe]]


@dataclass(frozen=True, kw_only=True)
class StageRows:
    """A stage as a builder gives it: its documents may be a stream that is read once."""

    name: str
    documents: Iterable[Document]
    probes: Mapping[str, Iterable[Probe]]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark in memory; the texts of stages, attention and rehearsal are read from disk as they are asked for."""

    name: str
    kind: str
    hash: str
    manifest: Mapping[str, Any]
    stages: Sequence[Stage]
    attention: Sequence[AttentionDocument] = field(default_factory=list)
    rehearsal: Sequence[Document] = field(default_factory=list)

    @property
    def licences(self) -> list[str]:
        """Of its sources, each once."""
        return sorted({str(source["licence"]) for source in self.manifest.get("sources", ())})


def _features(row: type) -> Any:
    """The Arrow columns of a kind of row: its fields, all of them text but for facts."""
    from datasets import Features, List, Value

    text = Value("string")
    fact = {field.name: text for field in fields(Fact)}
    return Features({f.name: {"fact": fact, "more_facts": List(fact)}.get(f.name, text) for f in fields(row)})


def _row(item: Document | Probe) -> dict[str, Any]:
    return _known(asdict(item))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """A row, and the facts in it, without what is not known."""
    kept = {key: value for key, value in row.items() if value is not None and value != ()}
    if "fact" in kept:
        kept["fact"] = _known(kept["fact"])
    if "more_facts" in kept:
        kept["more_facts"] = [_known(fact) for fact in kept["more_facts"]]
    return kept


def write_benchmark(
    target: Path,
    *,
    name: str,
    kind: str,
    about: Mapping[str, Any],
    stages: Iterable[Stage | StageRows],
    attention: Iterable[AttentionDocument] = (),
    rehearsal: Iterable[Document] = (),
    score_only: bool = False,
) -> str:
    """Write a benchmark directory, whole or not at all, and return its hash.

    `about` joins the manifest: builder and arguments, sources, pre-test models, counts, defaults. Nothing in it may
    depend on the time, the machine or the folder, or the same sources would give another hash. It is read after the
    rows, so that counts in it may grow while they are streamed.
    Raises UserError where `target` exists already or cannot be written, and for a stage without documents: nothing
    could be learned in it, which only a benchmark that is `score_only` allows.
    """
    with new_folder(target) as folder:
        sums: dict[str, str] = {}

        def put(relative: str, rows: Iterable[Document | Probe]) -> int:
            path, count = folder / relative, 0
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                for row in rows:
                    file.write(jsonl([_row(row)]))
                    count += 1
            sums[relative] = sha256_file(path)
            return count

        first: list[str] = []  # probes whose object begins their prompt

        def noting(probes: Iterable[Probe]) -> Iterator[Probe]:
            for probe in probes:
                if probe.object and probe.prompt.rfind(probe.object) == 0:
                    first.append(probe.id)
                yield probe

        names = []
        for number, stage in enumerate(stages, 1):
            label = f"{number:02d}-{stage.name}"
            names.append({"name": stage.name, "folder": f"stages/{label}", "probe_sets": list(stage.probes)})
            if not put(f"stages/{label}/documents.jsonl", stage.documents) and not score_only:
                raise UserError(
                    f"stage '{stage.name}' has no document, so that a run would learn nothing in it; give sources that "
                    "have some, or --score-only where the model is only to be scored"
                )
            for set_name, probes in stage.probes.items():
                put(f"stages/{label}/probes-{set_name}.jsonl", noting(probes))
        put("attention/train.jsonl", attention)
        put("rehearsal.jsonl", rehearsal)
        manifest = {"schema": SCHEMA, "name": name, "kind": kind, **about, "stages": names, "files": sums}
        write_json(folder / "manifest.json", sealed(manifest))
        _describe(folder, manifest)
    if first:
        log(
            f"note: the prompt begins with the object in {len(first)} probes, such as '{first[0]}': a model whose "
            "tokenizer puts nothing before a text predicts no first token, and is not asked for that one"
        )
    return sha256_json(manifest)


def _describe(folder: Path, manifest: Mapping[str, Any]) -> list[Path]:
    kinds = {"documents": Document, "probes": Probe, "attention": AttentionDocument, "rehearsal": Document}
    tables = parts(folder, manifest, kinds)
    texts = {
        folder / CARD: dataset_card(manifest, tables, kinds),
        folder / CROISSANT: json_text(croissant(manifest, tables)),
    }
    write_files({path: text.encode() for path, text in texts.items()})
    return list(texts)


def describe(name: str) -> list[Path]:
    """Write the dataset card and the Croissant file of a benchmark that is there; returns their paths.

    Its hash stays what it was. Raises UserError as `load_benchmark` does, and where README.md is another's.
    """
    benchmark, folder = load_benchmark(name), find_benchmark(name)
    card = folder / CARD
    if card.exists() and not (card.is_file() and MARK in card.read_text(encoding="utf-8", errors="replace")):
        raise UserError(f"{card} was not written by ckl-bench; move it, for the dataset card has that name")
    return _describe(folder, benchmark.manifest)


def find_benchmark(name: str) -> Path:
    """The folder of a benchmark given by its name (an embedded one) or by its path; UserError where there is none."""
    path = Path(name)
    if name in BENCHMARKS:
        return data_dir() / "benchmarks" / name
    if path.is_dir():
        return path
    raise unknown(
        "benchmark", name, BENCHMARKS, "Or give the path of a benchmark directory (ckl-bench build makes one)."
    )


def load_benchmark(name: str) -> Benchmark:
    """Read a benchmark by name or path and verify every file against the manifest.

    Raises UserError where the directory is no benchmark, a hash is wrong, a probe set is empty or has an id twice.
    """
    folder = find_benchmark(name)
    if not (folder / "manifest.json").is_file():
        raise UserError(f"{folder} is not a benchmark directory: no manifest.json; make one with ckl-bench build")
    manifest = read_sealed(folder / "manifest.json")
    if manifest.get("schema") != SCHEMA:
        found = manifest.get("schema")
        raise UserError(f"{folder}/manifest.json has schema {found}, this version reads {SCHEMA}; build it again")
    check_manifest(manifest, f"{folder}/manifest.json")
    try:
        sums: dict[str, str] = dict(manifest["files"])
        for relative, expected in sums.items():
            path = (folder / relative).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise UserError(f"{folder}/manifest.json names a file outside the benchmark: {relative}")
            found = sha256_file(path) if path.is_file() else "missing"
            if found != expected:
                raise UserError(
                    f"{folder / relative} does not match the manifest (sha256 {found[:12]}, expected {expected[:12]}); "
                    "restore the file or build the benchmark again"
                )

        def table(relative: str, row: type[T]) -> Sequence[T]:
            place = cache_dir() / "arrow" / f"{sums[relative]}-{row.__name__}-{TABLE}"  # a changed file has another
            return ArrowRows(folder / relative, place, row, _features)

        stages = []
        for entry in manifest["stages"]:
            probes = {s: table(f"{entry['folder']}/probes-{s}.jsonl", Probe) for s in entry["probe_sets"]}
            for set_name, rows in probes.items():
                if not rows:
                    raise UserError(
                        f"{folder}: probe set '{set_name}' of stage '{entry['name']}' is empty; build again"
                    )
            documents = table(f"{entry['folder']}/documents.jsonl", Document)
            stages.append(Stage(name=entry["name"], documents=documents, probes=probes))
        return Benchmark(
            name=manifest["name"],
            kind=manifest["kind"],
            hash=sha256_json(manifest),
            manifest=manifest,
            stages=stages,
            attention=table("attention/train.jsonl", AttentionDocument),
            rehearsal=table("rehearsal.jsonl", Document),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # the last for a file's name that can be none
        raise UserError(
            f"{folder}/manifest.json is incomplete ({type(error).__name__}: {error}); build it again"
        ) from error
