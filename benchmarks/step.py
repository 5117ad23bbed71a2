"""Training step, generation and embedding against the PyTorch twin: time, memory, first step.

    pip install -e '.[torch]'
    python benchmarks/step.py --config=city [--works=step,G,'generate 1'] [--json=F] [--config.F=V]
    python benchmarks/step.py --config=city --first_step

Each side runs in a process of its own: ours, and torch_reference/ plain ("eager") and under
torch.compile ("compiled"), on the GPU if there is one, else on all cores. They take turns, round
by round, so that a busy machine slows all; a ratio, above 1 where ours is faster, is the time of
the faster twin over ours in the same round. In the twin, `--config.dtype=bfloat16` is autocast.

Works: `step` is the full update, over full periods of the lazy penalty; `embedder`, `D`, `G` and
`R1` are the gradients of its phases alone (the twin's `D` has the same inputs); `generate N` and
`embed N` are inference on N images, from host memory back to host memory.

--first_step starts each side twice, with an empty and with a filled compilation cache, and measures
from the start of the process to the end of its first step.

Peak memory is that of the device; on a CPU it is that of the process, including libraries.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from speed.worker import TWINS, Worker

WORKS = ("step", "embedder", "D", "G", "R1", "generate 1", "generate 32", "embed 32")


def main() -> None:
    """Prints each line of the table as it is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="city", help="as of `retroguide train`")
    parser.add_argument("--works", default=",".join(WORKS), help="comma-separated")
    parser.add_argument("--twins", default=",".join(TWINS), help="of eager, compiled; or nothing")
    parser.add_argument("--num_rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a side's turn, about")
    parser.add_argument("--first_step", action="store_true", help="time that instead")
    parser.add_argument("--json", type=Path, help="file for all results")
    args, overrides = parser.parse_known_args()
    wrong = [text for text in overrides if not text.startswith("--config.")]
    if wrong:
        parser.error(f"unknown: {' '.join(wrong)}")
    sides = ["ours", *filter(None, args.twins.split(","))]
    print(f"{args.config} {' '.join(overrides)}: {_describe_machine()}")
    if args.first_step:
        results = _time_first_steps(args.config, overrides, sides)
    else:
        results = _compare(args, overrides, sides)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


def _describe_machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, load {os.getloadavg()[0]:.1f}"


def _compare(args: argparse.Namespace, overrides: list[str], sides: list[str]) -> dict:
    # Waiting threads must not spin, since the other side needs the cores in its turn. JAX must not
    # preallocate the memory of a GPU.
    env = {"OMP_WAIT_POLICY": "PASSIVE", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    results = {}
    with contextlib.ExitStack() as stack:
        workers = {
            side: stack.enter_context(
                contextlib.closing(Worker(side, args.config, overrides, **env))
            )
            for side in sides
        }
        columns = "".join(f"{side + ' ms':>13}" for side in sides)
        print(f"{'':14}{columns}   ratio (min..max)   first run, s")
        for work in args.works.split(","):
            results[work] = _compare_work(work, workers, args.num_rounds, args.seconds)
            _print_work(work, results[work])
            if work == "step":
                peaks = {side: worker.ask("read_peak") for side, worker in workers.items()}
                results["peak_bytes"] = peaks
                print("  peak MiB " + ", ".join(f"{s} {p / 2**20:,.0f}" for s, p in peaks.items()))
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return results


def _compare_work(work: str, workers: dict[str, Worker], num_rounds: int, seconds: float) -> dict:
    """Times a work on all sides in turn; {"first", "seconds": side -> rounds, "ratios"}."""
    first = {side: worker.ask("prepare", work) for side, worker in workers.items()}
    counts = {side: worker.ask("count_runs", work, seconds) for side, worker in workers.items()}
    if work == "step":  # time the same number of steps on all sides
        counts = dict.fromkeys(counts, min(counts.values()))
    times: dict[str, list[float]] = {side: [] for side in workers}
    for number in range(num_rounds):
        order = list(workers) if number % 2 == 0 else list(workers)[::-1]
        for side in order:
            times[side].append(workers[side].ask("time", work, counts[side]))
    best = min(
        (side for side in workers if side != "ours"),
        key=lambda side: statistics.median(times[side]),
        default=None,
    )
    ratios = []
    if best:
        ratios = [other / ours for other, ours in zip(times[best], times["ours"], strict=True)]
    return {"first": first, "seconds": times, "ratios": ratios}


def _print_work(work: str, results: dict) -> None:
    medians = [statistics.median(rounds) for rounds in results["seconds"].values()]
    columns = "".join(f"{1e3 * seconds:13.1f}" for seconds in medians)
    ratios = results["ratios"]
    spread = f"{min(ratios):.2f}..{max(ratios):.2f}" if ratios else ""
    ratio = f"{statistics.median(ratios):.2f} ({spread})" if ratios else "-"
    first = ", ".join(f"{seconds:.1f}" for seconds in results["first"].values())
    print(f"{work:14}{columns}   {ratio:17}  {first}", flush=True)


def _time_first_steps(config: str, overrides: list[str], sides: list[str]) -> dict:
    """Prints and returns {side: {"cold", "warm"}}, seconds from process start to the first step."""
    results: dict[str, dict[str, float]] = {}
    for side in sides:
        results[side] = {}
        with tempfile.TemporaryDirectory() as cache:
            env = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "TORCHINDUCTOR_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
            }
            for state in ("cold", "warm"):
                with contextlib.closing(Worker(side, config, overrides, **env)) as worker:
                    worker.ask("prepare", "step")
                    results[side][state] = worker.read_age()
        cold, warm = results[side]["cold"], results[side]["warm"]
        print(f"{side:14} first step after {cold:.1f} s, {warm:.1f} s from the cache", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
