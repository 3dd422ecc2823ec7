"""A Hub on 127.0.0.1 that keeps repositories in memory: what pushes and downloads are tested against, offline.

It speaks what huggingface_hub sends for models and datasets: create, preupload, LFS batch and upload, commit, tree,
revision, resolve with ranges, branches, tags, refs and delete. As on the real Hub, a commit that names a large file
which was not uploaded is refused, and a commit is visible as a whole or not at all.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens that may and may not write; any other token is unknown."""
NAMESPACE = "lab"
"""The one namespace in which `WRITER` may write."""
LARGE = re.compile(r"\.(safetensors|bin|parquet|arrow|pt|gz)$")
"""Files that go through LFS, whatever their size."""

_REPO = r"(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
_PAGE = r"(?P<prefix>datasets/)?(?P<repo>[^/]+/[^/]+?)"
_REVISION = r"(?P<revision>[^/]+)"
ROUTES = {
    "create": ("POST", r"/api/repos/create"),
    "delete": ("DELETE", r"/api/repos/delete"),
    "validate-yaml": ("POST", r"/api/validate-yaml"),
    "info": ("GET", rf"/api/{_REPO}(/revision/{_REVISION})?"),
    "tree": ("GET", rf"/api/{_REPO}/tree/{_REVISION}(/(?P<path>.+))?"),
    "paths-info": ("POST", rf"/api/{_REPO}/paths-info/{_REVISION}"),
    "preupload": ("POST", rf"/api/{_REPO}/preupload/{_REVISION}"),
    "commit": ("POST", rf"/api/{_REPO}/commit/{_REVISION}"),
    "branch": ("POST", rf"/api/{_REPO}/branch/{_REVISION}"),
    "tag": ("POST", rf"/api/{_REPO}/tag/{_REVISION}"),
    "refs": ("GET", rf"/api/{_REPO}/refs"),
    "lfs-batch": ("POST", rf"/{_PAGE}\.git/info/lfs/objects/batch"),
    "lfs-upload": ("PUT", r"/lfs-upload/(?P<oid>[0-9a-f]{64})"),
    "resolve-head": ("HEAD", rf"/{_PAGE}/resolve/{_REVISION}/(?P<path>.+)"),
    "resolve": ("GET", rf"/{_PAGE}/resolve/{_REVISION}/(?P<path>.+)"),
}


class HubError(Exception):
    """An answer other than success: the status, and the code and message that huggingface_hub reads."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Blob:
    """The content of one file."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        """Git's hash of the file, or of the pointer that stands for a large one."""
        data = self.data
        if self.large:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_oid


