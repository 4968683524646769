"""Data that travels with ckl-bench: authored facts, built benchmarks, trained train-attention, sources.toml."""
