"""Detectors on the Hugging Face hub: a run pushed, a detector pulled, `hf://USER/REPO` as a model.

Only the files below go either way, under these very names: no pickle, no path of the repository's
choosing. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are huggingface_hub's.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from frostbox._version import __version__
from frostbox.card import CARD, PLACEHOLDER
from frostbox.checkpoint import detector_file, read_file
from frostbox.errors import (
    CheckpointError,
    FrostboxError,
    HubError,
    NotFoundError,
    SettingsError,
    one_line,
)
from frostbox.inputs import check_new_folder
from frostbox.untrusted import parse_json

_LOG = logging.getLogger("frostbox")
DETECTOR = "best.safetensors"
# Each file of a run, and its name on the hub.
_FILES = {
    DETECTOR: DETECTOR,
    CARD: "README.md",
    "settings.json": "settings.json",
    "metrics.csv": "metrics.csv",
    "thaw/metrics.csv": "thaw/metrics.csv",
}
_SHOWN = 5  # names in a sentence
_LARGEST_TEXT = 16_000_000  # bytes of a file that is not the detector
_THEIRS = {".gitattributes", "README.md", "LICENSE"}  # what a new repository may hold
_LOCAL_PATHS = ("start", "weights")  # settings that may be a path of this machine


def push(run: str | Path, repo: str, *, private: bool = False, message: str | None = None) -> str:
    """Upload a run's detector, card, settings and metrics as one commit.

    Args:
        run: the folder of a run, or its best.safetensors.
        repo: USER/NAME, or ORGANISATION/NAME; made if it is not there.
        private: make it private; refused where it is there and public.
        message: of the commit.

    Returns:
        The address of the repository.

    Raises:
        NotFoundError, CheckpointError: no detector there, no card, or not a file of ours.
        SettingsError: no name of a repository.
        HubError: no token, no network, no permission, or a repository of something else.
    """
    import huggingface_hub
    from huggingface_hub import CommitOperationAdd

    check_repo(repo)
    file = detector_file(Path(run))
    folder = file.parent
    read_file(file)  # says what is no detector before anything goes out
    card = folder / CARD
    if not card.exists():
        raise NotFoundError(
            f"{card} does not exist: training writes this model card; write one by hand, or push "
            "the folder of a run"
        )
    if huggingface_hub.get_token() is None:
        raise HubError(
            "there is no token to push with: make one that may write on "
            "https://huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN"
        )
    files: dict[str, bytes | str] = {DETECTOR: str(file)}
    files |= {name: _shared(folder / name, repo) for name in _FILES if (folder / name).exists()
              and name != DETECTOR}  # fmt: skip
    api = huggingface_hub.HfApi(library_name="frostbox", library_version=__version__)
    with _told(f"push to {repo}", repo):
        api.create_repo(repo, private=private or None, exist_ok=True)
        _check_repository(api.model_info(repo), private)
        api.create_commit(
            repo,
            [CommitOperationAdd(_FILES[name], content) for name, content in files.items()],
            commit_message=message or f"Detector trained with frostbox {__version__}",
        )
    return f"{api.endpoint}/{repo}"


def pull(repo: str, *, revision: str | None = None, out: str | Path | None = None) -> Path:
    """Download a detector with its card, settings and metrics; it must load.

    Args:
        repo: USER/NAME. revision: a branch, tag or commit; None for the newest.
        out: a new or empty folder; NAME by default.

    Returns:
        The folder, which is like that of a run. Other files of the repository are left there.

    Raises:
        SettingsError: no name of a repository, or `out` is not empty.
        CheckpointError: what lies there is no detector that loads.
        HubError: no such repository or revision, no network, no permission.
    """
    import huggingface_hub

    from frostbox.detector import Detector

    check_repo(repo)
    _check_revision(revision)
    folder = Path(out) if out is not None else Path(repo.partition("/")[2])
    check_new_folder(folder, None, "with --out")
    api = huggingface_hub.HfApi(library_name="frostbox", library_version=__version__)
    with _told(f"pull {repo}", repo, revision):
        info = api.model_info(repo, revision=revision, files_metadata=True)
    sizes = {s.rfilename: s.size for s in info.siblings or ()}
    if DETECTOR not in sizes:
        raise CheckpointError(
            f"{repo} holds no {DETECTOR}: it is no detector of frostbox, or lies in another "
            "revision"
        )
    wanted = {name: there for name, there in _FILES.items() if there in sizes}
    for there in set(wanted.values()) - {DETECTOR}:
        if (sizes[there] or 0) > _LARGEST_TEXT:
            raise CheckpointError(f"{there} of {repo} has {sizes[there]:,} bytes: it is no {there}")
    # All of one commit, whatever is pushed meanwhile.
    fetched = {name: _fetched(repo, there, info.sha) for name, there in wanted.items()}
    try:
        Detector.load(fetched[DETECTOR])
    except FrostboxError as error:
        raise CheckpointError(f"{repo} holds no detector that can be used: {error}") from error
    for name, source in fetched.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    left = sorted(set(sizes) - set(wanted.values()) - {".gitattributes"})
    if left:
        shown = ", ".join(one_line(name) for name in left[:_SHOWN])
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        _LOG.warning("left on the hub, as frostbox does not know them: %s%s", shown, more)
    return folder


def address(path: str | PurePath) -> tuple[str, str | None] | None:
    """Repository and revision of hf://USER/REPO or hf://USER/REPO@REVISION; None for a path.

    Raises:
        SettingsError: it begins so, and is neither.
    """
    # As a path, which it became on its way, it has lost a slash.
    found = re.fullmatch(r"hf:/+(.*)", PurePath(path).as_posix())
    if found is None:
        return None
    repo, at, revision = found[1].partition("@")
    if at and not revision:
        raise SettingsError(f"{path} names no revision after the @: leave both out")
    check_repo(repo)
    _check_revision(revision or None)
    return repo, revision or None


def detector_at(repo: str, revision: str | None) -> Path:
    """best.safetensors of a repository, in huggingface_hub's cache: fetched when it has changed.

    Raises:
        HubError: as `pull`; without network a file that is in the cache will do.
    """
    import huggingface_hub

    if not isinstance(
        huggingface_hub.try_to_load_from_cache(repo, DETECTOR, revision=revision), str
    ):
        # Says at once that there is no network: a download would be tried for half a minute.
        with _told(f"fetch {DETECTOR} of {repo}", repo, revision):
            huggingface_hub.HfApi().model_info(repo, revision=revision)
    return _fetched(repo, DETECTOR, revision)


def check_repo(repo: str) -> None:
    """Raise SettingsError for what is no USER/NAME."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
        valid = repo.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise SettingsError(
            f"'{repo}' is no repository: give USER/NAME, of letters, digits, '-', '_' and '.', as "
            "in anna/birds"
        )


