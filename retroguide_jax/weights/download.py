"""Downloads one file over http or https, resuming and verifying it."""

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
_PAUSES = (1, 2, 4)  # seconds before each retry; starts again after a try that got bytes
_CHUNK = 1 << 20
_MOST = 1 << 30  # size limit, in bytes, of a file whose size is unknown
_PASSING = (408, 416, 429, 500, 502, 503, 504)  # HTTP statuses worth a retry


class Download:
    """The download of one file.

    Args:
      name: its name in the progress bar.
      address: its http or https address.
      file: the file to write to, open for reading and appending, unbuffered. With a `sha256`, which
        can verify the result, its content is taken for the beginning and the download resumes.
      size: bytes, or None if unknown.
      sha256: expected digest, hexadecimal; "" if unknown.
    """

    def __init__(self, name: str, address: str, file: Any, size: int | None, sha256: str):
        self._name, self._address, self._file = name, address, file
        self._size, self._sha256 = size, sha256
        self._digest, self._num_bytes = hashlib.sha256(), 0
        self._etag = ""  # the server's identifier of this version of the file

    def run(self) -> str:
        """Receives the file and returns its digest.

        Raises:
          UserError: the network or the server fails, or the file cannot be written (the bytes
            received are kept, to resume from); or its digest is another (nothing is kept).
          OSError: the file cannot be read or emptied.
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
            if is_continued and self._is_other():  # resumed from another file
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
        """Retries until the file is complete, after growing pauses while no bytes arrive."""
        pauses = iter(_PAUSES)
        while self._num_bytes != self._size:  # the file may be complete already
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
                if getattr(error, "code", None) == 416:  # the local part is longer than the file
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
        """Starts again if the server sends all of the file; returns its size, None if unknown."""
        place = response.headers.get("Content-Range", "").partition("-")[0]
        goes_on = response.status == 206 and place == f"bytes {self._num_bytes}"
        if not goes_on:
            self._start_anew()
        if response.status == 206 and not goes_on:
            raise ConnectionError("the server continued at another place than was asked for")
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
        except OSError as error:  # must not count as a network error, which is retried
            raise UserError(f"cannot write {self._file.name}: {error.strerror}") from None


def _make_opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    # Handlers for http and https only, so that no redirect to file:// or ftp:// is followed.
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
    # A reason that is a text is about the address itself, which no retry can change.
    return not (
        isinstance(error, urllib.error.URLError)
        and isinstance(error.reason, (str, ssl.SSLCertVerificationError))
    )


def _explain(error: Exception, address: str) -> str:
    """One-line description of an error, with a remedy."""
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
