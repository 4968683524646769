"""Where runs run, as it is typed: the options of the panel "Where", and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ckl_bench.errors import UserError

if TYPE_CHECKING:
    from ckl_bench.running.place import Place
    from ckl_bench.spec import Dtype

HERE = "Where"  # the panel of help

ExecutorOption = Annotated[
    str | None,
    typer.Option(
        help="local (processes on this machine), ray or slurm.",
        show_default="local; with --address ray",
        rich_help_panel=HERE,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        help="Runs at once.", show_default="one a GPU, or one; with ray and slurm what fits", rich_help_panel=HERE
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option(help="Cores a run.", show_default="a machine's, shared out; with slurm one", rich_help_panel=HERE),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        help="GPUs a run with ray or slurm; with ray also a part of one.",
        show_default="with --device cuda one; with ray what plan says, an eighth at least",
        rich_help_panel=HERE,
    ),
]
GpuMemoryOption = Annotated[
    str | None,
    typer.Option(
        help="What a GPU has, as 24GB, by which ray gives parts of one.",
        show_default="as the one here; without one a run gets a whole GPU",
        rich_help_panel=HERE,
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        help="Main memory a run with ray or slurm, as 8GB.", show_default="by what plan says", rich_help_panel=HERE
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT; means --executor ray.",
        show_default="RAY_ADDRESS, or this machine",
        rich_help_panel=HERE,
    ),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="An option of sbatch, as partition=gpu; time=MINUTES; cluster=local to try it here.",
        rich_help_panel=HERE,
    ),
]


def place_of(
    executor: str | None,
    jobs: int | None,
    cpus: int | None,
    gpus: float | None,
    gpu_memory: str | None,
    memory: str | None,
    address: str | None,
    slurm: Sequence[str] | None,
) -> Place:
    """What the options mean; UserError for what is wrong about them, or not for this executor."""
    from ckl_bench.cli.plan import bytes_of
    from ckl_bench.running.place import Place

    return Place(
        executor=executor or ("local" if address is None else "ray"),
        jobs=jobs,
        cpus=cpus,
        gpus=gpus,
        gpu_memory=None if gpu_memory is None else bytes_of(gpu_memory, "--gpu-memory"),
        memory=None if memory is None else bytes_of(memory),
        address=address,
        slurm=None if slurm is None else dict(map(_key_and_value, slurm)),
    )


def _key_and_value(setting: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in setting.removeprefix("--").partition("="))
    if not (key and equals and value):
        raise UserError(f"--slurm {setting}: expected key=value, as in --slurm partition=gpu or --slurm time=120")
    return key, value


def device_there(device: str, dtype: str, place: Place) -> tuple[str, Dtype]:
    """Device and dtype of runs in a place; a GPU elsewhere that is asked for by name need not be in this machine."""
    import torch

    from ckl_bench.learning.environment import pick_device, pick_dtype

    if place.executor != "local" and device == "cuda" and not torch.cuda.is_available():
        return device, "bfloat16" if dtype == "auto" else pick_dtype(dtype, device)
    where = pick_device(device)
    return where, pick_dtype(dtype, where)
