"""A Hub on loopback for the tests: enough of the protocol for the real clients to download, create, upload and tag.

Faults are put into `Hub.faults`: a list of callables that see each request first and may answer it themselves.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Repo:
    """A repository: its commits (id -> files), what branches and tags point to, and who may read it."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False

    def commit(self, files: Files, ref: str = "main") -> str:
        """Add files on top of what `ref` holds; return the commit's id."""
        merged = self.commits.get(self.refs.get(ref, ""), {}) | files
        content = repr(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in merged.items()))
        commit = hashlib.sha1(f"{len(self.commits)} {content}".encode()).hexdigest()
        self.commits[commit] = merged
        self.refs[ref] = commit
        return commit


class Hub:
    """The server; use it as a context manager, and its `url` as HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Callable[[Handler], bool | None]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn_url = f"http://localhost:{self.server.server_port}/cdn"  # another host, as the real one's files have

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def about(self, name: str) -> list[str]:
        """The requests so far that concern a repository; the client asks for other things too."""
        return [f"{method} {path}" for method, path in self.requests if name in path]

    def count(self, method: str, part: str = "") -> int:
        return sum(m == method and part in path for m, path in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Answers one request; `hub` is the server's state."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle_any(self) -> None:
        self.hub.requests.append((self.command, self.path))
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        if any(fault(self) for fault in list(self.hub.faults)):
            return
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, unquote(urlsplit(self.path).path))
            if match and self.command in method:
                answer(self, *match.groups())
                return
        self.error(404, None)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: object) -> None:
        self.send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def error(self, status: int, code: str | None, message: str = "refused") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.send(status, headers)

    def repo(self, name: str) -> Repo | None:
        """The repository if the request may see it; else the error is sent."""
        repo = self.hub.repos.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repo is None or (repo.token and token != repo.token):
            self.error(401 if not token else 404, "RepoNotFound")
            return None
        if repo.gated:
            self.error(403, "GatedRepo", "you must be in the list of authorized users")
            return None
        return repo

    # Downloads

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name)
        if repo is None:
            return
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            self.error(404, "RevisionNotFound")
            return
        if path not in repo.commits[commit]:
            self.error(404, "EntryNotFound")
            return
        content = repo.commits[commit][path]
        etag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if path.endswith(".safetensors"):  # large files live elsewhere: a redirect, as on the real Hub
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            self.send(302, headers | {"Location": f"{self.hub.cdn_url}/{name}/{commit}/{path}"})
            return
        self.content(content, headers)

    def cdn(self, name: str, commit: str, path: str) -> None:
        self.content(self.hub.repos[name].commits[commit][path], {})

    def content(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            self.send(200, headers | {"Content-Length": str(len(content))}, content)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
        part = content[start : end + 1]
        span = {"Content-Range": f"bytes {start}-{end}/{len(content)}", "Content-Length": str(len(part))}
        self.send(206, headers | span, part)

    def info(self, name: str, revision: str = "main") -> None:
        repo = self.repo(name)
        if repo:
            commit = repo.refs.get(revision, revision)
            files = [{"rfilename": path} for path in repo.commits.get(commit, {})]
            self.json({"id": name, "modelId": name, "sha": commit, "siblings": files, "private": False, "tags": []})

    # Uploads

    def create(self) -> None:
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.hub.repos:
            self.send(409, {"X-Error-Message": "exists"}, b"{}")
            return
        self.hub.repos[name] = Repo()
        self.hub.repos[name].commit({})
        self.json({"url": f"{self.hub.url}/{name}", "id": name})

    def validate(self) -> None:
        self.json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        files = json.loads(self.body)["files"]
        modes = {True: "lfs", False: "regular"}
        self.json(
            {
                "files": [
                    {"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                    for f in files
                ]
            }
        )

    def batch(self, name: str) -> None:
        objects = json.loads(self.body)["objects"]
        actions = [
            {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{self.hub.url}/upload/{o['oid']}"}}}
            for o in objects
        ]
        self.json({"transfer": "basic", "objects": actions})

    def upload(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.uploads[oid] = self.body
        self.send(200, {})

    def commit(self, name: str, revision: str) -> None:
        files: Files = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.uploads[entry["value"]["oid"]]
        commit = self.hub.repos[name].commit(files, revision)
        self.json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})

    def tag(self, name: str, revision: str) -> None:
        repo = self.hub.repos[name]
        repo.refs[json.loads(self.body)["tag"]] = repo.refs.get(revision, revision)
        self.send(200, {})


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET HEAD", rf"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
    ("GET HEAD", rf"/cdn/{NAME}/(\w+)/(.+)", Handler.cdn),
    ("GET", rf"/api/models/{NAME}", Handler.info),
    ("GET", rf"/api/models/{NAME}/revision/([^/]+)", Handler.info),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", rf"/api/models/{NAME}/preupload/([^/]+)", Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/upload/(\w+)", Handler.upload),
    ("POST", rf"/api/models/{NAME}/commit/([^/]+)", Handler.commit),
    ("POST", rf"/api/models/{NAME}/tag/([^/]+)", Handler.tag),
]
