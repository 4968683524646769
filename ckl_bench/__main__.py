"""`python -m ckl_bench` is `ckl-bench`."""

from __future__ import annotations

from ckl_bench.cli.app import main

if __name__ == "__main__":
    main()
