"""The demo's application served by a thread of this process."""

import contextlib
import threading
import time

import uvicorn


@contextlib.contextmanager
def serve(app):
    """Yields the address, on a free port of the loopback."""
    config = uvicorn.Config(app, port=0, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
