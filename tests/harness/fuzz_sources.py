"""Readers of what comes from outside (dumps, published files, plugins, models), each with a small valid input."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from gguf import GGUFWriter

from ckl_bench.benchmarks.lama_sources import FORMS, read_lama, read_published
from ckl_bench.benchmarks.temporalwiki.ingest import (
    Reading,
    Wanted,
    read_articles,
    read_entities,
    read_page_props,
    read_texts,
)
from ckl_bench.benchmarks.temporalwiki.languages import sentences
from ckl_bench.benchmarks.temporalwiki.published import build_from_published
from ckl_bench.benchmarks.temporalwiki.shards import batches, counts_of
from ckl_bench.benchmarks.temporalwiki.wikitext import clean
from ckl_bench.errors import UserError
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.results.markdown import markdown_table
from ckl_bench.results.published import published_rows
from ckl_bench.results.tables import BOARDS
from ckl_bench.stacks.plugins import Origin, describe
from ckl_bench.storage.checkpoint import sha256_tensors
from ckl_bench.storage.json import jsonl
from conftest import write_lama
from harness.fuzz_bench import Reader
from helpers.architectures import make


def put(contents: Mapping[str, str | bytes], folder: Path) -> None:
    """Write files into a folder."""
    for name, content in contents.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


# Dumps


def _page(number: int, text: str, namespace: int = 0, more: str = "") -> str:
    head = f"<page><title>Tōwn {number}</title><ns>{namespace}</ns><id>{number}</id>{more}"
    return f"{head}<revision><id>{number}7</id><text>{escape(text)}</text></revision></page>\n"


WIKITEXT = """'''Town 1''' ({{lang|fr|Ville}}) is a [[town|place]]<ref>x</ref>. It has ''some'' people & more.
{| class="a"\n| [[b]]\n|}\n== Head ==\n* [http://a.b A link], &lt;b&gt; <math>x</math><!-- no -->\n[[Category:Towns]]
"""
_PAGES = [*(_page(n, WIKITEXT) for n in (1, 2, 3)), _page(4, "Talk.", 1), _page(5, "#", more='<redirect title="a"/>')]
_HEAD, _TAIL = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">\n', "</mediawiki>\n"
_STREAMS = [_HEAD, "".join(_PAGES[:2]), "".join(_PAGES[2:4]), _PAGES[4], _TAIL]
_MULTI = [bz2.compress(text.encode()) for text in _STREAMS]
_OFFSETS = [sum(map(len, _MULTI[:block])) for block in (1, 1, 2, 2, 3)]
_INDEX = "".join(f"{offset}:{page}:Tōwn {page}\n" for page, offset in enumerate(_OFFSETS, 1)).encode()
_VALUE = {"snaktype": "value", "datavalue": {"value": {"entity-type": "item", "id": "Q3"}}}
_NAMES = {"labels": {"en": {"value": "tōwn"}}, "sitelinks": {"enwiki": {"title": "Tōwn"}}}
_CLAIMS = {"P1": [{"mainsnak": _VALUE, "rank": "normal"}]}
_ENTITIES = [json.dumps({"id": f"Q{n}", **_NAMES, "claims": _CLAIMS}) for n in (1, 2, 3)]
_WIKIDATA_XML = _HEAD + "".join(_page(n, text) for n, text in enumerate(_ENTITIES)) + _TAIL
_SQL = "INSERT INTO `page_props` VALUES (10,'wikibase_item','Q42',NULL),(11,'wikibase_item','Q7',NULL);\n"


def _only(folder: Path, names: str) -> Path:
    """The file that a user would name; the command looks whether it is one."""
    for path in folder.glob(names):
        if path.is_file():
            return path
    raise UserError(f"there is no file {names}")


def _rows(*steps: Path) -> object:
    return [[[row for batch in batches(step) for row in batch], counts_of(step)] for step in steps]


def _read_wiki(folder: Path, scratch: Path) -> object:
    dump = _only(folder, "*.xml*")
    with ThreadPoolExecutor(1) as pool:
        articles = read_articles(dump, scratch / "articles", pool)
        pages = np.arange(6)
        wanted = Wanted.write(scratch / "wanted.npy", pages, 10 * pages + 7)
        return _rows(articles, read_texts(dump, wanted, scratch / "texts", pool))


def _read_wikidata(folder: Path, scratch: Path) -> object:
    with ThreadPoolExecutor(1) as pool:
        return _rows(read_entities(_only(folder, "*"), Reading(), scratch / "entities", pool))


def _read_props(folder: Path, scratch: Path) -> object:
    return _rows(read_page_props(_only(folder, "*"), scratch / "props"))


def _read_wikitext(folder: Path, scratch: Path) -> object:
    text, dropped, templates = clean(_only(folder, "*").read_bytes().decode(errors="replace"))
    return [dropped, sentences(text), sorted(templates.items())]


def _forms(name: str, file: str, text: str, read: Callable[[Path, Path], object]) -> Iterator[Reader]:
    """A dump as it is, and packed, which adds a checksum."""
    yield Reader(name=name, make=partial(put, {file: text}), read=read, strict=False, share=2)
    for kind, pack in (("gz", partial(gzip.compress, mtime=0)), ("bz2", bz2.compress)):
        packed = {f"{file}.{kind}": pack(text.encode())}
        yield Reader(name=f"{name} {kind}", make=partial(put, packed), read=read)


# Other sources from outside


def _make_lama(folder: Path) -> None:
    write_lama(folder.with_name("lama"), 3).rename(folder)


def _read_lama(folder: Path, scratch: Path) -> object:
    candidates, refused = read_lama(folder)
    return [[asdict(one) for one in candidates], refused]


_LAMA_TEXTS = ("uuid", "subject", "relation_code", "object", "evidence", "task_descriptive", "task_schematic")
_LAMA_ROW = {name: f"{name} 1" for name in _LAMA_TEXTS} | {
    "scores": {form: {"a": 0.5, "b": 1} for form in ("descriptive", "schematic")}
}


def _read_published_lama(folder: Path, scratch: Path) -> object:
    return [[asdict(one), [one.mean(form) for form in FORMS]] for one in read_published(folder / "rows.jsonl")]


_TWIKI = jsonl({"subject": f"Subject {i}", "relation": "is in", "object": f"Place {i}"} for i in range(3))
_TEXT = "On the first day, the council of the “town” moved to a larger hall, it said."
_PUBLISHED = {f"0801-0901_{kind}.jsonl": _TWIKI for kind in ("changed", "unchanged")}
_PUBLISHED |= {"08010901.csv": f'id,text\r\n0,"{_TEXT}"\r\n1,"{_TEXT}\n{_TEXT}"\r\n'}


def _read_published_wiki(folder: Path, scratch: Path) -> object:
    counts = build_from_published(folder, scratch / "out")
    return [counts, [path.read_text(encoding="utf-8") for path in sorted((scratch / "out").rglob("*.jsonl"))]]


_TOML = """[[lama-ckl]]\nmethod = "One"\nmodel = "M"\nbenchmark = "b"\ntop_acc = 0.1\nepoch = 3\nnf_acc = 0.8
total_knowledge = 0.9\n[[temporalwiki]]\nmethod = "Two"\nmodel = "M"\nbenchmark = "b"\n0809_changed_nll = 2.5
0809_unchanged_nll = 2.0\n"""


def _read_toml(folder: Path, scratch: Path) -> object:
    return {kind: [rows := published_rows(folder, kind), markdown_table(kind, [], rows)] for kind in BOARDS}


_PLUGIN = '''"""A method that learns: nothing more."""\n
class Mine(Method):\n    rank: int = 0x10\n    def token_weights(self, batch): return {"a": [1, (2,)]}\n'''


def _read_plugin(folder: Path, scratch: Path) -> object:
    shown = describe(Origin(name="mine", file=folder / "mine.py"))
    assert all(len(text.splitlines()) < 2 for text in shown)
    return shown


def _make_folder(folder: Path) -> None:
    make("llama").save_pretrained(folder)  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(folder)


def make_gguf(folder: Path) -> None:
    vocabulary = tiny_tokenizer().get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "ab"]
    file = GGUFWriter(folder / "model.gguf", "llama")
    numbers = {"block_count": 1, "context_length": 1024, "embedding_length": 32, "feed_forward_length": 32}
    numbers |= {"head_count": 2, "head_count_kv": 2, "vocab_size": len(tokens), "rope_dimension_count": 16}
    for name, value in (numbers | {"layer_norm_rms_eps": 1e-5, "eos_token_id": 0}).items():
        getattr(file, f"add_{name}")(value)
    file.add_tokenizer_model("gpt2")
    file.add_token_list(tokens)
    file.add_token_merges(["a b"])
    squares = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), (32, 32))
    shapes = {f"blk.0.{name}": shape for name, shape in (squares | {"attn_norm": (32,), "ffn_norm": (32,)}).items()}
    shapes |= {"output_norm": (32,), "output": (len(tokens), 32), "token_embd": (len(tokens), 32)}
    for name, shape in shapes.items():
        file.add_tensor(f"{name}.weight", np.full(shape, 0.1, np.float32))
    for write in (file.write_header_to_file, file.write_kv_data_to_file, file.write_tensors_to_file, file.close):
        write()


def _read_model(folder: Path, scratch: Path) -> object:
    gguf = folder / "model.gguf"
    base = find_model(str(gguf if gguf.exists() else folder))
    return [base.tokenizer_hash, base.tokenizer("ab c")["input_ids"], sha256_tensors(base.load().state_dict())]


_SEVERAL = {"w.xml.bz2": b"".join(_MULTI)}
_OPEN = partial(Reader, strict=False)  # no checksum of its own
SOURCES = [
    *_forms("wiki", "w.xml", "".join(_STREAMS), _read_wiki),
    *_forms("wikidata", "d.json", "[\n" + ",\n".join(_ENTITIES) + "\n]\n", _read_wikidata),
    *_forms("wikidata xml", "d.xml", _WIKIDATA_XML, _read_wikidata),
    *_forms("page props", "p.sql", _SQL, _read_props),
    Reader(name="multistream", make=partial(put, _SEVERAL), read=_read_wiki),
    Reader(name="index", make=partial(put, _SEVERAL | {"w-index.txt": _INDEX}), read=_read_wiki),
    Reader(name="index bz2", make=partial(put, _SEVERAL | {"w-index.txt.bz2": bz2.compress(_INDEX)}), read=_read_wiki),
    _OPEN(name="wikitext", make=partial(put, {"page.txt": WIKITEXT}), read=_read_wikitext, share=2),
    _OPEN(name="lama", make=_make_lama, read=_read_lama, share=2),
    _OPEN(name="published lama", make=partial(put, {"rows.jsonl": jsonl([_LAMA_ROW])}), read=_read_published_lama),
    _OPEN(name="published wiki", make=partial(put, _PUBLISHED), read=_read_published_wiki, share=2),
    _OPEN(name="published rows", make=partial(put, {"published.toml": _TOML}), read=_read_toml, share=2),
    _OPEN(name="plugin", make=partial(put, {"mine.py": _PLUGIN}), read=_read_plugin),
    _OPEN(name="model folder", make=_make_folder, read=_read_model, share=0.5),
    _OPEN(name="gguf", make=make_gguf, read=_read_model, share=0.5),
]
