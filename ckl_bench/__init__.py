"""ckl-bench: benchmark and evaluation harness for continual knowledge learning."""

__version__ = "0.1.0"
