"""Speed of finding the nearest items of a gallery, as ratios to faiss and to plain NumPy.

    pip install faiss-cpu            # for the comparison with its flat index; else left out
    python benchmarks/retrieval.py [--num_rounds=5] [--folder=DIR]
    python benchmarks/retrieval.py --vigor [--folder=DIR]

The first command gives 2,000 queries and a gallery of 100,000 random unit rows [512] to each method
in turn, every time in a new process. It prints the search time by the wall clock and summed over
processors, ratios above 1 where this package is faster (round by round, so that a busy machine
slows both sides), and the peak memory beyond the embeddings. The memory of faiss is mostly its own
copy of the gallery; the time of that copy is not counted.

The second command ranks as many queries in as large a gallery as in VIGOR's same-area test, at
3,072 dimensions (52,605 x 90,618), and checks 50 ranks against float64. It takes minutes, and 2 GB
in DIR (default: a temporary folder). Results: docs/agreement.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Keep the parent small: the peak memory of a child process starts from its parent's.
METHODS = ("ours", "faiss", "numpy")
VIGOR = 52_605, 90_618, 3_072


def main() -> None:
    """Makes the rows, times the methods in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_queries", type=int, default=2_000)
    parser.add_argument("--num_items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--num_rounds", type=int, default=5)
    parser.add_argument("--vigor", action="store_true")
    parser.add_argument("--folder")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(_WORK[args.work](Path(args.folder), args)))
        return
    if args.vigor:
        args.num_queries, args.num_items, args.dim = VIGOR
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        _run("make", folder, args)
        if args.vigor:
            _print_ranks(_run("rank", folder, args), args)
        else:
            _compare(folder, args)


def _compare(folder: str, args: argparse.Namespace) -> None:
    runs = {method: [] for method in METHODS}
    for _ in range(args.num_rounds):
        for method in METHODS:
            runs[method].append(_run(method, folder, args))
    print(f"{args.num_queries} queries, {args.num_items} items [{args.dim}], k = {args.k}")
    print(
        "        wall clock: median s, ratio (min..max)   processor: s, ratio   peak MB  same items"
    )
    for method, found in runs.items():
        if any(run is None for run in found):
            print(f"{method:6}  not installed")
            continue
        wall, wall_ratio = _summarise(found, runs["ours"], "seconds")
        cpu, cpu_ratio = _summarise(found, runs["ours"], "processor_seconds")
        print(
            f"{method:6}  {wall[1]:19.2f}, {wall_ratio[1]:.2f} "
            f"({wall_ratio[0]:.2f}..{wall_ratio[2]:.2f}) {cpu[1]:18.2f}, {cpu_ratio[1]:5.2f}   "
            f"{max(run['peak'] for run in found) / 1e6:7.0f}  {found[0]['same']:10.4%}",
            flush=True,
        )


