"""Options from a file and from presets: TOML -> the words that would be typed, once for each run that it means."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ckl_bench.cli.options import Once
from ckl_bench.errors import CklError, UserError, first_line, unknown
from ckl_bench.stacks.settings import settings_over, split_setting

Words = dict[str, list[str]]  # an option's name, such as batch-size -> its values as typed; a flag that is set: none

# The paper's values, by command. What stands under `set` for runs goes to every part of the stack that has all of it.
_RUN = {"paper": {"epochs": 30, "batch-size": 64, "lr": 1e-4, "set": {"r": 64, "alpha": 16, "dropout": 0.1}}}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "run": _RUN,
    "sweep": _RUN,
    "train-attention": {
        "paper": {"set": {"batch_size": 16, "lr": 2e-4, "inner_lr": 2e-4, "inner_r": 64, "nf4": True}},
    },
}

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML file of any options; those typed win. A list means several runs."),
]
PresetOption = Annotated[str | None, typer.Option("--preset", help="paper: its values where none are given.")]


def read_options(file: Path, names: Collection[str], many: Collection[str] = ("seed", "set")) -> list[Words]:
    """A TOML file -> the options of each run that it means: every choice of one value from each list in it.

    Keys are the options' long `names`, with - or _; a list under one of `many` is what this option takes anyway. `set`
    may be a table, whose values may be lists. In `out`, {seed} stands for the run's seed, and so on for all that the
    file gives. Raises UserError for a file that cannot be read and for what is no option or no value.
    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors begin with a mark
    except (OSError, ValueError) as error:  # a TOMLDecodeError and a UnicodeDecodeError are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise UserError(f"--config {file}: {reason}; give a TOML file of options, such as epochs = 8") from error
    choices: list[list[tuple[str, list[str]]]] = []  # of each key, what it may be: option and its values
    seen: set[str] = set()
    for key, value in found.items():
        name = key.replace("_", "-")
        if name not in names:
            raise unknown(f"option in {file}:", key, sorted(names))
        if name in seen:
            raise UserError(f"{file}: {key} is given twice, with - and with _; give it once")
        seen.add(name)
        if name == "set":
            choices += _settings(file, value)
        elif isinstance(value, bool):
            choices.append([(name, [])] if value else [])
        elif name in many and isinstance(value, list):
            choices.append([(name, [_word(file, key, each) for each in _filled(file, key, value)])])
        else:
            several = value if isinstance(value, list) else [value]
            choices.append([(name, [word]) for word in _words(file, key, several)])
    runs = []
    for picked in itertools.product(*filter(None, choices)):
        run: Words = {}
        for name, words in picked:
            run[name] = run.get(name, []) + words
        if "out" in run:
            run["out"] = [_filled_in(run["out"][0], run)]
        runs.append(run)
    return runs


def _filled_in(out: str, run: Words) -> str:
    """`phi-{seed}.safetensors` with the run's own values; other braces stay as they are."""
    values = {name: words[0] for name, words in run.items() if words}
    for name, value in (values | dict(map(split_setting, run.get("set", [])))).items():
        out = out.replace(f"{{{name}}}", value)
    return out


def _filled(file: Path, key: str, values: list[Any]) -> list[Any]:
    if not values:
        raise UserError(f"{file}: {key} is an empty list; give it values, or leave it out")
    return values


def _words(file: Path, key: str, values: list[Any]) -> list[str]:
    """The values of a list as typed, each once."""
    return list(dict.fromkeys(_word(file, key, value) for value in _filled(file, key, values)))


