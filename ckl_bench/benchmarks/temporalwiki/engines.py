"""Where the units of a build's page and entity steps run: on this machine's cores, or on those of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from typing import Any, TypeVar

from ckl_bench.errors import UserError

from .workers import workers

T = TypeVar("T")
ENGINES = ("local", "ray")
_TRIES = 5  # a unit whose worker was killed is done again elsewhere so often


def pool(engine: str) -> Executor:
    """The workers of an engine; UserError for one that there is not, or that is not installed.

    Which worker does a unit is nothing that the result depends on: units are collected in order, by the one process
    that writes. Of a cluster every machine must find dumps and work folder under the same paths.
    """
    if engine == "local":
        return workers()
    if engine == "ray":
        return _Ray()
    raise UserError(f"--engine {engine}: expected {' or '.join(ENGINES)}")


class _Ray(Executor):
    """Tasks of Ray: of the cluster that RAY_ADDRESS names, or of one that is started here and ends with this."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("--engine ray needs Ray: pip install 'ckl-bench[ray]'") from error
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            try:
                ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise UserError(f"Ray does not start ({' '.join(str(error).split())}); see RAY_ADDRESS") from error
        self._task = ray.remote(max_retries=_TRIES)(_call)
        self.window = max(16, 2 * int(ray.cluster_resources().get("CPU", 1)))

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function as a task."""
        made: Future[T] = Future()
        self._task.remote(fn, args, kwargs).future().add_done_callback(partial(_settle, made))
        return made

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the cluster, where it was started here."""
        if self._ours:
            self._ray.shutdown()


def _call(fn: Callable[..., T], args: Any, kwargs: Any) -> tuple[T | None, Exception | None]:
    """A task's value, or what it raised: Ray would wrap that into a traceback of its own."""
    try:
        return fn(*args, **kwargs), None
    except Exception as error:
        return None, error


def _settle(made: Future[Any], done: Future[tuple[Any, Exception | None]]) -> None:
    try:
        value, error = done.result()
    except Exception as lost:  # the worker, the node or the cluster
        made.set_exception(BrokenExecutor(str(lost)))
        return
    if error is None:
        made.set_result(value)
    else:
        made.set_exception(error)
