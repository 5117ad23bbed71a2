"""Which requests the server accepts, and what browsers may do with its answers."""

import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    address = _parse_address(host)
    return host == "localhost" if address is None else address.is_loopback


class Guard:
    """Middleware that refuses requests from other sites and adds `HEADERS`.

    A site that a visitor has open must not use the demo through the visitor's browser. It can forge
    neither `Host`, which reveals DNS rebinding (another site's name resolved to this address), nor
    `Origin`, which reveals a post from another site's page.
    """

    def __init__(self, app: ASGIApp, host: str):
        """Wraps an application.

        Args:
          app: the application to guard.
          host: the address that the server listens on. If it is loopback, only loopback names and
            addresses are accepted; else any address, "localhost", `host` and the machine's name.
        """
        self._app = app
        self._is_local = is_loopback(host)
        self._names = {"localhost"} if self._is_local else {"localhost", host, socket.gethostname()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection; anything but HTTP is passed on unchecked."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        problem = self._find_problem(Headers(scope=scope))
        refusal = JSONResponse({"error": problem}, status_code=403)
        await (refusal if problem else self._app)(scope, receive, send_with_headers)

    def _find_problem(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_own(_strip_port(hosts[0])):
            return "this address does not belong to the demo; use the one that it printed"
        if origins and origins != [f"http://{hosts[0]}"]:
            return "pages of other sites may not use the demo"
        return None

    def _is_own(self, name: str) -> bool:
        address = _parse_address(name)
        if address is None:
            return name in self._names
        return address.is_loopback or not self._is_local


def _strip_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not name.endswith(":") else host


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
