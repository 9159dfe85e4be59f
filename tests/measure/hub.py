"""A hub on loopback: enough of the Hugging Face HTTP interface for the real client, and things that go wrong."""

import hashlib
import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

type Files = dict[str, bytes]


class Hub:
    """Repositories, their revisions, and how to misbehave.

    Attributes
    ----------
    revisions
        `revisions[repository][revision]` are the files of it.
    lies
        `lies[repository]` is what the metadata says a file's sha256 is, whatever is served.
    truncated
        Repositories whose weights stop arriving half way.
    failing
        `failing[repository]` is how many requests more are answered with a 500.
    asked
        How often each path was asked for.
    """

    def __init__(self) -> None:
        self.revisions: dict[str, dict[str, Files]] = {}
        self.lies: dict[str, str] = {}
        self.truncated: set[str] = set()
        self.failing: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def files(self, repository: str, revision: str) -> Files | None:
        """The files of a revision, named as a branch or by its commit."""
        for name, files in self.revisions.get(repository, {}).items():
            if revision in (name, commit_of(repository, name)):
                return files
        return None

    def serve(self) -> ThreadingHTTPServer:
        """Return a server on a free port of loopback."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def do_GET(self) -> None:
                self.answer(body=True)

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def answer(self, body: bool) -> None:
                path = unquote(urlsplit(self.path).path).strip("/")
                hub.asked[path] += 1
                parts = path.split("/")
                api = parts[0] == "api"
                repository = "/".join(parts[2:4] if api else parts[:2])
                if hub.failing[repository] > 0:
                    hub.failing[repository] -= 1
                    self.send(500, b"overloaded", body)
                elif api and parts[4:5] in (["revision"], ["tree"]):
                    self.send_listing(repository, parts[5], tree=parts[4] == "tree", body=body)
                elif not api and parts[2:3] == ["resolve"]:
                    self.send_file(repository, parts[3], "/".join(parts[4:]), body)
                else:
                    self.send(404, b"", body)

            def send_listing(self, repository: str, revision: str, tree: bool, body: bool) -> None:
                files = hub.files(repository, revision)
                if files is None:
                    self.send(404, b"{}", body, **{"X-Error-Code": "RevisionNotFound"})
                    return
                entries = [describe(hub, repository, name, data, "path" if tree else "rfilename")
                           for name, data in files.items()]  # fmt: skip
                name = next(n for n in hub.revisions[repository] if hub.files(repository, n) is files)
                said = {"id": repository, "sha": commit_of(repository, name), "siblings": entries, "private": False}
                self.send(200, json.dumps(entries if tree else said).encode(), body)

            def send_file(self, repository: str, revision: str, name: str, body: bool) -> None:
                files = hub.files(repository, revision)
                if files is None or name not in files:
                    self.send(404, b"", body, **{"X-Error-Code": "EntryNotFound"})
                    return
                data = files[name]
                commit = next(commit_of(repository, n) for n in hub.revisions[repository]
                              if hub.files(repository, n) is files)  # fmt: skip
                headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
                cut = repository in hub.truncated and name.endswith(".safetensors") and body
                self.send(200, data[: len(data) // 2] if cut else data, body, length=len(data), **headers)
                self.close_connection = cut

            def send(self, status: int, data: bytes, body: bool, length: int | None = None, **headers: str) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data) if length is None else length))
                self.end_headers()
                if body:
                    self.wfile.write(data)

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def commit_of(repository: str, revision: str) -> str:
    """The commit that a branch points to."""
    return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()


def describe(hub: Hub, repository: str, name: str, data: bytes, key: str) -> dict[str, object]:
    """A file's entry in a listing; weights are in LFS, with their sha256."""
    entry: dict[str, object] = {key: name, "size": len(data), "type": "file", "oid": "0" * 40}
    if name.endswith((".safetensors", ".bin", ".gguf")):
        digest = hub.lies.get(repository, hashlib.sha256(data).hexdigest())
        entry["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 130}
    return entry
