"""A web server for one folder, on a thread, that misbehaves on request."""

import contextlib
import hashlib
import http.server
import threading


class FileServer:
    """Serves a dict of files over http.

    Attributes:
      contents: bytes by path, "/name".
      address: "http://127.0.0.1:PORT".
      requests: (path, value of the Range header or None) of every request so far.
      can_range: answer a Range with 206; otherwise it is ignored, as some servers do.
      cut_after: bytes after which each of the next answers is cut off; one is used up a request.
      statuses: HTTP statuses of the next answers; one is used up a request.
      redirects: where a path redirects to.
      claims_length: give Content-Length.
    """

    def __init__(self, contents):
        self.contents, self.requests = contents, []
        self.can_range, self.claims_length = True, True
        self.cut_after, self.statuses, self.redirects = [], [], {}

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.end_headers()
            return
        if handler.path not in self.contents:
            handler.send_error(404)
            return
        body = self.contents[handler.path]
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        start = 0
        if wanted and self.can_range and handler.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        handler.send_header("ETag", etag)
        if self.claims_length:
            handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        end = start + self.cut_after.pop(0) if self.cut_after else None
        handler.wfile.write(body[start:end])
        handler.close_connection = True


@contextlib.contextmanager
def serve(contents):
    """Runs a `FileServer` on a free port of this machine."""
    files = FileServer(contents)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            files.answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *args: None  # a client that has read enough closes
        files.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()
