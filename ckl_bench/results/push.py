"""A benchmark directory or a kept model -> a repository on the hub: what goes along, and the sending of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ckl_bench.benchmarks.format import CARD, CROISSANT, load_benchmark
from ckl_bench.errors import CklError, UserError, first_line
from ckl_bench.results.eval_results import FOLDER
from ckl_bench.storage.files import read_json
from ckl_bench.storage.weights import KEPT

RepoType = Literal["dataset", "model"]


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What is to be sent: files by their paths in the repository, which are their paths in `folder`."""

    folder: Path
    repo: str
    repo_type: RepoType
    files: Sequence[str]
    message: str

    def sizes(self) -> dict[str, int]:
        """Bytes by path."""
        return {name: (self.folder / name).stat().st_size for name in self.files}


def parcel(folder: Path, repo: str) -> Parcel:
    """The files of a benchmark directory (a data set) or of a kept model, and nothing else that lies beside them.

    Of a benchmark its manifest, what that names, card and Croissant file; of a model what --save-model wrote, and eval
    results that were exported there. UserError for another folder, for files that are missing or lie elsewhere, for a
    benchmark that does not match its manifest, and for a repository's name that is none.
    """
    _check_name(repo)
    if (folder / "manifest.json").is_file():
        benchmark = load_benchmark(str(folder.absolute()))
        missing = [name for name in (CARD, CROISSANT) if not (folder / name).is_file()]
        if missing:
            raise UserError(f"{folder} has no {missing[0]}; write it with ckl-bench card {folder}")
        names = [CARD, CROISSANT, "manifest.json", *benchmark.manifest["files"]]
        message = f"{benchmark.name} ({benchmark.hash[:12]})"
        return Parcel(folder=folder, repo=repo, repo_type="dataset", files=_own(folder, names), message=message)
    if (folder / KEPT).is_file():
        about: Any = read_json(folder / KEPT)
        try:
            names, message = [str(name) for name in about["files"]], f"ckl-bench run {about['run_id']}"
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / KEPT} does not say which files are the model's; keep it again with --save-model"
            ) from error
        results = sorted(path.relative_to(folder).as_posix() for path in (folder / FOLDER).glob("*.yaml"))
        files = _own(folder, [*names, *results])
        return Parcel(folder=folder, repo=repo, repo_type="model", files=files, message=message)
    within = sorted(path.parent.name for path in folder.glob(f"*/{KEPT}"))
    if within:
        raise UserError(f"{folder} holds {len(within)} models; name one, such as {folder / within[0]}")
    raise UserError(f"{folder} is neither a benchmark directory nor a model that --save-model kept; name one of these")


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"'{repo}' names no repository: {first_line(error)}") from error
    if "/" not in repo:
        raise UserError(f"'{repo}': expected OWNER/NAME, as in you/{repo}")


def _own(folder: Path, names: Sequence[str]) -> list[str]:
    """The names, each once; UserError for one that is no file of this very folder."""
    for name in names:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; restore it, or make the folder again")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{path} lies outside {folder}; nothing was sent")
    return list(dict.fromkeys(names))


def push(what: Parcel, *, public: bool = False) -> str:
    """Send it in one commit and return the commit's address; a repository that is not there is made, private or public.

    UserError where there is no token, and where the repository is public although `public` was not asked for; CklError
    where the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    token = get_token()
    if token is None:
        raise UserError("there is no token for the hub: log in with `hf auth login`, or set HF_TOKEN")
    api = HfApi(token=token)
    try:
        try:
            there = api.repo_info(what.repo, repo_type=what.repo_type)
        except RepositoryNotFoundError:
            api.create_repo(what.repo, repo_type=what.repo_type, private=not public)
        else:
            if not there.private and not public:
                raise UserError(f"{what.repo} is there and public; give --public to add to it, or another name")
        sent = api.create_commit(
            what.repo,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=what.folder / name) for name in what.files],
            commit_message=what.message,
            repo_type=what.repo_type,
        )
    except OfflineModeIsEnabled as error:
        raise UserError(f"cannot send to {what.repo}: HF_HUB_OFFLINE is set; unset it") from error
    except HfHubHTTPError as error:
        raise CklError(f"the hub refused {what.repo}: {first_line(error)}") from error
    except CklError:
        raise
    except Exception as error:  # what networks and their libraries raise has no common class
        raise CklError(f"cannot send to {what.repo}: {first_line(error)}") from error
    return str(sent.commit_url)
