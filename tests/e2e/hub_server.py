"""A hub on loopback that serves folders as models: listing, files by range, redirects, gated models, and breaks."""
import hashlib
import http.server
import json
import pathlib
import re
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """models: {"owner/name": folder}. Weights go through a redirect, as large files of the real hub do."""

    def __init__(self, models, token=None, break_after=None):
        self.requests = []
        self.break_after = break_after  # bytes of weights, once
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                hub.requests.append((self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization")))
                api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path)
                file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(?:\?.*)?", self.path)
                blob = re.fullmatch(r"/blob/([^/]+/[^/]+)/(.+)", self.path)
                name = (api or file or blob)[1] if api or file or blob else None
                if name not in models:
                    return self.answer(404, b"Repository not found")
                if token and not blob and self.headers.get("Authorization") != f"Bearer {token}":
                    return self.answer(401, b"Invalid credentials")
                folder = pathlib.Path(models[name])
                if api:
                    return self.answer(200, json.dumps(hub.listing(name, folder)).encode(), Content_Type="application/json")
                path = folder / (file[3] if file else blob[2])
                if not path.is_file():
                    return self.answer(404, b"Entry not found", X_Error_Code="EntryNotFound")
                body = path.read_bytes()
                etag = hub.digest(path)
                if file and path.suffix == ".safetensors":
                    return self.answer(302, Location=f"http://127.0.0.1:{hub.port}/blob/{name}/{file[3]}", ETag=f'"{etag}"',
                                       X_Linked_Etag=f'"{etag}"', X_Linked_Size=str(len(body)), X_Repo_Commit=COMMIT)
                begin = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if "Range" in self.headers else 0
                if hub.break_after is not None and blob:
                    stop, hub.break_after = hub.break_after, None
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body[:stop])
                    self.wfile.flush()
                    self.close_connection = True
                    return None
                extra = {"Content_Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"} if begin else {}
                return self.answer(206 if begin else 200, body[begin:], ETag=f'"{etag}"', X_Repo_Commit=COMMIT, **extra)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def digest(path):
        body = path.read_bytes()
        if path.suffix == ".safetensors":
            return hashlib.sha256(body).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()

    def listing(self, name, folder):
        siblings = []
        for path in sorted(folder.iterdir()):
            entry = {"rfilename": path.name, "size": path.stat().st_size, "blobId": self.digest(path)}
            if path.suffix == ".safetensors":
                entry["lfs"] = {"sha256": self.digest(path), "size": path.stat().st_size, "pointerSize": 134}
            siblings.append(entry)
        return {"id": name, "modelId": name, "sha": COMMIT, "private": False, "siblings": siblings}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