@dataclass
class Repo:
    """Commits by hash, and the branches and tags that point at them."""

    id: str
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, Blob], message: str) -> str:
        listing = "".join(f"{path} {blob.git_oid}\n" for path, blob in sorted(files.items()))
        sha = hashlib.sha1(f"{self.id}{len(self.commits)}{message}{listing}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def find(self, revision: str) -> str:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha


@dataclass
class Failure:
    """How the next requests of a route fail: with a status, or (status None) cut off in the middle of the body."""

    status: int | None
    message: str
    times: int
    code: str | None = None


class LoopbackHub:
    """The server and its state; `url` is the HF_ENDPOINT for clients. Use as a context manager.

    Attributes:
        requests (`Counter`): how often each route of `ROUTES` was asked; "unknown" for what is not served here.
        paths (`list[str]`): the unknown ones.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.paths: list[str] = []
        self.failures: dict[str, Failure] = {}
        self.lock = threading.RLock()
        hub = self

        class BoundHandler(Handler):
            pass

        BoundHandler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), BoundHandler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised):
        self.server.shutdown()
        self.server.server_close()

    def fail(
        self,
        route: str,
        status: int | None = None,
        message: str = "told to fail",
        times: int = 1,
        code: str | None = None,
    ) -> None:
        """Let the next `times` requests of a route fail: with `status`, or cut off in the middle of the body."""
        if route not in ROUTES:
            raise KeyError(f"no route {route!r}; there are {', '.join(ROUTES)}")
        self.failures[route] = Failure(status, message, times, code)

    def recover(self) -> None:
        """No more failures."""
        self.failures.clear()

    def read(self, repo: str, path: str, revision: str = "main", kind: str = "models") -> bytes:
        """The content of a file, as a client would get it."""
        return self.list_files(repo, revision, kind)[path].data

    def list_files(self, repo: str, revision: str = "main", kind: str = "models") -> dict[str, Blob]:
        """The files of a revision."""
        found = self.repos[kind, repo]
        return found.commits[found.find(revision)]

    def get_repo(self, kind: str, repo: str, token: str | None) -> Repo:
        found = self.repos.get((kind, repo))
        if found is None or (found.private and token is None):
            raise HubError(404 if token else 401, "Repository not found", "RepoNotFound")
        return found


def _needs_writer(token: str | None, namespace: str) -> None:
    if token not in (WRITER, READER):
        raise HubError(401, "Invalid username or password.")
    if token == READER or namespace != NAMESPACE:
        raise HubError(403, f"You don't have the rights to write in the namespace {namespace!r}")


class Handler(BaseHTTPRequestHandler):
    """One method a route, `answer_<route>`; each returns (status, headers, JSON or bytes)."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        """Requests are counted, not printed."""

    def do_any(self):
        address = urlsplit(self.path)
        route, parts = self._find_route(address.path)
        with self.hub.lock:
            self.hub.requests[route] += 1
            failure = self._take_failure(route)
        if failure is not None and failure.status is None:
            return self._cut()
        body = self._read_body()
        authorization = self.headers.get("Authorization", "")
        self.token = authorization.removeprefix("Bearer ") if authorization else None
        self.query = parse_qs(address.query)
        try:
            if failure is not None:
                raise HubError(failure.status or 500, failure.message, failure.code)
            if route == "unknown":
                self.hub.paths.append(f"{self.command} {self.path}")
                raise HubError(404, "this Hub does not serve that")
            answer: Callable = getattr(self, f"answer_{route.replace('-', '_')}")
            with self.hub.lock:
                status, headers, content = answer(body, **parts)
        except HubError as error:
            status, headers, content = error.status, {"X-Error-Message": str(error)}, {"error": str(error)}
            if error.code:
                headers["X-Error-Code"] = error.code
        self._send(status, headers, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_any

    def _find_route(self, path: str) -> tuple[str, dict[str, str]]:
        for route, (method, pattern) in ROUTES.items():
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                parts = {name: unquote(value) for name, value in match.groupdict().items() if value}
                if "prefix" in match.groupdict():  # pages and files of models have no prefix
                    parts["kind"] = parts.pop("prefix", "models/").rstrip("/")
                return route, parts
        return "unknown", {}

    def _take_failure(self, route: str) -> Failure | None:
        failure = self.hub.failures.get(route)
        if failure is not None:
            failure.times -= 1
            if failure.times == 0:
                del self.hub.failures[route]
        return failure

    def _cut(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, headers: dict[str, str], content: object) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Repositories

    def answer_create(self, body: bytes):
        wanted = json.loads(body)
        kind = wanted.get("type", "model") + "s"
        namespace = wanted.get("organization") or NAMESPACE
        repo = f"{namespace}/{wanted['name']}"
        _needs_writer(self.token, namespace)
        url = {"url": f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{repo}"}
        if (kind, repo) in self.hub.repos:
            return 409, {}, {**url, "error": "You already created this repo"}
        private = wanted.get("private", False) or wanted.get("visibility") == "private"
        self.hub.repos[kind, repo] = Repo(repo, private)
        attributes = Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", large=False)
        self.hub.repos[kind, repo].commit("main", {".gitattributes": attributes}, "initial commit")
        return 200, {}, url

    def answer_delete(self, body: bytes):
        wanted = json.loads(body)
        _needs_writer(self.token, wanted["organization"])
        key = wanted.get("type", "model") + "s", f"{wanted['organization']}/{wanted['name']}"
        self.hub.get_repo(*key, self.token)
        del self.hub.repos[key]
        return 200, {}, {}

    def answer_info(self, body: bytes, kind: str, repo: str, revision: str = "main"):
        found = self.hub.get_repo(kind, repo, self.token)
        sha = found.find(revision)
        siblings = [{"rfilename": path} for path in sorted(found.commits[sha])]
        card = found.commits[sha].get("README.md")
        data = _read_front_matter(card.data.decode()) if card else {}
        return (
            200,
            {},
            {
                "_id": sha,
                "id": repo,
                "sha": sha,
                "private": found.private,
                "gated": False,
                "disabled": False,
                "siblings": siblings,
                "tags": data.get("tags") or [],
                "cardData": data,
                "pipeline_tag": data.get("pipeline_tag"),
                "library_name": data.get("library_name"),
                "downloads": 0,
                "likes": 0,
            },
        )

    def answer_branch(self, body: bytes, kind: str, repo: str, revision: str):
        found = self._repo_to_write(kind, repo)
        if revision in found.branches:
            raise HubError(409, "Reference already exists")
        found.branches[revision] = found.find(json.loads(body or b"{}").get("startingPoint", "main"))
        return 200, {}, {}

    def answer_tag(self, body: bytes, kind: str, repo: str, revision: str):
        found, tag = self._repo_to_write(kind, repo), json.loads(body)["tag"]
        if tag in found.tags:
            raise HubError(409, "Tag already exists")
        found.tags[tag] = found.find(revision)
        return 200, {}, {}

    def answer_refs(self, body: bytes, kind: str, repo: str):
        found = self.hub.get_repo(kind, repo, self.token)
        named = {"heads": found.branches, "tags": found.tags}
        heads, tags = (
            [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": sha} for name, sha in refs.items()]
            for folder, refs in named.items()
        )
        return 200, {}, {"branches": heads, "tags": tags, "converts": []}

    # Reading

    def answer_tree(self, body: bytes, kind: str, repo: str, revision: str, path: str = ""):
        found = self.hub.get_repo(kind, repo, self.token)
        files = found.commits[found.find(revision)]
        below = f"{path}/" if path else ""
        inside = {name: blob for name, blob in files.items() if name.startswith(below)}
        if path and not inside:
            raise HubError(404, f"{path} does not exist on {revision}", "EntryNotFound")
        folders = {below + name.removeprefix(below).rsplit("/", 1)[0] for name in inside if "/" in name[len(below) :]}
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            inside = {name: blob for name, blob in inside.items() if "/" not in name[len(below) :]}
            folders = {below + folder.removeprefix(below).split("/")[0] for folder in folders}
        return (
            200,
            {},
            [_describe_folder(name) for name in sorted(folders)]
            + [_describe_file(name, blob) for name, blob in sorted(inside.items())],
        )

    def answer_paths_info(self, body: bytes, kind: str, repo: str, revision: str):
        found = self.hub.get_repo(kind, repo, self.token)
        files = found.commits[found.find(revision)]
        wanted = parse_qs(body.decode())["paths"]
        folders = [path for path in wanted if any(name.startswith(f"{path}/") for name in files)]
        return (
            200,
            {},
            [_describe_folder(path) for path in folders]
            + [_describe_file(path, files[path]) for path in wanted if path in files],
        )

    def answer_resolve(self, body: bytes, kind: str, repo: str, revision: str, path: str):
        found = self.hub.get_repo(kind, repo, self.token)
        sha = found.find(revision)
        if path not in found.commits[sha]:
            raise HubError(404, f"{path} does not exist in {revision}", "EntryNotFound")
        blob = found.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.large:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, headers, blob.data
        first, last = int(wanted[1]), min(int(wanted[2] or len(blob.data)), len(blob.data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.data)}"
        return 206, headers, blob.data[first : last + 1]

    answer_resolve_head = answer_resolve

    # Writing

    def _repo_to_write(self, kind: str, repo: str) -> Repo:
        _needs_writer(self.token, repo.split("/")[0])
        return self.hub.get_repo(kind, repo, self.token)

    def answer_validate_yaml(self, body: bytes):
        try:
            _read_front_matter(json.loads(body)["content"])
        except yaml.YAMLError as error:
            return 400, {}, {"errors": [{"message": str(error)}], "warnings": []}
        return 200, {}, {"errors": [], "warnings": []}

    def answer_preupload(self, body: bytes, kind: str, repo: str, revision: str):
        found = self._repo_to_write(kind, repo)
        present = found.commits[found.find(revision)]
        files = []
        for wanted in json.loads(body)["files"]:
            path = wanted["path"]
            mode = "lfs" if LARGE.search(path) else "regular"
            there = {"oid": present[path].etag} if path in present else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **there})
        return 200, {}, {"files": files, "commitOid": found.find(revision)}

    def answer_lfs_batch(self, body: bytes, kind: str, repo: str):
        self._repo_to_write(kind, repo)
        objects = []
        for wanted in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs-upload/{wanted['oid']}", "header": {}}
            missing = wanted["oid"] not in self.hub.large_files
            objects.append({**wanted, **({"actions": {"upload": upload}} if missing else {})})
        return 200, {"Content-Type": "application/vnd.git-lfs+json"}, {"transfer": "basic", "objects": objects}

    def answer_lfs_upload(self, body: bytes, oid: str):
        if hashlib.sha256(body).hexdigest() != oid:
            raise HubError(422, "the content does not have the hash that was announced")
        self.hub.large_files[oid] = body
        return 200, {}, {}

    def answer_commit(self, body: bytes, kind: str, repo: str, revision: str):
        found = self._repo_to_write(kind, repo)
        if revision not in found.branches:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head, *operations = (json.loads(line) for line in body.splitlines())
        if head["value"].get("parentCommit", found.branches[revision]) != found.branches[revision]:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(found.commits[found.branches[revision]])
        for operation in operations:
            wanted = operation["value"]
            path = wanted["path"]
            if operation["key"] == "file":
                files[path] = Blob(base64.b64decode(wanted["content"]), large=False)
            elif operation["key"] == "lfsFile":
                if wanted["oid"] not in self.hub.large_files:
                    raise HubError(400, f"{path}: the large file was not uploaded")
                files[path] = Blob(self.hub.large_files[wanted["oid"]], large=True)
            elif operation["key"] == "deletedFile":
                del files[path]
            elif operation["key"] == "deletedFolder":
                files = {name: blob for name, blob in files.items() if not name.startswith(path.rstrip("/") + "/")}
            else:
                raise HubError(400, f"unknown operation {operation['key']}")
        sha = found.commit(revision, files, head["value"]["summary"])
        return 200, {}, {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo}/commit/{sha}"}


def _describe_file(path: str, blob: Blob) -> dict:
    entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.git_oid}
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
    return entry


def _describe_folder(path: str) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _read_front_matter(card: str) -> dict:
    match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return (yaml.safe_load(match[1]) or {}) if match else {}
