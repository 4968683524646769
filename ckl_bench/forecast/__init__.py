"""What a run needs, said before it: memory, tokens, time, from a model's configuration alone."""
