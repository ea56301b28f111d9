"""Serves a report to this machine alone, and makes it anew when its source changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import ClassVar

LOOPBACK = "127.0.0.1"
SECONDS_BETWEEN_LOOKS = 0.5

MakePage = Callable[[str], str]
"""Makes the page, given its version; raises for a source that cannot be read."""

FAILURE = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>Sterna inspector</title><body style="font:15px/1.6 system-ui;max-width:50em;margin:4em auto;padding:0
1em"> <h1 style="font-size:1.2em">The source cannot be inspected</h1><pre
style="white-space:pre-wrap">{message}</pre> <p>This page reloads when the source changes.</p>
<script>setInterval(async () => {{
  const answer = await fetch("version", {{ cache: "no-store" }}).catch(() => null);
  if (answer?.ok && (await answer.text()) !== "{version}") location.reload();
}}, 1000)</script>
"""


class LivePage:
    """The newest page of a source, and its version."""

    def __init__(self, watched: Path, make: MakePage, describe: Callable[[Exception], str | None]) -> None:
        """`describe` says in one line what is wrong with a source, or None for an error that is not about it."""
        self._watched = watched
        self._make = make
        self._describe = describe
        self._lock = Lock()
        self._state = self._look()
        self._page = self._render(self._state)

    @property
    def current(self) -> tuple[str, str]:
        """(version, page)."""
        with self._lock:
            return self._state, self._page

    def refresh(self) -> bool:
        """Makes the page anew if the source changed."""
        state = self._look()
        if state == self._state:
            return False
        page = self._render(state)
        with self._lock:
            self._state, self._page = state, page
        return True

    def _render(self, version: str) -> str:
        try:
            return self._make(version)
        except Exception as error:
            message = self._describe(error)
            if message is None:
                raise
            return FAILURE.format(message=escape(message), version=version)

    def _look(self) -> str:
        """A digest of when the files of the source were last written."""
        digest = hashlib.sha256()
        for path in _files(self._watched):
            try:
                status = path.stat()
            except OSError:
                continue
            digest.update(f"{path}\0{status.st_mtime_ns}\0{status.st_size}\0".encode())
        return digest.hexdigest()[:16]


def _files(source: Path) -> Iterable[Path]:
    return sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else [source]


class _Handler(BaseHTTPRequestHandler):
    page: ClassVar[LivePage]

    def do_GET(self) -> None:
        # Another site's page may make the browser ask for a name of its own that leads here: it must not read
        # the answer.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (LOOPBACK, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
            return
        version, page = self.page.current
        match self.path:
            case "/":
                self._answer(page, "text/html")
            case "/version":
                self._answer(version, "text/plain")
            case _:
                self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page that asks for its version every second would fill the terminal."""


def make_server(page: LivePage, port: int) -> ThreadingHTTPServer:
    """A server on loopback; port 0 takes a free one. OSError if the port is taken."""
    handler = type("Handler", (_Handler,), {"page": page})
    return ThreadingHTTPServer((LOOPBACK, port), handler)


def serve(server: ThreadingHTTPServer, page: LivePage, on_change: Callable[[], None]) -> None:
    """Serves until interrupted, and looks at the source meanwhile."""
    stopped = Event()

    def watch() -> None:
        while not stopped.wait(SECONDS_BETWEEN_LOOKS):
            if page.refresh():
                on_change()

    Thread(target=watch, daemon=True).start()
    try:
        server.serve_forever()
    finally:
        stopped.set()
        server.server_close()
