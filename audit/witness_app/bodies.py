"""Request bodies read to their end, within a deadline, before a WSGI application is called for them.

A body that a caller sends byte by byte, or half of, would hold one of the application's few threads until he gives up; four
such callers would be enough to keep everybody else out. Here bodies are read by an event loop, where one that isn't there yet
costs some memory and no thread. So this is an ASGI application around a WSGI one.

    408  the body wasn't there in time
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, TypeAlias
from wsgiref.types import WSGIApplication

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Headers: TypeAlias = Iterable[tuple[str, str]]
_TOO_LATE = b"request body: expected all of it sooner\n"


class BoundedBodies:
    """`app` under an ASGI server: called in one of `threads` with a whole body, or its first `most_bytes` + 1 bytes."""

    def __init__(self, app: WSGIApplication, *, most_bytes: int, within_s: float, threads: int) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._within_s = within_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answering")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            async with asyncio.timeout(self._within_s):
                body = await self._read(receive)
        except TimeoutError:
            await _send(send, 408, [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")], _TOO_LATE)
            return
        if body is None:
            return
        loop = asyncio.get_running_loop()
        status, headers, answer = await loop.run_in_executor(self._pool, self._call, _environ(scope, body))
        await _send(send, status, headers, answer)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, no further than one byte beyond what it may have; None where the caller is gone."""
        body = bytearray()
        while len(body) <= self._most_bytes:
            event = await receive()
            if event["type"] != "http.request":
                return None
            body += event.get("body", b"")
            if not event.get("more_body", False):
                break
        return bytes(body[: self._most_bytes + 1])

    def _call(self, environ: dict[str, Any]) -> tuple[int, Headers, bytes]:
        begun: list[tuple[int, Headers]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _: object = None, /
        ) -> Callable[[bytes], object]:
            begun.append((int(status.split(" ", 1)[0]), headers))
            return lambda _: None

        pieces = self._app(environ, start_response)
        try:
            answer = b"".join(pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        return *begun[-1], answer


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """The request as WSGI has it, as far as it is looked at; of the headers none but the type."""
    given = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host, port = scope.get("server") or ("", 0)
    return {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "CONTENT_TYPE": given.get(b"content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.errors": _Nowhere(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


class _Nowhere:
    """Where an application's own error text goes: what it has to say it logs."""

    def write(self, _: str) -> None: ...

    def flush(self) -> None: ...


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    named = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})
