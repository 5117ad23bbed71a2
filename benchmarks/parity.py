"""Compares our networks, losses and training steps with their PyTorch twin.

    pip install -e '.[torch]'
    python benchmarks/parity.py [--sections=layers,networks] [--steps=tiny,city] [--num_steps=10]
        [--json=FILE]

Both sides get the same weights, inputs and random numbers on the CPU. The line of a case gives, in
float32 and in float64, max |a - b| / max |a| of its worst output and of its worst gradient, with
respect to any parameter or input; "zero" counts gradients that are zero up to rounding on both
sides. In float64 rounding is too small to hide a difference.

The line of a step gives the worst relative difference of a loss, then the length of the difference
of the parameters over the length of their change in training, for each network and the averages.
"rounding" is a control of the twin alone: float32 against float64 from the same inputs.
Results: docs/parity.md.
"""

import argparse
import json
import os
from pathlib import Path

# Read when jax is first imported; the twin is on the CPU too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from parity_cases import layers, losses, networks, steps, updates
from parity_cases.case import compare

SECTIONS = {"layers": layers, "networks": networks, "losses": losses, "updates": updates}
CONFIGS = {"tiny": networks.make_tiny_config, "city": steps.make_city_config}
DTYPES = ("float32", "float64")


def main() -> None:
    """Compares case by case and prints each line as it is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="of single cases")
    parser.add_argument("--steps", default="tiny", help="sizes of training steps: tiny, city")
    parser.add_argument("--num_steps", type=int, default=10, help="of each size")
    parser.add_argument("--json", type=Path, help="file to write the tables to as well")
    args = parser.parse_args()
    tables = {"cases": [], "steps": []}
    for section in filter(None, args.sections.split(",")):
        tables["cases"] += compare_cases(section)
    for size in filter(None, args.steps.split(",")):
        tables["steps"] += compare_steps(size, args.num_steps)
    if args.json:
        args.json.write_text(json.dumps(tables, indent=2) + "\n")


def compare_cases(section: str) -> list[dict]:
    """Prints a table of the section's cases and returns its lines."""
    print(f"\n| {section} | float32: output | gradient | float64: output | gradient | zero |")
    print("|---|---|---|---|---|---|")
    lines = []
    for case in SECTIONS[section].make_cases():
        found = {
            dtype: compare(case.ours(np.dtype(dtype)), case.theirs(np.dtype(dtype)))
            for dtype in DTYPES
        }
        cells = [
            f"{value:.1e}" if name else ""
            for each in found.values()
            for value, name in (each[:2], each[2:4])
        ]
        zero = len(found["float64"].vanished)
        print(f"| {case.name} | {' | '.join(cells)} | {zero} |", flush=True)
        lines.append({"section": section, "case": case.name})
        lines[-1] |= {dtype: each._asdict() for dtype, each in found.items()}
    return lines


def compare_steps(size: str, num_steps: int) -> list[dict]:
    """Prints tables of steps in both precisions and of rounding alone, and returns their lines."""
    config, lines = CONFIGS[size](), []
    runs = {dtype: steps.compare_steps(config, num_steps, np.dtype(dtype)) for dtype in DTYPES}
    runs["rounding"] = steps.compare_rounding(config, num_steps)
    for kind, run in runs.items():
        print(f"\n| step, {size}, {kind} | losses | E | D | G | averages | free biases |")
        print("|---|---|---|---|---|---|---|")
        for line in run:
            params = (line.params[name] for name in ("embedder", "discriminator", "generator"))
            numbers = (line.metrics, *params, line.average, line.free)
            cells = ["" if np.isnan(number) else f"{number:.1e}" for number in numbers]
            print(f"| {line.step} | {' | '.join(cells)} |", flush=True)
            lines.append({"size": size, "run": kind} | line._asdict())
    return lines


if __name__ == "__main__":
    main()
