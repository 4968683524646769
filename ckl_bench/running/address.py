"""Whether anybody answers at the address of a Ray cluster: asked without Ray, which takes seconds to load."""

from __future__ import annotations

import socket

from ckl_bench.errors import UserError, first_line

ANSWER = 10.0  # seconds in which a cluster has to let itself be reached


def require_answer(address: str) -> None:
    """UserError where nobody answers at HOST:PORT: Ray itself would go on asking for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address in ("local", "auto") or not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise unreached(address, error) from error


def unreached(address: str, error: Exception) -> UserError:
    """What to say of a cluster that cannot be reached, and why."""
    # Ray's client names no reason where it is turned away, and unlike Ray itself looks for no token unasked.
    asked = "; set RAY_AUTH_MODE=token where the cluster asks for one" if isinstance(error, ConnectionError) else ""
    return UserError(
        f"--address {address}: {first_line(error)}{asked if 'timeout' in str(error) else ''}; give auto, HOST:PORT or "
        "ray://HOST:PORT of a cluster that runs, or none for this machine alone"
    )
