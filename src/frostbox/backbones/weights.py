"""State dicts: read from local files, checked against a net, and what a missing network means."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from frostbox.errors import BackboneError

NETWORK_TIMEOUT = 10.0  # seconds; torch.hub itself would wait for minutes on a silent network
OFFLINE = (
    "use --backbone efficientnet_lite0, whose weights come with a package, or give --weights a "
    "local .pth or .safetensors file"
)


def random_seed(weights: str) -> int | None:
    """The seed in "random" (0) or "random:SEED"; None for anything else."""
    match = re.fullmatch(r"random(?::(\d+))?", weights)
    return int(match[1] or 0) if match else None


def read_state(path: str) -> dict[str, Tensor]:
    """A state dict out of a local file, without unpickling anything but tensors."""
    if not Path(path).is_file():
        raise BackboneError(
            f"there is no weights file {path!r}; give 'auto', 'random:SEED' or the path of a .pth "
            "or .safetensors file"
        )
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen unrelated types on a damaged file
        raise BackboneError(
            f"the weights file {path!r} cannot be read ({type(error).__name__}: {error}); give a "
            "plain state dict"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BackboneError(f"the weights file {path!r} holds no state dict of tensors")
    return state


def fits(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict holds all tensors of a module, in their shapes."""
    return all(
        key in state and state[key].shape == value.shape
        for key, value in module.state_dict().items()
    )


def load_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    weights: str,
    optional: tuple[str, ...] = (),
) -> None:
    """Load what the module needs; tensors that only the classifier has are left aside."""
    needed = {
        k: v for k, v in module.state_dict().items() if not (optional and k.startswith(optional))
    }
    for key, value in needed.items():
        if key not in state:
            raise BackboneError(
                f"the weights file {weights!r} has no tensor {key!r}, which {name} needs; give the "
                "weights of this very net"
            )
        if state[key].shape != value.shape:
            raise BackboneError(
                f"the tensor {key!r} of the weights file {weights!r} has shape "
                f"{tuple(state[key].shape)}, but {name} needs {tuple(value.shape)}"
            )
    module.load_state_dict({key: state[key] for key in needed}, strict=not optional)


@contextmanager
def short_timeout() -> Iterator[None]:
    """Let a download that gets no answer fail after seconds, not minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def require_hub(name: str, repository: str | None) -> None:
    """Fail at once without network: huggingface_hub would retry for some 45 seconds."""
    if not repository:
        return
    import huggingface_hub
    from huggingface_hub import constants

    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str):
            return
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=NETWORK_TIMEOUT)
    except Exception as error:  # httpx's and requests' errors share no base but Exception
        raise BackboneError(
            f"the weights of {name} ({repository}) could not be fetched ({error}); {OFFLINE}"
        ) from error
