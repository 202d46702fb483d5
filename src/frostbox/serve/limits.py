"""What a server takes at most, and the answer to what is more."""

from __future__ import annotations

from dataclasses import dataclass, fields

from frostbox.errors import FrostboxError, SettingsError

_BODIES = 8


@dataclass(frozen=True)
class Limits:
    """What bounds the memory of a server.

    Attributes:
        max_body: bytes of a request's body.
        max_pixels: width times height of a picture, read from its header before it is decoded.
        queue: pictures that are decoded, wait or are predicted at a time.
        batch: pictures that are predicted together.
    """

    max_body: int = 20_000_000
    max_pixels: int = 50_000_000
    queue: int = 32
    batch: int = 8

    def __post_init__(self) -> None:
        for part in fields(self):
            if getattr(self, part.name) < 1:
                name = part.name.replace("_", "-")
                raise SettingsError(f"--{name} is {getattr(self, part.name)}: it must be above 0")

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies that are held in memory at a time."""
        return _BODIES * self.max_body


class Refused(FrostboxError):
    """A request that is answered with a status and one sentence.

    Attributes:
        status: of HTTP.
        retry_after: seconds after which the same request may be welcome.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def megas(count: int) -> str:
    """20000000 as '20 M', for bytes and pixels."""
    return f"{count / 1e6:.3g} M"
