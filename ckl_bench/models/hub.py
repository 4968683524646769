"""`owner/name[@revision]` on the hub -> the commit that is meant, what it holds, and an adapter's files in a folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ckl_bench.errors import UserError, first_line
from ckl_bench.models.catalogue import MODELS
from ckl_bench.storage.weights import ADAPTER, KEPT, TRAINED

CONFIG = "config.json"
_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
_FULL = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# All that a folder of an adapter, or of `run --save-model`, has to be read by; of a whole model transformers chooses.
_SMALL = ("adapter_*", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", KEPT, TRAINED)


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repository at one commit; `folder` holds those of its files that were fetched."""

    name: str
    commit: str
    folder: Path
    adapter: bool  # it is a PEFT adapter and no whole model
    kept: bool  # `run --save-model` wrote it
    whole: bool  # transformers can load it

    @property
    def pinned(self) -> str:
        """The id that means this very commit."""
        return f"{self.name}@{self.commit}"

    def fetch(self) -> Path:
        """Fetch what an adapter is read by, and return the folder with it. UserError where that fails."""
        from huggingface_hub import snapshot_download

        with hub_errors(self.name):
            return Path(snapshot_download(self.name, revision=self.commit, allow_patterns=list(_SMALL)))


def is_hub_id(name: str) -> bool:
    """Whether a name is one of the hub's; what is here goes before."""
    return bool(_ID.fullmatch(name)) and not os.path.lexists(name)


def pinned(name: str, revision: str) -> str:
    """A model's name as one types it to have the revision that a spec names: that of a hub with its commit."""
    found = re.match(r"hub:([0-9a-f]+)", revision)
    return f"{name}@{found[1]}" if found else name


def find_repo(given: str) -> Repo:
    """The repository that `owner/name[@revision]` names, at the commit that its revision is now; offline, was.

    Fetches the few files that say what it holds. UserError, which says what to do, where there is no such repository or
    revision, where it is gated, where the hub cannot be reached, and where it holds neither model nor adapter.
    """
    name, _, revision = given.partition("@")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it retries would stand between our lines
    commit, folder = "", Path()
    found: list[str] = []
    unreachable: Exception | None = None
    with hub_errors(name, revision):
        for file in (CONFIG, ADAPTER, KEPT):
            path, failed = _fetched(name, file, commit or revision or None, here=unreachable is not None)
            unreachable = unreachable or failed
            if path is not None:
                found.append(file)
                folder, commit = path.parent, path.parent.name
        if not found and unreachable is not None:
            raise unreachable
        if not found:
            raise UserError(
                f"'{name}' on the hub holds no model: neither {CONFIG} nor {ADAPTER} is in it; give a repository of a "
                "causal language model or of a PEFT adapter"
            )
        if CONFIG in found and ADAPTER in found and _has_weights(name, commit):
            raise UserError(
                f"'{name}' on the hub holds a whole model and an adapter ({ADAPTER}): which is meant cannot be told; "
                "download it, and give a folder with one of them"
            )
    return Repo(
        name=name,
        commit=commit,
        folder=folder,
        adapter=ADAPTER in found,
        kept=KEPT in found,
        whole=CONFIG in found and ADAPTER not in found,
    )


def _fetched(name: str, file: str, revision: str | None, *, here: bool) -> tuple[Path | None, Exception | None]:
    """A file of a repository, None where that has no such file, or none `here`; and why the hub cannot be asked."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=here)), None
    except LocalEntryNotFoundError as error:
        return None, error
    except EntryNotFoundError:
        return None, None


def _has_weights(name: str, commit: str) -> bool:
    from huggingface_hub import HfApi

    with suppress(Exception):  # offline what is here was let through before
        return any(HfApi().file_exists(name, file, revision=commit) for file in _FULL)
    return False


@contextmanager
def hub_errors(name: str, revision: str = "") -> Iterator[None]:
    """What the hub's client raises about a repository, as one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what networks and their libraries raise has no common class
        raise UserError(_reason(name, revision, error)) from error


def interrupted(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is of a download that broke off."""
    while error is not None:
        # HTTPError is of whichever library the hub's client stands on in its version.
        networks = any(kind.__name__ == "HTTPError" for kind in type(error).__mro__)
        if networks or isinstance(error, ConnectionError | TimeoutError) or "Consistency check failed" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(name: str, revision: str, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    here = f"'{name}' is no folder here"
    if isinstance(error, GatedRepoError):
        if error.response.status_code == 403:
            return f"'{name}' is gated, and your account is not let in: ask for access on {constants.ENDPOINT}/{name}"
        return (
            f"'{name}' is gated: ask for access on {constants.ENDPOINT}/{name}, then log in with `hf auth login`, or "
            "set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{here}, and no repository of the hub that you may see; correct the name, or log in with `hf auth login` "
            f"where it is private. Or give one of {', '.join(MODELS)}, or a folder"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"'{name}' has no revision '{revision}' on the hub; give a branch, tag or commit of it after the @"
    if isinstance(error, HFValidationError):
        return f"{here}, and no id of the hub: {first_line(error)}; expected OWNER/NAME"
    if constants.HF_HUB_OFFLINE or isinstance(error, OfflineModeIsEnabled):
        return f"{here}, nor in the hub's cache, and HF_HUB_OFFLINE is set; unset it, or give a folder"
    cause = error.__cause__ or error
    return (
        f"cannot load '{name}' from the hub at {constants.ENDPOINT}: {first_line(Exception(str(cause)))}; the same "
        f"command goes on with what is fetched. Or give one of {', '.join(MODELS)}, or a folder"
    )
