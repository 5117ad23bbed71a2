"""Parity, speed and a short training on one NVIDIA GPU in a few minutes, in one command.

    retroguide data build procedural_city --config_name=city_256  # beforehand: takes CPU
    pip install -e '.[cuda13,torch]'
    python benchmarks/gpu.py --minutes=8 --out=gpu [--data_dir=DIR] [--config=city_256]

Parts, in this order:
  machine   versions, the device, bfloat16 FLOP/s of a large product, bytes/s of a large copy
  parity    two training steps compared with the PyTorch twin, in float32 and float64 (parity.py)
  eager     step, inference, embedding and peak memory compared with the plain twin (step.py)
  compiled  the same compared with the twin under torch.compile
  train     the config from scratch for the remaining minutes; pictures in OUT/run/samples
  evaluate  scores of that model on the test split

Each part is a process of its own, which is terminated when its share of the minutes is over. After
each part, OUT/gpu.json has its output, exit status and seconds; the output of a part that was
terminated is kept. Without a GPU everything runs on the CPU, which is useful only for tests.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HERE = Path(__file__).parent
# In a run of minutes, the config's own first stages would take most of the time.
SHORT_RUN = [
    "--config.train.contrastive_warmup_steps=300",
    "--config.train.structure_steps=200",
    "--config.train.sample_every=250",
    "--config.train.checkpoint_every=500",
    "--config.eval.every=1000",
]
_GRACE = 30.0  # seconds for saving a checkpoint after the signal to stop


class Part(NamedTuple):
    """A command and its deadline, as a share of all minutes."""

    name: str
    command: list[str]
    until: float
    env: dict[str, str] = {}


def main() -> int:
    """Runs the parts; returns 0 if all of them succeeded, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder for all results")
    parser.add_argument("--config", default="city_256", help="as of `retroguide train`")
    parser.add_argument("--data_dir", help="where the data set was built")
    parser.add_argument(
        "--works", default="step,generate 1,generate 32,embed 32", help="of step.py"
    )
    parser.add_argument("--parts", help="comma-separated, to run some only")
    parser.add_argument("--measure_machine", action="store_true", help=argparse.SUPPRESS)
    args, overrides = parser.parse_known_args()
    if args.measure_machine:
        print(json.dumps(measure_machine(), indent=2))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = args.parts.split(",") if args.parts else None
    parts = [part for part in list_parts(args, overrides) if not wanted or part.name in wanted]
    results = run_parts(parts, 60 * args.minutes, args.out / "gpu.json")
    return 0 if all(result["status"] == 0 for result in results.values()) else 1


def list_parts(args: argparse.Namespace, overrides: list[str]) -> Iterator[Part]:
    """The parts in order; see the module's docstring."""
    python, config = sys.executable, [f"--config={args.config}", *overrides]
    data = [f"--data_dir={args.data_dir}"] if args.data_dir else []
    cache = {"JAX_COMPILATION_CACHE_DIR": str(args.out.resolve() / "compiled")}
    yield Part("machine", [python, str(_HERE / "gpu.py"), "--measure_machine"], 0.1)
    # parity.py uses the CPU by default; rounding to TF32 would hide a difference.
    exact = {"JAX_PLATFORMS": "", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    parity = ["--sections=", "--steps=tiny", "--num_steps=2", f"--json={args.out / 'parity.json'}"]
    yield Part("parity", [python, str(_HERE / "parity.py"), *parity], 0.2, exact)
    for twin, until in (("eager", 0.4), ("compiled", 0.6)):
        works = [f"--works={args.works}", f"--twins={twin}", f"--json={args.out / twin}.json"]
        yield Part(twin, [python, str(_HERE / "step.py"), *config, *works], until, cache)
    retroguide = [python, "-m", "retroguide_jax"]
    workdir = f"--workdir={args.out / 'run'}"
    yield Part("train", [*retroguide, "train", *SHORT_RUN, *config, workdir, *data], 0.9, cache)
    scored = ["evaluate", workdir, *data, "--max_examples=256", "--num_noises=1"]
    yield Part("evaluate", [*retroguide, *scored], 1.0, cache)


def run_parts(parts: list[Part], seconds: float, path: Path) -> dict[str, dict]:
    """Runs each part until its deadline; writes the results after each.

    Returns:
      {name: {command, status, ended_by_time, seconds, printed}}.
    """
    start, results = time.monotonic(), {}
    for part in parts:
        limit = start + part.until * seconds - time.monotonic()
        print(f"== {part.name}: {' '.join(part.command)}", flush=True)
        results[part.name] = run_part(part, max(limit, 1.0))
        path.write_text(json.dumps(results, indent=2) + "\n")
    return results


def run_part(part: Part, limit: float) -> dict:
    """Runs one part for at most `limit` seconds plus a grace period; shows what it prints."""
    start, ended_by_time = time.monotonic(), False
    process = subprocess.Popen(
        part.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | part.env,
        start_new_session=True,  # a process group, so that its child processes can be killed too
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        ended_by_time = True
        process.terminate()
        try:
            printed, _ = process.communicate(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
    print(printed, flush=True)
    return {
        "command": part.command,
        # Training is meant to be stopped by the deadline, so that is a success.
        "status": 0 if ended_by_time and part.name == "train" else process.returncode,
        "ended_by_time": ended_by_time,
        "seconds": round(time.monotonic() - start, 1),
        "printed": printed.splitlines(),
    }


def measure_machine() -> dict:
    """Versions, the device, its memory, and its measured FLOP/s and bytes/s."""
    import jax
    import jax.numpy as jnp

    from retroguide_jax.provenance import describe_machine

    (device, *_) = jax.devices()
    size = 8192 if device.platform == "gpu" else 256
    square = jnp.ones((size, size), jnp.bfloat16)
    product = _time(jax.jit(lambda x: x @ x), square)
    copy = _time(jax.jit(lambda x: -x), square)
    stats = device.memory_stats() or {}
    return describe_machine() | {
        "memory_limit_bytes": stats.get("bytes_limit"),
        "bfloat16_tflops": 2 * size**3 / product / 1e12,
        "memory_gb_per_second": 2 * square.nbytes / copy / 1e9,
    }


def _time(fn, x, num: int = 20) -> float:
    """Mean seconds per call over `num` calls, after one that compiles."""
    import jax

    jax.block_until_ready(fn(x))
    start = time.perf_counter()
    for _ in range(num):
        out = fn(x)
    jax.block_until_ready(out)
    return (time.perf_counter() - start) / num


if __name__ == "__main__":
    sys.exit(main())