def _summarise(found: list[dict], ours: list[dict], key: str) -> tuple[tuple, tuple]:
    """Minimum, median and maximum of the time, and of its ratio to ours in the same round."""
    times = sorted(run[key] for run in found)
    ratios = sorted(run[key] / own[key] for run, own in zip(found, ours, strict=True))
    return tuple((x[0], x[len(x) // 2], x[-1]) for x in (times, ratios))


def _print_ranks(run: dict, args: argparse.Namespace) -> None:
    pairs = args.num_queries * args.num_items
    print(
        f"ranks of {args.num_queries} queries in {args.num_items} items [{args.dim}]: "
        f"{run['seconds']:.0f} s ({2 * pairs * args.dim / run['seconds'] / 1e9:.0f} GFLOP/s), "
        f"peak {run['peak'] / 1e9:.2f} GB beyond the embeddings' {run['held'] / 1e9:.2f} GB"
    )
    print(f"R@1 {run['recall']:.4f}, {run['tied']} tied; {run['checked']} ranks checked, all equal")


def _run(work: str, folder: str, args: argparse.Namespace) -> dict | None:
    """Runs the work in a new process; returns what it printed, None if its library is missing."""
    names = ("num_queries", "num_items", "dim", "k")
    options = [f"--{name}={getattr(args, name)}" for name in names]
    command = [sys.executable, __file__, f"--work={work}", f"--folder={folder}", *options]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _make(folder: Path, args: argparse.Namespace) -> dict:
    """Saves random unit rows; query q resembles its match, item 7 q mod R, to a random degree."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = {"gallery": (args.num_items, args.dim), "queries": (args.num_queries, args.dim)}
    rows = {}
    for name, shape in shapes.items():
        rows[name] = rng.standard_normal(shape, np.float32)
        if name == "queries":
            rows[name] *= 1 / args.dim**0.5
            match = np.arange(args.num_queries) * 7 % args.num_items
            rows[name] += rows["gallery"][match] * rng.uniform(0, 0.3, (len(match), 1))
        for part in np.array_split(rows[name], 100):
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        np.save(folder / f"{name}.npy", rows[name])
    return {}


def _search_ours(folder: Path, args: argparse.Namespace) -> dict | None:
    from retroguide_jax.metrics.nearest import find_nearest

    queries, gallery = _load(folder)
    find_nearest(queries[:8], gallery[:1000], args.k)
    return _time(folder, lambda: find_nearest(queries, gallery, args.k).indices)


def _search_faiss(folder: Path, args: argparse.Namespace) -> dict | None:
    try:
        import faiss
    except ImportError:
        return None
    queries, gallery = _load(folder)
    before = _peak()
    index = faiss.IndexFlatIP(args.dim)
    index.add(gallery)
    index.search(queries[:8], args.k)
    return _time(folder, lambda: index.search(queries, args.k)[1], before)


def _search_numpy(folder: Path, args: argparse.Namespace) -> dict | None:
    import numpy as np

    queries, gallery = _load(folder)

    def search():
        num, k = len(queries), args.k
        best, index = np.full((num, k), -np.inf, np.float32), np.zeros((num, k), np.int64)
        for start in range(0, len(gallery), 8192):
            similarity = queries @ gallery[start : start + 8192].T
            top = np.argpartition(-similarity, k, axis=1)[:, :k]
            value = np.concatenate([best, np.take_along_axis(similarity, top, 1)], axis=1)
            index = np.concatenate([index, top + start], axis=1)
            order = np.argsort(-value, axis=1, kind="stable")[:, :k]
            best, index = np.take_along_axis(value, order, 1), np.take_along_axis(index, order, 1)
        return index

    return _time(folder, search)


def _rank(folder: Path, args: argparse.Namespace) -> dict:
    import numpy as np

    from retroguide_jax.metrics import retrieval

    queries, gallery = _load(folder)
    matches = np.arange(len(queries)) * 7 % len(gallery)
    retrieval.rank_matches(queries[:8], gallery[:1000], np.arange(8))
    before, start = _peak(), time.perf_counter()
    ranks, num_tied = retrieval.rank_matches(queries, gallery, matches)
    seconds, peak = time.perf_counter() - start, _peak() - before
    sample = np.linspace(0, len(queries) - 1, 50).astype(int)
    for query in sample:
        similarity = gallery @ queries[query].astype(np.float64)
        difference = np.delete(similarity - similarity[matches[query]], matches[query])
        tied = np.sum(np.abs(difference) <= retrieval.TIE_TOLERANCE)
        expected = 1 + np.sum(difference > retrieval.TIE_TOLERANCE) + tied / 2
        if ranks[query] != expected:
            raise SystemExit(f"query {query} ranks {ranks[query]}, by float64 {expected}")
    return {
        "seconds": seconds,
        "peak": peak,
        "held": queries.nbytes + gallery.nbytes,
        "recall": retrieval.compute_recall(ranks, 1),
        "tied": num_tied,
        "checked": len(sample),
    }


def _time(folder: Path, search_fn, before: int | None = None) -> dict:
    import numpy as np

    before = _peak() if before is None else before
    start, busy = time.perf_counter(), time.process_time()
    found = search_fn()
    run = {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - busy,
        "peak": _peak() - before,
    }
    path = folder / "found.npy"  # the results of the first method, this package's
    if not path.exists():
        np.save(path, found)
    return run | {"same": float(np.mean(np.sort(found, 1) == np.sort(np.load(path), 1)))}


def _load(folder: Path):
    import numpy as np

    return np.load(folder / "queries.npy"), np.load(folder / "gallery.npy")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_WORK = {
    "make": _make,
    "ours": _search_ours,
    "faiss": _search_faiss,
    "numpy": _search_numpy,
    "rank": _rank,
}


if __name__ == "__main__":
    main()
