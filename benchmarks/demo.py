"""The demo page under load: one visitor, many at once, and uploads that are too large.

    pip install -e '.[pages]' httpx
    python benchmarks/demo.py --workdir=runs/city --index=panoramas.index [--num_clients=100]

Starts `retroguide demo` on a free port of this machine and sends requests from threads of this
process, which uses the same cores. Prints seconds, the number of answers per status, and the
server's peak memory.
"""

import argparse
import collections
import contextlib
import io
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

_SIZE = 2450  # random pixels do not compress: about 18 MB


def main() -> None:
    """Prints one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--index", required=True)
    parser.add_argument("--num_clients", type=int, default=100)
    args = parser.parse_args()
    small, large = _draw_png(64), _draw_png(_SIZE)
    with _serve(args.workdir, args.index) as (server, address):
        print(f"ready: {_read_peak(server)} MB")
        alone = [_ask(address, small) for _ in range(20)]
        seconds = [took for _, took in alone]
        median, longest = statistics.median(seconds), max(seconds)
        print(f"one at a time: median {median:.2f} s, longest {longest:.2f} s of {len(alone)}")
        for name, image in (("", small), (f" of {len(large) / 1e6:.0f} MB", large)):
            _ask_together(address, image, args.num_clients, name)
        status, took = _ask(address, bytes(50_000_000))
        print(f"an upload of 50 MB: {status} after {took:.2f} s")
        print(f"in the end: at most {_read_peak(server)} MB")


def _ask_together(address: str, image: bytes, num_clients: int, name: str) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(num_clients + 1) as pool:
        asked = [pool.submit(_ask, address, image, seed) for seed in range(num_clients)]
        time.sleep(0.2)
        page = pool.submit(_get, address)
        answers = collections.Counter(future.result()[0] for future in asked)
        took = time.monotonic() - started
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(answers.items()))
    print(f"{num_clients} at once{name}: {statuses} in {took:.1f} s")
    print(f"  the page itself meanwhile: {page.result():.2f} s")


def _ask(address: str, image: bytes, seed: int = 0) -> tuple[int, float]:
    """The status, and seconds until the answer is complete."""
    started = time.monotonic()
    files, data = {"image": ("a.png", image)}, {"seed": str(seed)}
    answer = httpx.post(f"{address}/generate", files=files, data=data, timeout=120)
    return answer.status_code, time.monotonic() - started


def _get(address: str) -> float:
    started = time.monotonic()
    httpx.get(address, timeout=60).raise_for_status()
    return time.monotonic() - started


@contextlib.contextmanager
def _serve(workdir: str, index: str) -> Iterator[tuple[subprocess.Popen, str]]:
    command = ["demo", f"--workdir={workdir}", f"--index={index}", "--port=0"]
    program = [sys.executable, "-m", "retroguide_jax", *command]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stdout:
                if found := re.search(r"http://\S+:\d+", line):
                    yield server, found[0].rstrip("/")
                    return
            sys.exit("the server ended")
        finally:
            server.terminate()


def _draw_png(size: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=0)
    return file.getvalue()


def _read_peak(server: subprocess.Popen) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


if __name__ == "__main__":
    main()
