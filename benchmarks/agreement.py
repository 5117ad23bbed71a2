"""Compares our metrics with the field's own tools, on the same images in the same run.

    pip install scikit-image torchmetrics pytorch-fid torch-fidelity clean-fid lpips
    python benchmarks/agreement.py [--num_images=32] [--json=FILE]
    python benchmarks/agreement.py --generated=DIR --reference=DIR [--weights=DIR]

Each line gives the mean by ours and by the other, the largest absolute difference, and the largest
relative one (of features: the length of the difference over that of the image's row). Tools that
are not installed are left out and named. LPIPS is of the first eight pairs. Inception and LPIPS use
the user's weights where these are available, else the same random ones on both sides; the last
lines say which.

A tool that follows another protocol by default gets two lines: one "as it is" and one under the
same protocol. KID takes all images as one subset, as ours does, and torchmetrics' Inception Score
one split, since it splits at random. Without folders: panoramas of procedural_city, 128 x 512, and
blurred and compressed copies of them. Results: docs/agreement.md.
"""

import argparse
import json
import warnings
from pathlib import Path

from field import inputs, networks, pixels, tools
from field.lines import Subject

SECTIONS = (
    ("numpy", pixels.compare_golden),
    ("numpy", pixels.compare_formulas),
    ("scipy", networks.compare_scipy),
    ("scikit-image", pixels.compare_skimage),
    ("torchmetrics", pixels.compare_torchmetrics),
    ("clean-fid", networks.compare_clean_fid),
    ("pytorch-fid", networks.compare_pytorch_fid),
    ("torch-fidelity", networks.compare_torch_fidelity),
    ("lpips", networks.compare_lpips),
    ("torchmetrics", networks.compare_torchmetrics),
)


def main() -> None:
    """Compares tool by tool and prints each line as it is ready."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    inputs.add_arguments(parser, num_images=32)
    parser.add_argument("--json", type=Path, help="file to write the table to as well")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")  # warnings of the tools would interrupt the table
    tools.use_all_cores()
    subject = Subject(*inputs.load_images(args), inputs.Weights(args.weights))
    num, height, width, _ = subject.reference.shape
    print(f"{num} pairs of {height} x {width}")
    print(f"{'metric':18} {'against':52} {'ours':>10} {'theirs':>10} absolute relative")
    lines, missing = [], {}
    for tool, compare_fn in SECTIONS:
        if absent := tools.list_missing(tool):
            if tool not in missing:
                print(f"{'':18} {tool}: not installed: {', '.join(absent)}", flush=True)
            missing[tool] = absent
            continue
        for line in compare_fn(subject):
            lines.append(line)
            print(
                f"{line.metric:18} {line.against:52} {line.ours:10.6g} {line.theirs:10.6g} "
                f"{line.absolute:8.1e} {line.relative:8.1e}",
                flush=True,
            )
    origin = subject.weights.origin
    for kind in sorted({*origin.values()}):
        print(f"{kind} weights: {', '.join(name for name in origin if origin[name] == kind)}")
    if args.json:
        table = {
            "images": {"num": num, "height": height, "width": width},
            "weights": origin,
            "not_installed": missing,
            "lines": [line._asdict() for line in lines],
        }
        args.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
