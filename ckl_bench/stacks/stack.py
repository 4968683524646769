"""Stacks: methods joined by `+`, their hyperparameters, and who owns which hook."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckl_bench.errors import UserError, unknown
from ckl_bench.method import HOOKS, SUMMED, BuildContext, Method, RunTarget, hooks_of
from ckl_bench.records import Preparation
from ckl_bench.stacks.plugins import canonical, load_method, plugin_hash
from ckl_bench.stacks.settings import split_setting, typed_settings

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """Methods that learn together, in canonical order; `parts` maps each name to its configured method.

    `plugins` maps `method:NAME` to the hash of the source of every part that is not built in.
    """

    parts: Mapping[str, Method]
    plugins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """The stack's name in tables: its parts, with every hyperparameter that differs from its default."""
        return "+".join(name + _differences(method) for name, method in self.parts.items())

    @property
    def hyperparameters(self) -> dict[str, dict[str, Any]]:
        """Every hyperparameter of every part, as JSON values."""
        return {
            name: {f.name: _plain(getattr(method, f.name)) for f in dataclasses.fields(method)}
            for name, method in self.parts.items()
        }

    def owner(self, hook: str) -> Method:
        """The part that overrides the hook, or the neutral method."""
        return next((m for m in self.parts.values() if hook in hooks_of(type(m))), _NEUTRAL)

    def owners(self, hook: str) -> list[Method]:
        """Every part that overrides the hook."""
        return [m for m in self.parts.values() if hook in hooks_of(type(m))]

    def build(self, load: Callable[..., nn.Module], context: BuildContext | None = None) -> nn.Module:
        """What the owner of `build` makes of a base model; it is given the context where it takes one."""
        build: Callable[..., nn.Module] = self.owner("build").build
        return build(load, context) if "context" in inspect.signature(build).parameters else build(load)

    def inputs(self, target: RunTarget) -> dict[str, Path]:
        """Every file that a part reads, by its name for it; UserError where one is missing or two share a name."""
        found: dict[str, Path] = {}
        for part, method in self.parts.items():
            for name, path in method.inputs(target).items():
                if name in found:
                    raise UserError(f"'{part}' and another part of the stack both call an input '{name}'; rename one")
                found[name] = path
        return found

    def preparations(self, inputs: Mapping[str, Path]) -> list[Preparation]:
        """What the parts say was spent on files among `inputs`."""
        return [spent for method in self.parts.values() if (spent := method.preparation(inputs)) is not None]

    @property
    def trains(self) -> bool:
        """Whether anything is learned."""
        return all(type(method).trains for method in self.parts.values())

    @property
    def weighs_by_nll(self) -> bool:
        """Whether the token weights depend on the loss."""
        owner = type(self.owner("weigh"))
        return owner.reads_nll and "weigh" in hooks_of(owner)

    @property
    def weighs_tokens(self) -> bool:
        """Whether any token of a document has a weight."""
        return type(self.owner("weigh")).weighs_tokens

    @property
    def learning_rate(self) -> float | None:
        """The learning rate a part asks for with the owner of `build`, the lowest of several; else that one's own."""
        owner = self.owner("build")
        builder = next((name for name, method in self.parts.items() if method is owner), "")
        asked = (type(method).learning_rates.get(builder) for method in self.parts.values())
        return min((rate for rate in asked if rate is not None), default=type(owner).learning_rate)


_NEUTRAL = Method()


def _plain(value: object) -> Any:
    # A file is identified by its hash (Spec.inputs), not by where it lies on one machine.
    return value.name if isinstance(value, Path) else value


def _differences(method: Method) -> str:
    changed = []
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if value != field.default:
            shown = Path(value).name if isinstance(value, Path) else value
            changed.append(f"{field.name}={shown}")
    return f"({','.join(changed)})" if changed else ""


def _parse(settings: Sequence[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
    parsed: dict[str, dict[str, str]] = {name: {} for name in names}
    for setting in settings:
        key, value = split_setting(setting)
        typed, dot, field = key.partition(".")
        name = canonical(typed)
        if not (dot and field):
            raise UserError(f"--set {setting}: expected method.field=value, as in --set lora.r=64")
        if name not in parsed:
            raise unknown("method in --set", name, parsed, "These are the parts of the stack.")
        if field in parsed[name]:
            raise UserError(f"--set {name}.{field} is given twice, {parsed[name][field]} and {value}; give it once")
        parsed[name][field] = value
    return parsed


def make_stack(expression: str, settings: Sequence[str] = (), methods_dir: Path | None = None) -> Stack:
    """Compose `name+name+...`; a stack in which nobody owns `build` gets `lora`.

    `settings` are `method.field=value`. No weight is loaded here.
    Raises UserError for unknown methods and fields, bad values, a name given twice, and two owners of one hook.
    """
    names = [canonical(part) for part in expression.split("+")]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"method '{name}' stands twice in '{expression}'; name it once")
    classes = {name: load_method(name, methods_dir) for name in names}
    if not any("build" in hooks_of(cls) for cls in classes.values()):
        classes["lora"] = load_method("lora", methods_dir)
    idle = next((name for name, cls in classes.items() if not cls.trains), None)
    if idle and len(classes) > 1:
        raise UserError(f"{idle} learns nothing, so nothing can be joined to it; run --method {idle} alone")
    for hook in HOOKS:
        owners = [name for name, cls in classes.items() if hook in hooks_of(cls)]
        if len(owners) > 1 and hook not in SUMMED:
            raise UserError(
                f"{' and '.join(sorted(owners))} both own '{hook}' and cannot stand in one stack; drop one of them"
            )
    parsed = _parse(settings, classes)

    def place(name: str) -> tuple[int, str]:
        owned = hooks_of(classes[name])
        return (HOOKS.index(owned[0]) if owned else len(HOOKS), name)

    parts = {
        name: classes[name](**typed_settings(classes[name], parsed[name], f"{name}."))
        for name in sorted(classes, key=place)
    }
    hashes = {f"method:{name}": plugin_hash(name, methods_dir) for name in parts}
    return Stack(parts=parts, plugins={name: found for name, found in hashes.items() if found})
