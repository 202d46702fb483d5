"""What stands in front of all routes: which of them exist, how large a body may be, headers.

Gradio brings more than sixty routes: a proxy, a reader of files and addresses, functions to call.
The page needs a few of them, and only these are let through.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frostbox.serve.limits import Limits, Refused, megas
from frostbox.serve.metrics import Meter

PREDICT = "/predict"
_UPLOAD, _FILE = "/gradio_api/upload", "/gradio_api/file="
_READ = re.compile(
    r"/|/(health|metrics|model|openapi\.json|config|theme\.css|favicon\.ico|robots\.txt)"
    r"|/examples/\d+|/(assets|static)(/[\w@+-][\w.@+-]*)+|/gradio_api/(upload_progress|startup-events)"
)
_POST = (PREDICT, _UPLOAD)
_UPLOADED = 20  # times the largest body: what lies in the folder of uploads at a time
_IDLE, _WHOLE = 20.0, 120.0  # seconds without a byte of a body, and for all of it

# Gradio's page has inline scripts and makes functions of text; what matters here is that nothing
# is asked of another machine, and that no other site puts this one into a frame.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self' data:; connect-src 'self' blob: data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # an SVG may hold a script
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Guard:
    """An ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, limits: Limits, meter: Meter, uploads: Path) -> None:
        """Guard an application.

        Args:
            uploads: the only folder out of which Gradio may read files.
        """
        self.app, self.limits, self.meter = app, limits, meter
        self.uploads = uploads.resolve()
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                policy = _FILE_POLICY if scope["path"].startswith(_FILE) else _POLICY
                mine = [(b"content-security-policy", policy.encode()), *_HEADERS]
                message = {**message, "headers": [*message.get("headers", ()), *mine]}
            await send(message)

        try:
            await self._pass(scope, receive, answer)
        finally:
            if scope["path"] == PREDICT:
                self.meter.answered(status, time.perf_counter() - started)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        try:
            self._check_route(scope)
            if scope["method"] == "POST":
                body = await self._body(scope, receive)
        except Refused as refusal:
            await send_refusal(refusal, send)
            return
        rest = [body]

        async def replay() -> Message:
            if rest:
                return {"type": "http.request", "body": rest.pop(), "more_body": False}
            return await receive()

        try:
            await self.app(scope, replay, send)
        finally:
            self.held -= len(body)

    def _check_route(self, scope: Scope) -> None:
        path, method = scope["path"], scope["method"]
        if path == PREDICT and method != "POST":
            raise Refused(405, "Send a picture with POST.")
        if path.startswith(_FILE):
            allowed = method in ("GET", "HEAD") and self._was_uploaded(path.removeprefix(_FILE))
        elif method == "POST":
            allowed = path in _POST
        else:
            allowed = method in ("GET", "HEAD") and ".." not in path and bool(_READ.fullmatch(path))
        if not allowed:
            raise Refused(404, "There is nothing here: see /openapi.json for what there is.")
        if path == _UPLOAD and _size(self.uploads) > _UPLOADED * self.limits.max_body:
            raise Refused(503, "Too many pictures were uploaded just now: try again.", 30)

    def _was_uploaded(self, name: str) -> bool:
        path = Path(name)
        return (
            "\0" not in name and path.is_absolute() and path.resolve().is_relative_to(self.uploads)
        )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """All of a body, which counts as held from here on; a slow one blocks nobody."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        too_large = Refused(
            413, f"The body is larger than the {megas(self.limits.max_body)}B that are taken."
        )
        if b"expect" in headers and declared.isdigit() and int(declared) > self.limits.max_body:
            raise too_large  # it was not sent yet
        chunks: list[bytes] = []
        size = seen = 0
        busy = False
        more, until = True, time.monotonic() + _WHOLE
        try:
            while more:
                async with asyncio.timeout(min(_IDLE, max(0.0, until - time.monotonic()))):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The request ended before its body did.")
                chunk, more = message.get("body", b""), message.get("more_body", False)
                seen += len(chunk)
                busy = busy or self.held + len(chunk) > self.limits.held_bytes
                if seen <= self.limits.max_body and not busy:
                    chunks.append(chunk)
                    size += len(chunk)
                    self.held += len(chunk)
                else:
                    # Read on for a while without keeping anything: an answer in the middle of a
                    # request is lost on many clients.
                    self.held -= size
                    chunks, size = [], 0
                    if seen > 2 * self.limits.max_body:
                        break
            if seen > self.limits.max_body:
                raise too_large
            if busy:
                raise Refused(503, "Too many pictures arrive just now: try again.", 1)
        except (Refused, TimeoutError, asyncio.CancelledError) as error:
            self.held -= size
            if isinstance(error, TimeoutError):
                raise Refused(408, "The body did not arrive in time.") from error
            raise
        return b"".join(chunks)


async def send_refusal(refusal: Refused, send: Send) -> None:
    """Answer in the form that FastAPI's own errors have."""
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(k.lower().encode(), v.encode()) for k, v in refusal.headers.items()]
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(
        os.path.getsize(path)
        for root, _, names in os.walk(folder)
        for path in (os.path.join(root, name) for name in names)
        if os.path.exists(path)
    )
