"""Benchmarks that come with ckl-bench, with a line each. Importing it loads nothing."""

BENCHMARKS = {
    "lama-ckl-mini": "LAMA-ckl on 605 authored facts over 28 relations, certified for smollm2-135m: the default",
    "temporalwiki-mini": "TemporalWiki on 159 authored articles in five monthly snapshots: three months, in sequence",
}
