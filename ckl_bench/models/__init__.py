"""A name, a folder, a file or a hub id -> a causal language model and its tokenizer."""
