"""A hub on this machine: it answers as the Hugging Face hub's API does, keeps what it is sent, and serves models."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import huggingface_hub.constants as constants
import pytest

TOKEN = "hf_of_these_tests"


class Hub(ThreadingHTTPServer):
    """Repositories by type and name (`models/owner/name`): whether they are private, and their files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, list[dict[str, bytes]]] = {}  # of models that are served, the last one is main
        self.gated: dict[str, int] = {}  # models by name, and with which status their files are refused
        self.cut: set[str] = set()  # files of which only half is sent before the line breaks
        self.asked: list[str] = []
        self.refuse = False
        self.address = f"http://127.0.0.1:{self.server_port}"

    def serve(self, name: str, files: dict[str, bytes]) -> str:
        """Another commit of a model that may be fetched; returns its hash."""
        self.commits.setdefault(name, []).append(files)
        return self.hash(name, len(self.commits[name]) - 1)

    def hash(self, name: str, number: int) -> str:
        """Forty digits, as a commit has."""
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a model at a branch (main) or a commit."""
        for number in reversed(range(len(self.commits.get(name, [])))):
            if revision in ("main", self.hash(name, number)):
                return self.hash(name, number), self.commits[name][number]
        return None


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: Any, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        if "/resolve/" in path:
            name, rest = path[1:].split("/resolve/")
            self.file(name, *rest.split("/", 1))
            return
        repo = path.removeprefix("/api/")
        if repo in self.server.private:
            self.answer(200, {"id": repo.split("/", 1)[1], "private": self.server.private[repo], "tags": []})
        elif "/tree/" in repo:
            name, revision = repo.removeprefix("models/").split("/tree/")
            found = self.server.at(name, revision)
            rows = (
                [{"type": "file", "path": p, "size": len(c), "oid": _etag(c)} for p, c in found[1].items()]
                if found
                else []
            )
            self.answer(200, rows)
        else:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    def file(self, name: str, revision: str, path: str) -> None:
        """One file at a revision, or why not, with the hub's own codes."""
        hub, found = self.server, self.server.at(name, revision)
        if name in hub.gated:
            self.answer(hub.gated[name], b"", X_Error_Code="GatedRepo")
        elif name not in hub.commits:
            self.answer(401, b"", X_Error_Code="RepoNotFound")
        elif found is None:
            self.answer(404, b"", X_Error_Code="RevisionNotFound")
        elif path not in found[1]:
            self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
        else:
            content = found[1][path]
            about = {"X_Repo_Commit": found[0], "ETag": f'"{_etag(content)}"', "Accept_Ranges": "bytes"}
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            if begin and self.command == "GET":
                about["Content_Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            if path in hub.cut and self.command == "GET":
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                hub.cut.discard(path)
                hub.refuse = True  # and then the line is down
                return
            if hub.refuse and self.command == "GET":
                self.answer(503, b"")
                return
            self.answer(206 if begin and self.command == "GET" else 200, content[begin:], **about)

    def do_POST(self) -> None:
        hub, content = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        hub.asked.append(f"POST {self.path}")
        if self.headers["Authorization"] != f"Bearer {TOKEN}" or hub.refuse:
            self.answer(403, {"error": "You have no rights here"})
        elif self.path == "/api/repos/create":
            wanted = json.loads(content)
            name = f"{wanted.get('type', 'model')}s/{wanted['organization']}/{wanted['name']}"
            hub.private[name] = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.answer(200, {"url": f"{hub.address}/{name.removeprefix('models/')}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(content)["files"]]
            plain = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer(200, {"files": plain})
        else:
            repo = self.path.removeprefix("/api/").split("/commit/")[0]
            for line in content.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    text = base64.b64decode(entry["value"]["content"])
                    hub.files.setdefault(repo, {})[entry["value"]["path"]] = text
            self.answer(200, {"commitUrl": f"{hub.address}/{repo}/commit/abc", "commitOid": "abc", "success": True})


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that is the only one, with a cache of its own for what is fetched from it."""
    made, apart = Hub(), tmp_path_factory.mktemp("hub")
    Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", made.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", made.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(apart / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(apart / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield made
    made.shutdown()
    made.server_close()
