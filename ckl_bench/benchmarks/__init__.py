"""Benchmarks: raw source -> benchmark directory (one builder a module) and back into memory (`format`)."""
