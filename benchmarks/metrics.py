"""Speed of the metrics on the CPU, as ratios to the field's own tools.

    pip install scikit-image torchmetrics pytorch-fid torch-fidelity lpips     # else left out
    python benchmarks/metrics.py [--num_images=64] [--num_rows=5000] [--seconds=30]

Both sides go from the same uint8 arrays to scores on the host, 16 images at a time, on all cores.
They take turns, round by round, so that a busy machine slows both; a ratio, above 1 where this
package is faster, is the other's time over ours in the same round. Ours runs as in `retroguide
evaluate`; the excess of its first run over the others is compilation, printed separately. `value`
shows whether both did the same work: torchmetrics' SSIM and Inception follow other protocols, see
agreement.py.

LPIPS is of 16 pairs. "FID statistics" go from --num_rows random rows of 2,048 features per side to
the distance, "whole FID" from --num_images images per side. No contest begins another round after
--seconds, so that slow ones have only one. Images and weights: see agreement.py. Results:
docs/agreement.md.
"""

import argparse
import functools
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from field import inputs, networks, tools
from field.lines import compile_pixels

OURS = "retroguide_jax"
# Name of a distribution -> opens its side of a contest: a function from arrays to scores.
Openers = Mapping[str, Callable[[], Callable[..., object]]]


