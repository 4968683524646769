"""Plan -> record: what happens in a run."""
