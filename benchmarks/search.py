"""Exact search in a memory-mapped gallery, beside faiss's flat index: time and memory.

    pip install faiss-cpu
    python benchmarks/search.py [--num_items=1000000] [--num_threads=2] [--num_rounds=5]
        [--folder=DIR]

Writes random unit rows [512] to a file in DIR (2 GB; default: a temporary folder). Each method in
turn searches them for a batch of 256 queries and for one query, every time in a new process, on as
many cores as it has threads. On a busy machine threads wait for each other; --num_threads=1 is then
more reliable. Each query resembles one item, so that it has a match. At the end the results of both
are compared once.

Prints seconds, the ratio to ours round by round (above 1: ours is faster; a busy machine slows both
sides), and peak memory in MB:

    own   the process's anonymous memory (RssAnon, sampled every 5 ms) beyond its value before the
          gallery was opened; for faiss mostly its copy of the gallery
    RSS   all resident memory (ru_maxrss), including libraries and those pages of the mapped file
          that the kernel caches anyway and reclaims when other processes need memory

Results: docs/retrieve.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# Keep the parent small: the peak memory of a child process starts from its parent's.
DIM, K, NUM_QUERIES = 512, 10, 256
METHODS = {"ours, 1 GiB": 2**30, "ours, 64 MiB": 2**26, "faiss": None}  # max_bytes
_BLOCK = 50_000


def main() -> None:
    """Makes the rows, times the methods in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_items", type=int, default=1_000_000)
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--num_rounds", type=int, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work = {"make": _make, "compare": _compare}.get(args.work, _time)
        print(json.dumps(work(Path(args.folder), args)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        _run("make", folder, args)
        runs = {method: [] for method in METHODS}
        for _ in range(args.num_rounds):
            for method in METHODS:
                runs[method].append(_run(method, folder, args))
        _print_times(runs, _run("compare", folder, args), args)


def _print_times(runs: dict[str, list[dict]], compared: dict, args: argparse.Namespace) -> None:
    print(f"{args.num_items} items [{DIM}], k = {K}, {args.num_rounds} rounds")
    print(f"threads of each method: {args.num_threads}")
    heads = [f"{name}: s, ratio (min..max)" for name in ("256 queries", "1 query")]
    print(f"{'':13} {heads[0]:>34} {heads[1]:>30}  open s  own MB  RSS MB")
    ours = next(iter(runs.values()))
    for method, found in runs.items():
        cells = []
        for key in ("batch", "single"):
            ratios = sorted(run[key] / own[key] for run, own in zip(found, ours, strict=True))
            middle = ratios[len(ratios) // 2]
            cells.append(
                f"{_median(found, key):.3f}, {middle:.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})"
            )
        opened, own, rss = (_median(found, key) for key in ("open", "own", "rss"))
        print(
            f"{method:13} {cells[0]:>34} {cells[1]:>30} {opened:7.2f} {own / 1e6:7.0f} "
            f"{rss / 1e6:7.0f}"
        )
    print(
        f"{compared['same']} of {compared['all']} neighbours are the same item at the same rank; "
        f"{compared['wrong']} of the others differ by more than float32's rounding"
    )


def _median(found: list[dict], key: str) -> float:
    return sorted(run[key] for run in found)[len(found) // 2]


def _run(work: str, folder: str, args: argparse.Namespace) -> dict:
    """Runs the work in a new process and returns what it printed."""
    options = [f"--{name}={getattr(args, name)}" for name in ("num_items", "num_threads")]
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    threads = dict.fromkeys(variables, str(args.num_threads))
    done = subprocess.run(
        [sys.executable, __file__, f"--work={work}", f"--folder={folder}", *options],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | threads,
    )
    return json.loads(done.stdout)


def _make(folder: Path, args: argparse.Namespace) -> dict:
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (args.num_items, DIM)
    gallery = np.lib.format.open_memmap(folder / "gallery.npy", "w+", np.float32, shape)
    for start in range(0, args.num_items, _BLOCK):
        block = rng.standard_normal((min(_BLOCK, args.num_items - start), DIM), np.float32)
        gallery[start : start + _BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    matches = np.arange(NUM_QUERIES) * 7919 % args.num_items
    queries = gallery[matches] * rng.uniform(0.1, 0.5, (NUM_QUERIES, 1)).astype(np.float32)
    queries += rng.standard_normal((NUM_QUERIES, DIM), np.float32) / DIM**0.5
    np.save(folder / "queries.npy", queries / np.linalg.norm(queries, axis=1, keepdims=True))
    return {}


def _time(folder: Path, args: argparse.Namespace) -> dict:
    import numpy as np

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.num_threads])
    queries = np.load(folder / "queries.npy")
    max_bytes = METHODS[args.work]
    open_fn = _import_faiss() if max_bytes is None else _import_ours(max_bytes)
    before, memory = _read_own_memory(), _Watch()
    start = time.perf_counter()
    search = open_fn(folder / "gallery.npy")
    run = {"open": time.perf_counter() - start}
    search(queries[:1])  # brings the file into the page cache, starts threads
    run["single"] = sorted(_measure(lambda: search(queries[:1]))[0] for _ in range(5))[
        2
    ]  # the median
    run["batch"], found = _measure(lambda: search(queries))
    np.save(folder / f"{args.work.partition(',')[0]}.npy", found)
    run["own"] = memory.stop() - before
    return run | {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _import_ours(max_bytes: int):
    import numpy as np

    from retroguide_jax.metrics.nearest import find_nearest

    def open_fn(path: Path):
        gallery = np.load(path, mmap_mode="r")
        return lambda queries: find_nearest(queries, gallery, K, max_bytes=max_bytes).indices

    return open_fn


def _import_faiss():
    import faiss
    import numpy as np

    def open_fn(path: Path):
        gallery, index = np.load(path, mmap_mode="r"), faiss.IndexFlatIP(DIM)
        for start in range(0, len(gallery), _BLOCK):
            index.add(gallery[start : start + _BLOCK])
        return lambda queries: index.search(queries, K)[1]

    return open_fn


def _compare(folder: Path, args: argparse.Namespace) -> dict:
    import numpy as np

    from retroguide_jax.metrics.products import bound_error

    gallery = np.load(folder / "gallery.npy", mmap_mode="r")
    queries, ours, theirs = (np.load(folder / f"{n}.npy") for n in ("queries", "ours", "faiss"))
    query, rank = np.nonzero(ours != theirs)
    rows = [gallery[found[query, rank]].astype(np.float64) for found in (ours, theirs)]
    difference = np.abs(np.sum((rows[0] - rows[1]) * queries[query], axis=1))
    wrong = int(np.sum(difference > 2 * bound_error(DIM, np.float32)))
    return {"same": ours.size - len(query), "all": ours.size, "wrong": wrong}


def _measure(fn) -> tuple[float, object]:
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


class _Watch(threading.Thread):
    """Samples the process's own memory until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self._most, self._stopped = 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stopped.wait(0.005):
            self._most = max(self._most, _read_own_memory())

    def stop(self) -> int:
        """Stops sampling and returns the peak in bytes."""
        self._stopped.set()
        self.join()
        return self._most


def _read_own_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
