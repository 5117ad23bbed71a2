"""A bucket on loopback: the part of Google Cloud Storage's JSON API that our libraries use.

Objects have generations and preconditions, on which tensorstore's checkpoints rely, and appear
complete with the last byte of an upload. It keeps them in memory, without credentials or paging.
"""

import base64
import contextlib
import email
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "pair-bucket"
_OBJECT = re.compile(rf"(?:/download)?/storage/v1/b/{BUCKET}/o/(.+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@contextlib.contextmanager
def serve_bucket() -> Iterator[tuple[dict[str, bytes], dict[str, str]]]:
    """Serves one empty bucket, gs://pair-bucket.

    Returns:
      Its objects, {name: content}, and the environment variables that point gcsfs, Google's own
      client, tensorstore and ArrayRecord to it.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a killed client breaks its connections
    server.objects, server.generations, server.uploads = {}, {}, {}
    server.lock, server.counter = threading.Lock(), itertools.count(1)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    names = (
        "STORAGE_EMULATOR_HOST",
        "TENSORSTORE_GCS_HTTP_URL",
        "CLOUD_STORAGE_EMULATOR_ENDPOINT",
    )
    try:
        yield server.objects, dict.fromkeys(names, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    disable_nagle_algorithm = True  # Nagle's algorithm would delay every answer by 40 ms

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._read()
        if self.path_only == f"/storage/v1/b/{BUCKET}":
            self._send_json({"kind": "storage#bucket", "name": BUCKET})
        elif self.path_only == f"/storage/v1/b/{BUCKET}/o":
            self._list()
        elif match := _OBJECT.fullmatch(self.path_only):
            self._get(unquote(match[1]))
        else:
            self._send(404)

    def do_DELETE(self):
        self._read()
        match = _OBJECT.fullmatch(self.path_only)
        with self.server.lock:
            found = match and self.server.objects.pop(unquote(match[1]), None)
        self._send(404 if found is None else 204)

    def do_POST(self):
        body = self._read()
        if self.path_only != f"/upload/storage/v1/b/{BUCKET}/o":
            return self._send(404)
        kind, name = self.query.get("uploadType"), self.query.get("name")
        if kind == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
            described, content = email.message_from_bytes(head + body).get_payload()
            name = json.loads(described.get_payload())["name"]
            return self._put(name, content.get_payload(decode=True))
        if kind == "media":
            return self._put(name, body)
        return self._resume(name, body)

    do_PUT = do_POST

    def _resume(self, name: str, body: bytes):
        key = self.query.get("upload_id")
        if key is None:
            key = str(next(self.server.counter))
            self.server.uploads[key] = b""
            place = f"http://{self.headers['Host']}{self.path}&upload_id={key}"
            return self._send(200, b"{}", Location=place)
        self.server.uploads[key] += body
        content = self.server.uploads[key]
        total = self.headers["Content-Range"].rpartition("/")[2]
        if total == "*" or len(content) < int(total):
            return self._send(308, Range=f"bytes=0-{len(content) - 1}")
        return self._put(name, content)

    def _put(self, name: str, content: bytes):
        wanted = self.query.get("ifGenerationMatch")
        with self.server.lock:
            known = self.server.generations[name] if name in self.server.objects else 0
            if wanted is not None and int(wanted) != known:
                return self._send(412)
            self.server.objects[name] = content
            self.server.generations[name] = next(self.server.counter)
        return self._send_json(self._describe(name))

    def _get(self, name: str):
        with self.server.lock:
            content = self.server.objects.get(name)
            if content is None:
                return self._send(404)
            generation = self.server.generations[name]
            described = self._describe(name)
        if int(self.query.get("ifGenerationNotMatch", -1)) == generation:
            return self._send(304)
        if int(self.query.get("ifGenerationMatch", generation)) != generation:
            return self._send(412)
        if self.query.get("alt") != "media":
            return self._send_json(described)
        headers = {
            "x-goog-generation": str(generation),
            "x-goog-stored-content-length": len(content),
        }
        match = _RANGE.match(self.headers.get("Range", ""))
        if match is None:
            return self._send(200, content, **headers)
        size, (first, last) = len(content), match.groups()
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return self._send(206, content[start:end], **headers)

    def _list(self):
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        items, folders = [], set()
        with self.server.lock:
            for name in sorted(self.server.objects):
                if name.startswith(prefix):
                    inner, found, _ = name[len(prefix) :].partition(delimiter or "\0")
                    if found:
                        folders.add(prefix + inner + delimiter)
                    else:
                        items.append(self._describe(name))
        self._send_json({"kind": "storage#objects", "items": items, "prefixes": sorted(folders)})

    def _describe(self, name: str) -> dict:
        content, generation = self.server.objects[name], str(self.server.generations[name])
        return {
            "kind": "storage#object",
            "bucket": BUCKET,
            "name": name,
            "size": str(len(content)),
            "generation": generation,
            "metageneration": "1",
            "updated": f"2024-01-01T00:00:00.{int(generation):06d}Z",
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
        }

    def _read(self) -> bytes:
        parts = urlsplit(self.path)
        self.path_only = parts.path
        query = parse_qs(parts.query, keep_blank_values=True)
        self.query = {name: values[-1] for name, values in query.items()}
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send_json(self, value: dict):
        self._send(200, json.dumps(value).encode())

    def _send(self, status: int, body: bytes = b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
