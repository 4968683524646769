"""What is to run: every choice of one value of each option, as tasks that have been checked."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.learning.keep import LAST, require_keepable
from ckl_bench.learning.run import RunRequest, plan_seeds
from ckl_bench.progress import log
from ckl_bench.running.task import Task
from ckl_bench.spec import Spec
from ckl_bench.stacks.plugins import canonical
from ckl_bench.stacks.settings import split_setting
from ckl_bench.stacks.stack import make_stack

# What tells runs apart in their names where it is not the same for all: field of the spec -> how it is written.
_TOLD = {
    "benchmark": "{}",
    "benchmark_hash": "{:.8}",
    "model": "{}",
    "model_revision": "{:.8}",
    "epochs": "epochs={}",
    "batch_size": "batch-size={}",
    "learning_rate": "lr={:g}",
    "max_tokens": "max-tokens={}",
    "limit": "limit={}",
    "dtype": "{}",
}


def setting_choices(settings: Sequence[str]) -> dict[str, list[str]]:
    """`lora.r=8,16` -> {"lora.r": ["8", "16"]}; a key that is given again has those values too.

    UserError for a text without `=` and for an empty value among several.
    """
    choices: dict[str, list[str]] = {}
    for setting in settings:
        key, value = split_setting(setting)
        values = [each.strip() for each in value.split(",")]
        if len(values) > 1 and not all(values):
            raise UserError(f"--set {setting}: expected values between commas, as in --set lora.r=8,16")
        part, dot, field = key.partition(".")
        known = choices.setdefault(f"{canonical(part)}{dot}{field}", [])
        known += [each for each in values if each not in known]
    return choices


def grid(
    methods: Sequence[str],
    settings: Mapping[str, Sequence[str]],
    values: Mapping[str, Sequence[Any]],
    methods_dir: Path | None = None,
    **same: Any,
) -> list[RunRequest]:
    """Every choice of a method, of a value of each of `values` (fields of a request), and of its settings.

    A setting is for those methods whose stack has its part. UserError where that is none, for unknown methods, and for
    fields that a part has not. `same` is what all requests share.
    """
    parts = {method: make_stack(method, (), methods_dir).parts.keys() for method in dict.fromkeys(methods)}
    for part in dict.fromkeys(key.partition(".")[0] for key in settings):
        keys = [key for key in settings if key.partition(".")[0] == part]
        fitting = [method for method, names in parts.items() if part in names]
        if not fitting:  # says what is wrong with it
            make_stack(next(iter(parts)), [f"{keys[0]}={settings[keys[0]][0]}"], methods_dir)
        elif len(fitting) < len(parts):
            log(f"note: {', '.join(keys)}: for {', '.join(fitting)}; the other methods have no part {part}")
    requests = []
    for method, *chosen in itertools.product(parts, *(dict.fromkeys(each) for each in values.values())):
        own = {key: each for key, each in settings.items() if key.partition(".")[0] in parts[method]}
        for picked in itertools.product(*own.values()):
            given = [f"{key}={value}" for key, value in zip(own, picked, strict=True)]
            named = dict(zip(values, chosen, strict=True))
            requests.append(RunRequest(method=method, settings=given, methods_dir=methods_dir, **named, **same))
    return requests


def planned(
    requests: Sequence[RunRequest],
    output: Path,
    save_to: Path | None = None,
    log_to: Sequence[str] = (),
    keep_epoch: str = LAST,
) -> list[Task]:
    """The tasks of requests, each run once; UserError for the first that cannot run. Nothing is written.

    A model that learns nothing is not kept, though `save_to` says where to keep those that do.
    """
    by_seed: dict[str, list[RunRequest]] = {}
    for request in requests:
        make_stack(request.method, request.settings, request.methods_dir)  # what is typed wrong is said before reading
        by_seed.setdefault(repr(replace(request, seed=0)), []).append(request)
    found: dict[str, tuple[Spec, RunRequest, Path | None]] = {}
    warnings: dict[str, None] = {}
    for alike in by_seed.values():
        for plan in plan_seeds(alike[0], [request.seed for request in alike]):
            run_id, keep = plan.spec.run_id, save_to if plan.stack.trains else None
            if keep is not None:
                require_keepable(keep, plan, keep_epoch)
            found.setdefault(run_id, (plan.spec, replace(alike[0], seed=plan.spec.seed), keep))
            warnings |= dict.fromkeys(plan.warnings)
    for warning in warnings:
        log(f"note: {warning}")
    specs = [spec for spec, _, _ in found.values()]
    apart = [field for field in _TOLD if len({getattr(spec, field) for spec in specs}) > 1]
    return [
        Task(
            run_id=run_id,
            name=_name(spec, apart),
            request=request,
            folder=Path.cwd(),
            output=output.absolute(),
            save_to=None if keep is None else keep.absolute(),
            keep=keep_epoch,
            log_to=tuple(log_to),
        )
        for run_id, (spec, request, keep) in found.items()
    ]


def _name(spec: Spec, apart: Sequence[str]) -> str:
    told = [_TOLD[field].format(getattr(spec, field)) for field in apart if getattr(spec, field) is not None]
    return " ".join([spec.method, f"seed={spec.seed}", *told])