def _word(file: Path, key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    raise UserError(f"{file}: {key} = {value!r:.60}: expected a text, a number, true or false, or a list of these")


def _settings(file: Path, value: Any) -> list[list[tuple[str, list[str]]]]:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        return [[("set", [_word(file, "set", setting) for setting in value])]]
    if not isinstance(value, dict):
        raise UserError(f"{file}: set = {value!r:.60}: expected a table such as [set] lora.r = 64, or a list of texts")
    return [[("set", [f"{key}={word}"]) for word in _words(file, f"set.{key}", each)] for key, each in _flat(value)]


def _flat(table: Mapping[str, Any], before: str = "") -> list[tuple[str, list[Any]]]:
    """TOML reads `lora.r = 64` as a table in a table."""
    flat: list[tuple[str, list[Any]]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{before}{key}.")
        else:
            flat.append((before + key, value if isinstance(value, list) else [value]))
    return flat


def preset_values(command: str, name: str | None) -> dict[str, Any]:
    """What a preset stands for; UserError where the command has none of that name."""
    presets = PRESETS.get(command, {})  # a command with a file need not have presets
    if name is None:
        return {}
    if name not in presets:
        raise unknown("preset", name, presets)
    return presets[name]


def preset_settings(name: str | None, hyperparameters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`part.field=value` of a preset of `run`, for the parts of a stack that have every field which it names."""
    wanted = preset_values("run", name).get("set", {})
    fit = [part for part, fields in hyperparameters.items() if wanted and wanted.keys() <= fields.keys()]
    return [f"{part}.{field}={value}" for part in fit for field, value in wanted.items()]


def _preset_options(command: str, name: str | None) -> Words:
    """A preset as options; the settings of runs wait for the stack (`preset_settings`)."""
    options: Words = {}
    for option, value in preset_values(command, name).items():
        if option != "set":
            options[option] = [str(value)]
        elif PRESETS[command] is not _RUN:
            options[option] = [f"{key}={str(each).lower()}" for key, each in value.items()]
    return options


def _words_under(typed: Mapping[str, Any], options: Words) -> list[str]:
    """Words of those options that were not typed; of --set those keys that were not."""
    words = []
    for name, values in options.items():
        if name == "set":
            given = list(typed.get(name, ()))
            under = settings_over(values, given)
            words += [f"--set={setting}" for setting in under[: len(under) - len(given)]]
        elif name not in typed:
            words += [f"--{name}={value}" for value in values] if values else [f"--{name}"]
    return words


class Configured(Once):
    """A command that takes --config and --preset; its callback checks everything and returns what then does it.

    Where a file means several runs, all are checked before the first begins, and one that fails leaves the others.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As `Once` does, with the options of the file and of the preset among those typed."""
        if ctx.resilient_parsing or any(word in ctx.help_option_names for word in args):
            return super().parse_args(ctx, args)
        each = self._expanded(ctx, args)
        ctx.meta[__name__] = each
        return super().parse_args(ctx, list(each[0]))  # which takes the list apart

    def _expanded(self, ctx: Any, args: list[str]) -> list[list[str]]:
        """The words of every run that is meant: what was typed, over the file's, over the preset's."""
        names = {max(option.opts, key=len).removeprefix("--"): option.name for option in self.params}

        def given(words: list[str]) -> dict[str, Any]:
            typed = self.make_parser(ctx).parse_args(args=list(words))[0]
            return {name: typed[key] for name, key in names.items() if typed.get(key) is not None}

        typed, runs = given(args), [args]
        if "config" in typed and _once(args, "--config"):
            known = names.keys() - {"config", "help"}
            bare = _without(args, "--config")
            many = [max(option.opts, key=len).removeprefix("--") for option in self.params if option.multiple]  # type: ignore[attr-defined]
            found = read_options(Path(typed["config"]), known, many)
            runs = [[*_words_under(typed, words), *bare] for words in found]
        complete = []
        for words in runs:
            now = given(words)
            complete.append([*_words_under(now, _preset_options(self.name or "", now.get("preset"))), *words])
        return complete

    def checked(self, ctx: Any) -> list[Any]:
        """What the callback returns for every run that is meant."""
        each = ctx.meta[__name__]
        if len(each) == 1:
            return [super().invoke(ctx)]
        found: list[Any] = []
        outs: set[str] = set()
        for args in each:
            inner = self.make_context(ctx.info_name, list(args), parent=ctx.parent)
            if self.name == "train-attention":
                _distinct(outs, str(inner.params["out"]))
            found.append(super().invoke(inner))
        return found

    def invoke(self, ctx: Any) -> Any:
        """Check every run, then do each. CklError where some fail; the only one's error is raised as it is."""
        jobs: list[Callable[[], object]] = self.checked(ctx)
        if len(jobs) == 1:
            return jobs[0]()
        problems = []
        for number, job in enumerate(jobs, 1):
            try:
                job()
            except CklError as error:
                problems.append(f"run {number}: {error}")
        if problems:
            raise CklError(f"{len(problems)} of {len(jobs)} runs of the file failed; {problems[0]}")
        return None


def _without(args: Sequence[str], option: str) -> list[str]:
    kept: list[str] = []
    words = iter(args)
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _once(args: Sequence[str], option: str) -> bool:
    """Whether it is not given twice, which is for `Once` to refuse."""
    return sum(word == option or word.startswith(f"{option}=") for word in args) == 1


def _distinct(outs: set[str], out: str) -> None:
    if out in outs:
        raise UserError(
            f"several trainings of the file would write {out}; put what tells them apart into its name, as in "
            'out = "phi-{seed}.safetensors"'
        )
    outs.add(out)
