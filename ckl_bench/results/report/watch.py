"""The page on loopback, drawn again whenever a record comes in or goes; nothing else is served."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.records import read_records
from ckl_bench.storage.files import sha256_bytes

from .page import write_report

HOST = "127.0.0.1"
_POLICY = "img-src data:"  # the page's own, which lets it ask nobody; the served one asks this server for its version
_WAITING = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; {_POLICY}">
<title>ckl-bench</title></head><body><p>There is no finished run yet; the page appears with the first one.</p>
</body></html>
"""
_RELOAD = """<script>
(async () => {
  for (;;) {
    await new Promise((done) => setTimeout(done, 1500));
    try {
      const found = await fetch("version", { cache: "no-store" });
      if (found.ok && (await found.text()) !== "VERSION") location.reload();
    } catch (error) { /* the server has ended; it may come back */ }
  }
})();
</script>
</body>"""


@dataclass(frozen=True)
class _Page:
    content: bytes
    version: str


def _served(text: str) -> _Page:
    """The page as it is served: it reloads itself when there is another."""
    version = sha256_bytes(text.encode())[:16]
    text = text.replace(_POLICY, f"{_POLICY}; connect-src 'self'", 1)
    head, _, tail = text.rpartition("</body>")
    return _Page((head + _RELOAD.replace("VERSION", version) + tail).encode(), version)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    page = _served(_WAITING)


class _Answers(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's news."""

    def do_GET(self) -> None:
        page, path = self.server.page, self.path.split("?")[0]
        if self.headers["Host"] not in {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}:
            self.send_error(HTTPStatus.FORBIDDEN)  # a stranger's page whose name leads here must not read this one
        elif path in ("/", "/report.html"):
            self._send(page.content, "text/html; charset=utf-8")
        elif path == "/version":
            self._send(page.version.encode(), "text/plain")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)


def watch(folder: Path, port: int, tell: Callable[[str], object], every: float = 1.0) -> None:
    """Serve `folder/report.html` at http://127.0.0.1:PORT/ until it is interrupted, writing it anew as records change.

    `tell` is given a line where the page is to be found and one a change; port 0 is any that is free. A record that
    cannot be read is told of, and the page stays what it was. Raises UserError where the port cannot be had.
    """
    try:
        server = _Server((HOST, port), _Answers)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port}: {getattr(error, 'strerror', None) or error}; give another --port") from error
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://{HOST}:{server.server_port}/"
    tell(f"{address}: watching {folder / 'records'}; Ctrl-C ends it")
    seen: object = None
    try:
        while True:
            now = _state(folder)
            if now != seen:
                seen = now
                tell(f"{address}: {_draw(folder, server)}")
            time.sleep(every)
    except KeyboardInterrupt:
        tell(f"{address}: ended")
    finally:
        server.shutdown()
        server.server_close()


def _state(folder: Path) -> object:
    """What changes when a record comes, goes or is written anew."""
    found = {}
    for path in (folder / "records").glob("*.json"):
        try:
            about = path.stat()
        except FileNotFoundError:  # it went between two looks
            continue
        found[path.name] = (about.st_mtime_ns, about.st_size)
    return found


def _draw(folder: Path, server: _Server) -> str:
    """Write the page and serve it; what to say of it."""
    try:
        records = list(read_records(folder))
        if not any(record.status == "done" for record in records):
            server.page = _served(_WAITING)
            return "there is no finished run yet"
        server.page = _served(write_report(records, folder / "report.html").read_text(encoding="utf-8"))
    except UserError as error:
        return f"the page stays as it was: {error}"
    return f"from {len(records)} records"