def _check_revision(revision: str | None) -> None:
    """Raise SettingsError for what no branch, tag or commit can be called.

    huggingface_hub makes a file of that name in its cache.
    """
    if revision is not None and (
        not re.fullmatch(r"[\w.+/-]{1,200}", revision, re.ASCII)
        or revision.startswith("/")
        or ".." in revision
    ):
        raise SettingsError(
            f"'{one_line(revision)}' is no revision: give the name of a branch or tag, or the hash "
            "of a commit"
        )


def _fetched(repo: str, name: str, revision: str | None) -> Path:
    import huggingface_hub

    with _told(f"fetch {name} of {repo}", repo, revision):
        return Path(
            huggingface_hub.hf_hub_download(
                repo, name, revision=revision, library_name="frostbox", library_version=__version__
            )
        )


def _shared(path: Path, repo: str) -> bytes:
    """A file as others get it: a card with the name, settings without this machine's paths."""
    text = path.read_text(encoding="utf-8")
    if path.name == CARD:
        text = text.replace(PLACEHOLDER, repo)
    elif path.name == "settings.json":
        values = parse_json(text)
        for name in _LOCAL_PATHS:
            if isinstance(values.get(name), str):
                values[name] = PurePath(values[name]).name
        text = json.dumps(values, indent=2)
    return text.encode()


def _check_repository(info: Any, private: bool) -> None:
    """Refuse to publish what should be private, and to write over another kind of model."""
    if private and not info.private:
        raise HubError(
            f"{info.id} is there and is public, so --private would not hold: make it private on "
            "its page first, or push to another name"
        )
    names = {s.rfilename for s in info.siblings or ()}
    foreign = sorted(names - _THEIRS)
    if foreign and DETECTOR not in names:
        raise HubError(
            f"{info.id} holds something else ({', '.join(foreign[:3])}) and no {DETECTOR}: push to "
            "another name"
        )


@contextmanager
def _told(doing: str, repo: str, revision: str | None = None) -> Iterator[None]:
    """The hub's errors as one sentence each, a HubError."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"cannot {doing}: access must be asked for on {hub}/{repo}; then log in with "
            "`hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"cannot {doing}: {hub} has no such model, or it is private and the token (hf auth "
            "login, HF_TOKEN) may not see it; look whether the name is right"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"cannot {doing}: it has no revision '{revision}'; give a branch, tag or commit of "
            f"{hub}/{repo}/commits/main"
        ) from error
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _unreachable(doing, hub, error) from error
        raise HubError(
            f"cannot {doing}: it is not there, so {repo} is no detector of frostbox"
        ) from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"cannot {doing}: {_refusal(error)}") from error
    except json.JSONDecodeError as error:
        raise HubError(
            f"cannot {doing}: what answers at {hub} is no hub; look at HF_ENDPOINT and at proxies"
        ) from error
    except ValueError as error:  # what the hub finds wrong with the header of a card
        raise HubError(f"cannot {doing}: {one_line(error)}; mend the header of {CARD}") from error
    except Exception as error:
        if _is_network(error):
            raise _unreachable(doing, hub, error) from error
        raise


def _refusal(error: Any) -> str:
    status = error.response.status_code
    said = one_line(getattr(error, "server_message", None) or f"status {status}")
    if status == 401:
        return f"the token is not valid ({said}); log in with `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return (
            f"the token may not do that ({said}); it needs the permission to write, and the name "
            "must begin with your user or an organisation of yours"
        )
    if status == 429 or status >= 500:
        return f"the hub is busy or down ({said}); try again later"
    return f"the hub refuses ({said})"


def _unreachable(doing: str, hub: str, error: Exception) -> HubError:
    first = one_line(error.__cause__ or error)
    return HubError(
        f"cannot {doing}: {hub} cannot be reached ({first}); look at the network, at proxies, and "
        "at HF_ENDPOINT and HF_HUB_OFFLINE if they are set"
    )


def _is_network(error: Exception) -> bool:
    """The errors of requests and httpx share no base but Exception."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or library in (
        "httpx", "httpx2", "requests",
    )  # fmt: skip