def main() -> None:
    """Times contest by contest and prints each line as it is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    inputs.add_arguments(parser, num_images=64)
    parser.add_argument("--num_rows", type=int, default=5000, help="of the FID statistics")
    parser.add_argument("--num_rounds", type=int, default=5, help="at most")
    parser.add_argument("--seconds", type=float, default=30, help="after which no round begins")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # warnings of the tools would interrupt the table
    tools.use_all_cores()
    pair, weights = inputs.load_images(args), inputs.Weights(args.weights)
    few = tuple(side[: inputs.NUM_ROWS] for side in pair)
    num, height, width, _ = pair[0].shape
    cores = len(os.sched_getaffinity(0))
    print(f"{num} pairs of {height} x {width}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':18} {'':22} median s    per s  ratio (min..max) rounds  compile s  value")
    run = functools.partial(_run, num_rounds=args.num_rounds, seconds=args.seconds)
    run("ssim_rgb", _SSIM_RGB, pair)
    run("ssim_skimage", _SSIM_SKIMAGE, pair)
    for net in ("alex", "vgg"):
        run(f"lpips_{net}", _list_lpips(net, weights), few)
    inceptions = {tool: functools.cache(fn) for tool, fn in _list_inceptions(weights).items()}
    run("inception features", inceptions, pair[1:])
    run("FID statistics", _DISTANCES, networks.make_rows(args.num_rows, 2048), is_warm=True)
    wholes = {tool: _chain(open_fn, _DISTANCES[tool]) for tool, open_fn in inceptions.items()}
    run("whole FID", wholes, pair, is_warm=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    print("weights: " + ", ".join(f"{name} {kind}" for name, kind in weights.origin.items()))


def _run(
    title: str,
    openers: Openers,
    arrays: Sequence[np.ndarray],
    *,
    num_rounds: int,
    seconds: float,
    is_warm: bool = False,
) -> None:
    """Times the sides of a contest in turn.

    Args:
      openers: ours first.
      arrays: the inputs of each side, [N, ...]; "per s" counts N.
      num_rounds: at most.
      seconds: time after which no further round begins.
      is_warm: whether everything is compiled already.
    """
    sides = {tool: fn() for tool, fn in openers.items() if not tools.list_missing(tool)}
    first = {}
    for tool, fn in sides.items() if not is_warm else ():
        # Two rows are enough to set up the others; ours compiles for the full shape.
        first[tool] = _time(fn, arrays if tool == OURS else [array[:2] for array in arrays])[0]
    rounds, start = [], time.perf_counter()
    while not rounds or (len(rounds) < num_rounds and time.perf_counter() - start < seconds):
        rounds.append({tool: _time(fn, arrays) for tool, fn in sides.items()})
    for tool in openers:
        if absent := tools.list_missing(tool):
            print(f"{title:18} {tool}: not installed: {', '.join(absent)}", flush=True)
            continue
        median = statistics.median(turn[tool][0] for turn in rounds)
        ratios = [turn[tool][0] / turn[OURS][0] for turn in rounds]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        compiling = f"{max(first[tool] - median, 0):.1f}" if tool == OURS and first else ""
        print(
            f"{title:18} {tools.describe(tool):22} {median:8.3f} {len(arrays[0]) / median:8.1f}  "
            f"{ratio:20}{len(rounds):3} {compiling:>10}  {rounds[0][tool][1]:.6g}",
            flush=True,
        )


def _time(fn: Callable[..., object], arrays) -> tuple[float, float]:
    """(seconds, mean of the scores)."""
    start = time.perf_counter()
    values = fn(*arrays)
    return time.perf_counter() - start, float(np.mean(values))


def _chain(open_fn: Callable, distance_fn_opener: Callable) -> Callable:
    def open_both():
        embed_fn, distance_fn = open_fn(), distance_fn_opener()
        return lambda *pair: distance_fn(*map(embed_fn, pair))

    return open_both


def _open_pixels(metric: str) -> Callable:
    run = compile_pixels(metric)
    return lambda *pair: run(*pair)["score"]


def _open_torchmetrics_ssim() -> Callable:
    from torchmetrics.functional.image import structural_similarity_index_measure

    def score(*sides):
        sides = (side.float() for side in sides)
        return structural_similarity_index_measure(*sides, data_range=255.0, reduction="none")

    return lambda *pair: tools.run(score, *map(tools.to_tensor, pair))


def _open_skimage_ssim() -> Callable:
    from skimage.metrics import structural_similarity

    score_fn = functools.partial(structural_similarity, channel_axis=-1)
    return lambda *pair: list(map(score_fn, *pair))


_SSIM_RGB: Openers = {
    OURS: lambda: _open_pixels("ssim_rgb"),
    "torchmetrics": _open_torchmetrics_ssim,
}
_SSIM_SKIMAGE: Openers = {
    OURS: lambda: _open_pixels("ssim_skimage"),
    "scikit-image": _open_skimage_ssim,
}


def _list_lpips(net: str, weights: inputs.Weights) -> Openers:
    def open_ours():
        from retroguide_jax.metric_nets.lpips import make_lpips

        frozen = make_lpips(net, *weights.get_lpips(net))
        run = inputs.compile_rows(frozen.apply, frozen.variables)
        return lambda *pair: run(*pair)["distance"]

    def open_theirs(open_fn: Callable):
        module = open_fn(net, *weights.get_lpips(net))

        def measure(*sides):
            return module(*(side / 127.5 - 1 for side in sides))

        return lambda *pair: tools.run(measure, *map(tools.to_tensor, pair))

    return {
        OURS: open_ours,
        "lpips": lambda: open_theirs(tools.open_lpips),
        "torchmetrics": lambda: open_theirs(tools.open_torchmetrics_lpips),
    }


def _list_inceptions(weights: inputs.Weights) -> Openers:
    def open_ours():
        from retroguide_jax.metric_nets.inception import make_inception

        net = make_inception(weights.get("inception"), "pytorch")
        run = inputs.compile_rows(net.apply, net.variables)
        return lambda images: run(images)["features"]

    def open_pytorch_fid():
        net = tools.open_pytorch_fid(weights.get("inception"))
        return lambda images: tools.run(lambda x: net(x / 255), tools.to_tensor(images))

    def open_torchmetrics():
        net = tools.open_torchmetrics(weights.get("inception"), "2048", antialias=True)
        return lambda images: tools.run(net, tools.to_tensor(images))

    return {
        OURS: open_ours,
        "pytorch-fid": open_pytorch_fid,
        "torchmetrics": open_torchmetrics,
    }


def _open_torchmetrics_distance() -> Callable:
    from torchmetrics.image.fid import FrechetInceptionDistance

    given = tools.make_given(2048)
    return lambda *rows: tools.measure(FrechetInceptionDistance(given), *rows)


_DISTANCES: Openers = {
    OURS: lambda: networks.measure_frechet,
    "pytorch-fid": lambda: networks.measure_by_pytorch_fid,
    "torchmetrics": _open_torchmetrics_distance,
}


if __name__ == "__main__":
    main()
