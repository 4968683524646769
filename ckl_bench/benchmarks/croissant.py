"""The Croissant file of a benchmark directory: its files and tables as JSON-LD (mlcommons.org/croissant/1.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckl_bench.benchmarks.card import licences
from ckl_bench.benchmarks.parts import FACT, NESTED, Part
from ckl_bench.storage.json import sha256_json

# The context of the specification, word for word: readers compare it.
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(manifest: Mapping[str, Any], parts: Sequence[Part]) -> dict[str, Any]:
    """The description of a benchmark: every file with its hash, and a record set for each that has rows.

    It says nothing of a place on the web or of a day, which a benchmark directory does not know.
    """
    sums: Mapping[str, str] = manifest["files"]
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": manifest["name"],
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": (
            f"A benchmark of continual knowledge learning, of kind {manifest['kind']}: documents to learn and probes "
            f"that ask for facts. Hash of its manifest: {sha256_json(manifest)}."
        ),
        "license": licences(manifest),
        "keywords": ["continual learning", "knowledge", "language models", str(manifest["kind"])],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": part.file,
                "name": part.file,
                "contentUrl": part.file,
                "encodingFormat": "application/jsonlines",
                "sha256": sums[part.file],
            }
            for part in parts
        ],
        "recordSet": [_record_set(part) for part in parts],
    }


def _record_set(part: Part) -> dict[str, Any]:
    own = f"{part.config}/{part.split}"
    return {
        "@type": "cr:RecordSet",
        "@id": own,
        "name": own,
        "description": f"{part.rows} rows of {part.file}",
        "field": [_field(part, own, column) for column in part.columns],
    }


def _field(part: Part, record_set: str, column: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": part.file}, "extract": {"column": column}}
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{record_set}/{column}", "name": column}
    if column not in NESTED:
        return {**field, "dataType": "sc:Text", "source": source}
    inner = [
        {
            "@type": "cr:Field",
            "@id": f"{record_set}/{column}/{name}",
            "name": name,
            "dataType": "sc:Text",
            "source": {**source, "transform": {"jsonPath": f"$.{name}"}},
        }
        for name in FACT
    ]
    return {**field, **({"repeated": True} if NESTED[column] else {}), "subField": inner}
