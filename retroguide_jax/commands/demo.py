"""Serve a small local web page for a model: drop an image, see the views generated from it.

The page shows four generated views of the image, each from different noise, which a slider changes.
With --index, made by `retroguide retrieve index`, it also shows the images that the embedder finds
there: for the image itself or, if the index holds images of its own view, for the generated view.
Ctrl-C stops the server. Only this machine can open the page, unless --host says otherwise.
"""

import argparse
import contextlib
import socket
import sys

from retroguide_jax.errors import UserError, require_packages
from retroguide_jax.files import to_local_path

EXAMPLE = """
retroguide demo --workdir=runs/city
retroguide demo --workdir=runs/city --index=panoramas.index --port=8080
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="work directory of the trained model, or pretrained:city",
    )
    parser.add_argument(
        "--index", metavar="DIR", help="index to search in, made by `retroguide retrieve index`"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    parser.add_argument(
        "--checkpoint", default="latest", choices=("latest", "best"), help="checkpoint to use"
    )


def run(args: argparse.Namespace) -> int:
    """Serves the page until it is interrupted.

    Raises:
      UserError: a package is missing, the server cannot listen on the address, or the model or the
        index cannot be used.
    """
    require_packages("the demo", "pages", "jinja2", "python_multipart", "starlette", "uvicorn")
    from retroguide_jax.demo.app import make_app
    from retroguide_jax.demo.guard import is_loopback
    from retroguide_jax.demo.uploads import Limits

    with _bind(args.host, args.port) as listener:
        if not is_loopback(args.host):
            print(
                f"warning: --host={args.host}: anyone on the network can use this page",
                file=sys.stderr,
            )
        print(f"opening {args.workdir} and compiling; this takes a moment", flush=True)
        model, gallery = _open(args)
        app = make_app(model, gallery, Limits(), args.host)
        _serve(app, listener, args.host)
    print("ended")
    return 0


def _bind(host: str, port: int) -> socket.socket:
    """Binds the address before the model is opened; listening starts later."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        # Lets a new server bind the address of one that has just ended.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host={host} --port={port}: cannot be listened on: {reason}; choose another --port"
        ) from None
    return listener


def _open(args: argparse.Namespace):
    from retroguide_jax.checkpoints.loading import load_model

    if not args.index:
        return load_model(args.workdir, args.checkpoint), None
    from retroguide_jax.demo.gallery import Gallery
    from retroguide_jax.retrieval.index import Index

    index = Index.open(to_local_path(args.index))
    model = load_model(args.workdir, args.checkpoint)
    return model, Gallery(index, model)


def _serve(app, listener: socket.socket, host: str) -> None:
    import uvicorn

    name = f"[{host}]" if ":" in host else host
    print(f"ready: http://{name}:{listener.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(app, ws="none", log_level="warning", timeout_graceful_shutdown=2)
    # uvicorn shuts down on Ctrl-C by itself, then raises the signal again for its caller.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
