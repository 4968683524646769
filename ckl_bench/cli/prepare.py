"""Work that a method needs done once, before any run: a file that its runs read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckl_bench.cli.config import ConfigOption, Configured, PresetOption
from ckl_bench.cli.options import (
    LOADING,
    AttentionOption,
    BenchmarkOption,
    CheckpointOption,
    DeviceOption,
    DtypeOption,
    MethodsOption,
    ModelOption,
    PickleOption,
    RemoteOption,
    say,
    valid_seeds,
)
from ckl_bench.errors import UserError

if TYPE_CHECKING:
    from ckl_bench.method import Method

OutOption = Annotated[Path, typer.Option(help="FILE.safetensors to write; a JSON goes beside it.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="field=value, as epochs=3; a wrong field lists all.")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Start anew although a checkpoint is there.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(prepare)
    app.command("train-attention", cls=Configured)(train_attention)


def prepare(
    method: Annotated[str, typer.Argument(help="A method's name, such as restate.")],
    out: OutOption,
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    seed: Annotated[int, typer.Option(help="Seeds what is drawn.")] = 0,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    attention: AttentionOption = None,
    fresh: FreshOption = False,
    methods_dir: MethodsOption = None,
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """Make the file that a method's runs read, from a benchmark's solved pairs; run it again to go on after a stop."""
    of = _loaded(method, methods_dir)
    loading = {"attention": attention, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    _ready(of, method, out, benchmark, model, seed, device, **loading)(settings or [], fresh)
    say(f"{out}: a run reads it where a setting of {method} names it (--set {method}.FIELD={out})")


def train_attention(
    out: OutOption,
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    seed: Annotated[int, typer.Option(help="Seeds φ, adapters and the order of documents.")] = 0,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    checkpoint_activations: CheckpointOption = False,
    attention: AttentionOption = None,
    fresh: FreshOption = False,
    methods_dir: MethodsOption = None,
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
) -> Callable[[], None]:
    """Meta-train TAALM's train-attention φ on a benchmark's attention set; run it again to go on after a stop."""
    loading = {"attention": attention, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    of = _loaded("taalm", methods_dir)
    kind = _dtype(dtype, device)
    make = _ready(of, "taalm", out, benchmark, model, seed, device, dtype=kind, **loading)
    more = {"dtype": kind, "checkpoint_activations": checkpoint_activations}

    def go() -> None:
        make(settings or [], fresh, **more)
        say(f"{out}: use it with ckl-bench run --method taalm --set taalm.attention={out}")

    return go


def _dtype(dtype: str, device: str) -> str:
    from ckl_bench.learning.environment import pick_device, pick_dtype

    return pick_dtype(dtype, pick_device(device))


def _loaded(method: str, methods_dir: Path | None) -> Method:
    from ckl_bench.progress import line

    with line(LOADING):
        import ckl_bench.learning.environment  # noqa: F401  what takes the time
        from ckl_bench.stacks.plugins import load_method

        return load_method(method, methods_dir)()


def _ready(
    of: Method, name: str, out: Path, benchmark: str, model: str, seed: int, device: str, **loading: Any
) -> Callable[..., None]:
    """A method's preparation with everything that a user can get wrong checked, as a function of settings and fresh."""
    from ckl_bench.benchmarks.format import load_benchmark
    from ckl_bench.learning.environment import pick_device, settle
    from ckl_bench.method import Method
    from ckl_bench.models.find import find_model
    from ckl_bench.progress import line
    from ckl_bench.storage.writing import require_writable

    if type(of).prepare is Method.prepare:
        raise UserError(f"'{name}' needs nothing prepared; run it: ckl-bench run --method {name}")
    valid_seeds([seed])
    require_writable(out.absolute().parent)
    place = pick_device(device)
    with line(f"reading {benchmark} and {model}"):
        data, base = load_benchmark(benchmark), find_model(model, device=place, **loading)

    def make(settings: list[str], fresh: bool, **more: Any) -> None:
        settle(place)
        of.prepare(benchmark=data, base=base, out=out, device=place, seed=seed, settings=settings, fresh=fresh, **more)

    return make
