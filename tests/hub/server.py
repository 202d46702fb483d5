"""A stand-in of the Hugging Face hub: as much of its HTTP interface as push and pull go through.

Written after huggingface_hub's client: create_repo, validate-yaml, preupload, the LFS batch with
upload and verify, the commit, model_info, and resolve, which redirects large files to a place
("CDN") that must not see the token. Of Xet, the hub's newer storage, there is nothing here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import yaml

TOKENS = {"hf_writer": ("anna", True), "hf_reader": ("anna", False), "hf_other": ("ben", True)}


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(f"{len(self.commits)}{message}".encode()).hexdigest()
        self.commits[sha], self.branches["main"] = files, sha
        self.messages.append(message)
        return sha

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]


class StandIn(ThreadingHTTPServer):
    """Repositories, blobs and a log of requests as (method, path, user)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.log: list[tuple[str, str, str | None]] = []
        self.down = False
        self.gated: set[str] = set()
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        """Another origin, as far as a client can see."""
        return f"http://localhost:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        """A repository that others have made."""
        repository = self.repositories[name] = Repository(private)
        repository.commit({".gitattributes": b"*.safetensors filter=lfs\n", **files}, "first")
        return repository

    def count(self, method: str, part: str) -> int:
        return sum(m == method and part in path for m, path, _ in self.log)


def is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


def etag(path: str, content: bytes) -> str:
    if is_lfs(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Nothing: a line a request would hide what pytest says."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.path = unquote(urlparse(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.user, self.writes = TOKENS.get(token, (None, False))
        with self.server.lock:
            self.server.log.append((self.command, self.path, self.user))
            if self.server.down:
                return self._send(503, {"error": "down for maintenance"})
            if token and self.user is None and not self.path.startswith("/cdn/"):
                return self._error(401, None, "Invalid credentials in Authorization header")
            for pattern, method in _ROUTES:
                if found := re.fullmatch(pattern, self.path):
                    return method(self, **found.groupdict())
            return self._send(404, {"error": f"no such endpoint: {self.path}"})

    def _send(self, status: int, value: object = None, headers: dict[str, str] | None = None,
              content: bytes | None = None) -> None:  # fmt: skip
        text = json.dumps(value).encode() if content is None else content
        self.send_response(status)
        headers = {"Content-Length": str(len(text)), **(headers or {})}
        for name, said in headers.items():
            self.send_header(name, said)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _error(self, status: int, code: str | None, text: str) -> None:
        headers = {"X-Error-Message": text} | ({"X-Error-Code": code} if code else {})
        self._send(status, {"error": text}, headers)

    def _json(self) -> dict:
        return json.loads(self.body)

    def _seen(self, name: str) -> Repository | None:
        """The repository, or None after an answer that says that there is none for this user."""
        found = self.server.repositories.get(name)
        owner = name.split("/")[0]
        if found is None or (found.private and self.user != owner):
            self._error(404 if self.user else 401, "RepoNotFound", "Repository not found")
            return None
        if name in self.server.gated:
            self._error(403, "GatedRepo", f"Access to model {name} is restricted")
            return None
        return found

    def _may_write(self, owner: str) -> bool:
        if self.user is None:
            self._error(401, None, "Invalid username or password.")
        elif self.user != owner or not self.writes:
            self._error(403, None, f"You don't have the rights to create a model under {owner}")
        else:
            return True
        return False

    def create(self) -> None:
        asked = self._json()
        owner = asked.get("organization") or self.user
        if not self._may_write(owner):
            return
        name = f"{owner}/{asked['name']}"
        if name in self.server.repositories:
            said = {"error": "You already created this model repo"}
            return self._send(409, said | {"url": f"{self.server.url}/{name}"})
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.server.add(name, {}, private=private)
        return self._send(200, {"url": f"{self.server.url}/{name}"})

    def validate(self) -> None:
        _, header, _ = self._json()["content"].split("---\n", 2)
        values = yaml.safe_load(header)
        wrong = [key for key, kind in (("tags", list), ("license", str), ("datasets", list))
                 if key in values and not isinstance(values[key], kind)]  # fmt: skip
        for one in values.get("model-index", []):
            for result in one["results"]:
                if not result["metrics"] or not result["dataset"]["type"]:
                    wrong.append("model-index")
        if wrong:
            errors = [{"message": f'"{key}" is not valid'} for key in wrong]
            return self._send(400, {"errors": errors, "warnings": []})
        return self._send(200, {"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        if self._seen(name) is None or not self._may_write(name.split("/")[0]):
            return
        files = [
            {
                "path": f["path"],
                "uploadMode": "lfs" if is_lfs(f["path"]) else "regular",
                "shouldIgnore": False,
            }
            for f in self._json()["files"]
        ]
        self._send(200, {"files": files})

    def lfs_batch(self, name: str) -> None:
        if self._seen(name) is None or not self._may_write(name.split("/")[0]):
            return
        objects = []
        for one in self._json()["objects"]:
            entry = {"oid": one["oid"], "size": one["size"], "authenticated": True}
            if one["oid"] not in self.server.blobs:
                entry["actions"] = {
                    "upload": {"href": f"{self.server.cdn}/cdn/{one['oid']}"},
                    "verify": {"href": f"{self.server.url}/verify/{name}"},
                }
            objects.append(entry)
        self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if self.command != "PUT":
            return self.blob(oid)
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._send(400, {"error": "not the content of this oid"})
        self.server.blobs[oid] = self.body
        return self._send(200, {})

    def verify(self, name: str) -> None:
        asked = self._json()
        there = self.server.blobs.get(asked["oid"], b"")
        self._send(200 if len(there) == asked["size"] else 404, {})

    def commit(self, name: str, revision: str) -> None:
        found = self._seen(name)
        if found is None or not self._may_write(name.split("/")[0]):
            return
        files, message = dict(found.files), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            else:
                return self._send(400, {"error": f"unknown {entry['key']}"})
        sha = found.commit(files, message)
        url = f"{self.server.url}/{name}/commit/{sha}"
        return self._send(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def info(self, name: str, revision: str | None = None) -> None:
        found = self._seen(name)
        if found is None or (sha := self._commit_of(found, revision or "main")) is None:
            return
        siblings = [{"rfilename": p, "size": len(c)} for p, c in found.commits[sha].items()]
        self._send(200, {"_id": "1", "id": name, "modelId": name, "sha": sha, "tags": [],
                         "private": found.private, "gated": False, "disabled": False,
                         "downloads": 0, "likes": 0, "siblings": siblings})  # fmt: skip

    def _commit_of(self, found: Repository, revision: str) -> str | None:
        sha = found.branches.get(revision, revision)
        if sha not in found.commits:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return sha

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self._seen(name)
        if found is None or (sha := self._commit_of(found, revision)) is None:
            return
        if path not in found.commits[sha]:
            return self._error(404, "EntryNotFound", "Entry not found")
        content = found.commits[sha][path]
        tag = f'"{etag(path, content)}"'
        headers = {"X-Repo-Commit": sha, "ETag": tag}
        if not is_lfs(path):
            return self._send(200, headers=headers, content=content)
        self.server.blobs[etag(path, content)] = content
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": tag,
                    "Location": f"{self.server.cdn}/cdn/{etag(path, content)}"}  # fmt: skip
        return self._send(302, headers=headers, content=b"")

    def blob(self, oid: str) -> None:
        if self.headers.get("Authorization"):
            return self._send(400, {"error": "a token was sent to another host"})
        content = self.server.blobs[oid]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")
        start = int(wanted[1])
        return self._send(206 if start else 200, headers={"ETag": f'"{oid}"'},
                          content=content[start:])  # fmt: skip


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/api/models/{_NAME}/preupload/(?P<revision>.+)", _Handler.preupload),
    (rf"/api/models/{_NAME}/commit/(?P<revision>.+)", _Handler.commit),
    (rf"/api/models/{_NAME}/revision/(?P<revision>.+)", _Handler.info),
    (rf"/api/models/{_NAME}", _Handler.info),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/cdn/(?P<oid>\w+)", _Handler.upload),
    (rf"/verify/{_NAME}", _Handler.verify),
    (rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
