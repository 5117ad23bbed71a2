"""One file over http or https: continued where it was cut off, and checked while it comes."""

import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from retroguide_jax import __version__
from retroguide_jax.errors import UserError
from retroguide_jax.progress import make_bar

_TIMEOUT = 30  # seconds without a byte
_PAUSES = (1, 2, 4)  # seconds before each further try; a try that got bytes starts them anew
_CHUNK = 1 << 20
_MOST = 1 << 30  # bytes of a file whose size is not known
_PASSING = (408, 416, 429, 500, 502, 503, 504)  # statuses after which another try may help


class Download:
    """A file on its way.

    Args:
      name: what the progress bar calls it.
      address: where it comes from, http or https.
      file: what it is written to, open for reading and appending, unbuffered. What is in it already
        is taken for the file's beginning if `sha256` can tell in the end.
      size: bytes, or None where not known.
      sha256: its digest, hexadecimal; "" where not known.
    """

    def __init__(self, name: str, address: str, file: Any, size: int | None, sha256: str):
        self._name, self._address, self._file = name, address, file
        self._size, self._sha256 = size, sha256
        self._digest, self._num_bytes = hashlib.sha256(), 0
        self._etag = ""  # the server's name for this state of the file

    def run(self) -> str:
        """Receives the file and returns its digest.

        Raises:
          UserError: the network or the server fails (what came is kept, to go on from), or what
            came is another file (nothing is kept).
          OSError: it cannot be written.
        """
        if self._sha256:
            self._take_up()
        else:
            self._start_anew()
        is_continued = self._num_bytes > 0
        with make_bar(
            total=self._size,
            initial=self._num_bytes,
            desc=self._name,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
        ) as self._bar:
            self._receive_all()
            if is_continued and self._is_other():  # what was there was of another file
                self._start_anew()
                self._receive_all()
        digest = self._digest.hexdigest()
        if self._is_other():
            self._file.truncate(0)
            raise UserError(
                f"{self._address}: has sha256 {digest}, but {self._name} has {self._sha256}; it "
                "was not kept: try again, or another --mirror or --url"
            )
        return digest

    def _is_other(self) -> bool:
        return bool(self._sha256) and self._digest.hexdigest() != self._sha256

    def _take_up(self) -> None:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            self._count(chunk)

    def _start_anew(self) -> None:
        self._file.truncate(0)
        self._digest, self._num_bytes = hashlib.sha256(), 0

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._num_bytes += len(chunk)

    def _receive_all(self) -> None:
        """Tries until everything is here, after longer and longer pauses where nothing comes."""
        pauses = iter(_PAUSES)
        while self._num_bytes != self._size:  # a part may be complete already
            before = self._num_bytes
            try:
                with self._open() as response:
                    total = self._agree(response)
                    self._receive(response, total)
                return
            except (OSError, http.client.HTTPException) as error:
                problem = _explain(error, self._address)
                if not _may_pass(error):
                    raise UserError(problem) from None
                if getattr(error, "code", None) == 416:  # more is here than the file has
                    self._start_anew()
            if self._num_bytes > before:
                pauses = iter(_PAUSES)
            pause = next(pauses, None)
            if pause is None:
                raise UserError(problem)
            time.sleep(pause)

    def _open(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"retroguide/{__version__}", "Accept-Encoding": "identity"}
        if self._num_bytes:
            headers["Range"] = f"bytes={self._num_bytes}-"
            if self._etag and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        request = urllib.request.Request(self._address, headers=headers)
        return _make_opener().open(request, timeout=_TIMEOUT)

    def _agree(self, response: http.client.HTTPResponse) -> int | None:
        """Starts anew if the server does; returns how many bytes there will be in the end."""
        place = response.headers.get("Content-Range", "").partition("-")[0]
        goes_on = response.status == 206 and place == f"bytes {self._num_bytes}"
        if not goes_on:
            self._start_anew()
        if response.status == 206 and not goes_on:
            raise ConnectionError("the server went on at another place than was asked for")
        self._etag = response.headers.get("ETag", "")
        length = response.headers.get("Content-Length", "")
        total = self._num_bytes + int(length) if length.isdigit() else None
        if self._size and total not in (None, self._size):
            raise UserError(
                f"{self._address}: offers {total:,} bytes, but {self._name} has {self._size:,}; "
                "look at what the address shows (a login page?), or give another --mirror or --url"
            )
        self._bar.total, self._bar.n = total, self._num_bytes
        return total

    def _receive(self, response: http.client.HTTPResponse, total: int | None) -> None:
        while chunk := response.read(_CHUNK):
            self._count(chunk)
            if self._num_bytes > (self._size or _MOST):
                self._start_anew()
                raise UserError(f"{self._address}: is longer than {self._name}; try another --url")
            self._write(chunk)
            self._bar.update(len(chunk))
        if total is not None and self._num_bytes < total:
            raise ConnectionError(f"closed after {self._num_bytes:,} of {total:,} bytes")

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:  # not to be taken for the network's
            raise UserError(f"cannot write {self._file.name}: {error.strerror}") from None


def _make_opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    # For http and https alone: a redirect to file:// or ftp:// finds nobody to follow it.
    for make_handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(make_handler())
    return opener


def _may_pass(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING
    # A reason in words is about the address itself.
    return not (
        isinstance(error, urllib.error.URLError)
        and isinstance(error.reason, (str, ssl.SSLCertVerificationError))
    )


def _explain(error: Exception, address: str) -> str:
    """What happened, on one line, with a way out."""
    way_out = "try another --mirror or --url, or fetch it elsewhere and name it with --weights"
    if isinstance(error, urllib.error.HTTPError):
        return f"{address}: the server answers {error.code} {error.reason}; {way_out}"
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"{address}: its certificate is not trusted ({reason.verify_message}); behind a proxy, "
            "set $SSL_CERT_FILE to its certificates"
        )
    text = " ".join(str(reason).split()) or type(reason).__name__
    return f"{address}: cannot be reached ({text}); {way_out}"
