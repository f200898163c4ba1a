# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Hugging Face's hub on loopback: revisions, a paged tree, files of which the large ones lie elsewhere (registry_server's faults work here)."""
import hashlib
import json
import re
import urllib.parse

from registry_server import Registry


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(Registry):
    """files: {path: bytes} of `repo` at its one commit; those of large bytes or more are LFS objects, at `cdn` when it is given (another Hub)."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, repo="Org/Repo-GGUF", files=None, large=1000, cdn=None, token=None, page=1000):
        super().__init__()
        self.repo, self.files, self.large, self.cdn, self.token_wanted, self.page = repo, files or {}, large, cdn, token, page
        self.revisions = {"main": self.COMMIT, self.COMMIT: self.COMMIT}
        self.entries = []

    def listing(self):
        out = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "sub"}]
        for path, data in sorted(self.files.items()):
            e = {"type": "file", "oid": git_id(data), "size": len(data), "path": path}
            if len(data) >= self.large:
                e["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            out.append(e)
        return out + self.entries

    def answer(self, method, target, headers, body):
        path, _, query = target.partition("?")
        query = urllib.parse.parse_qs(query)
        path = urllib.parse.unquote(path)
        if self.token_wanted and headers.get("authorization") != "Bearer " + self.token_wanted:
            return 401, {}, b'{"error":"Access to this model is restricted."}'
        if path.startswith("/cdn/"):
            return self.part(self.files[path.removeprefix("/cdn/")], headers)
        if m := re.fullmatch(f"/api/models/{self.repo}/revision/(.+)", path):
            sha = self.revisions.get(m.group(1))
            if not sha:
                return 404, {}, b'{"error":"Invalid rev id"}'
            return 200, {"Content-Type": "application/json"}, json.dumps({"sha": sha, "lastModified": "2025-03-24T12:34:56.000Z"}).encode()
        if path == f"/api/models/{self.repo}/tree/{self.COMMIT}":
            at = int(query.get("cursor", ["0"])[0])
            rows = self.listing()
            link = {"Link": f'<{self.url}/api/models/{self.repo}/tree/{self.COMMIT}?recursive=true&cursor={at + self.page}>; rel="next"'}
            return 200, link if at + self.page < len(rows) else {}, json.dumps(rows[at:at + self.page]).encode()
        prefix = f"/{self.repo}/resolve/{self.COMMIT}/"
        if path.startswith(prefix) and path[len(prefix):] in self.files:
            name = path[len(prefix):]
            if self.cdn and len(self.files[name]) >= self.large:
                return 302, {"Location": f"{self.cdn.url}/cdn/{urllib.parse.quote(name)}?signature=x"}, b""
            return self.part(self.files[name], headers)
        return 401, {}, b'{"error":"Invalid username or password."}'

    def part(self, data, headers):
        m = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if not m:
            return 200, {}, data
        first = int(m.group(1))
        if first >= len(data):
            return 416, {}, b""
        return 206, {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}, data[first:]
