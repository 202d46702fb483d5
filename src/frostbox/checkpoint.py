"""The detector's file: a safetensors file whose header says all that a prediction depends on.

What stands in the header is the Detector's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frostbox._version import __version__
from frostbox.data.voc_layout import check_names
from frostbox.errors import CheckpointError, DataError, NotFoundError, one_line
from frostbox.untrusted import once, parse_json, shown

FORMAT_VERSION = 4
"""Written into every file. A reader accepts its own version and older ones, and says of a newer
one that frostbox must be upgraded. Version 2 added thresholds of classes and the temperature of
scores, version 3 thawed backbones and the pyramid head's strides and bins, version 4 the width of
its finest level; an older file lacks them and gets the defaults. The heads below have had the
layers that they have now since the version given."""
_SINCE = {"pyramid": 4, "anchors": 3}


def detector_file(path: Path) -> Path:
    """The file itself, or best.safetensors in the folder of a run or of hf://USER/REPO.

    Raises:
        NotFoundError: no such file. HubError: it cannot be had from the hub.
    """
    from frostbox import hub  # it knows this module

    if (at := hub.address(path)) is not None:
        return hub.detector_at(*at)
    if path.is_dir():
        path = path / "best.safetensors"
    if not path.exists():
        raise NotFoundError(
            f"{path} does not exist: give the best.safetensors that training wrote, or its folder"
        )
    return path


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors. CheckpointError for what cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = _read_header(metadata.get("frostbox"), path)
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a safetensors file ({error}): copy it again or train again"
        ) from error


def write_file(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write the file, with the versions in its header; it appears under its name when whole.

    Raises:
        CheckpointError: the disk does not take it.
    """
    contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    known = {"format_version": FORMAT_VERSION, "frostbox_version": __version__, **header}
    partial = path.with_name(path.name + ".tmp")
    try:
        save_file(contiguous, partial, metadata={"frostbox": json.dumps(known)})
        partial.replace(path)
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path} cannot be written ({error}): see to its disk, then run the command again; "
            "train with --resume has only this left to do"
        ) from error
    return path


def _read_header(text: str | None, path: Path) -> dict[str, Any]:
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file but not a frostbox detector: its header has no "
            "'frostbox' field"
        )
    try:
        header: dict[str, Any] = parse_json(text, once)
        version = header["format_version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"format_version is {shown(version)}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged: the 'frostbox' field of its header cannot be read "
            f"({one_line(error)}); copy it again or train again"
        ) from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, written by frostbox "
            f"{header.get('frostbox_version')}; this is frostbox {__version__}, which reads up to "
            f"version {FORMAT_VERSION}: upgrade frostbox"
        )
    _check_classes(header.get("classes"), path)
    head = header.get("head")
    name = head.get("name") if isinstance(head, dict) else None  # said by who reads the field
    if version < _SINCE.get(str(name), 0):
        raise CheckpointError(
            f"{path} has a {name} head of format version {version}, from before the first release, "
            "whose layers are no longer there: train again"
        )
    return header


def _check_classes(names: Any, path: Path) -> None:
    """The rule of data sets for class names, which files from elsewhere need not keep.

    Names go to terminals, into XML and into lists: none may bring a control character.
    """
    if names is None:
        return  # said by who reads the field
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"{path} is damaged: classes is {shown(names)}, and must be a list of names"
        )
    try:
        check_names(names, path.name)
    except DataError as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def weights_origin(weights: str, path: Path) -> str:
    """What `create` needs to find the weights of a head-only file again."""
    if weights.startswith("random:"):
        return weights
    if weights.endswith((".pth", ".pt", ".safetensors")):
        if Path(weights).name != weights:
            raise CheckpointError(
                f"{path} names weights in another folder ({shown(weights)}): they must lie "
                "beside it"
            )
        return str(path.with_name(weights))
    return "auto"


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
