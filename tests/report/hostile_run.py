"""A run on photographs whose names are HTML."""

import json

import numpy as np
from PIL import Image
from random_model import save_run
from tiny import make_tiny_config

from retroguide_jax.config import config_to_json

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
HOSTILE_RUN = 'a "b" <i>'
NUM_TEST = 20
NUM_NOISES = 2


def make_config(raw_dir="", **fields):
    """The smallest networks on a folder of pairs."""
    data = {"data.name": "image_pairs", "data.config_name": "", "data.raw_dir": str(raw_dir)}
    splits = {"data.train_split": "train", "data.val_split": "val"}
    return make_tiny_config(**data, **splits, **fields)


def write_photographs(folder):
    """Noise as pairs with a manifest, whose test ids are HTML."""
    rng = np.random.default_rng(0)
    lines = ["aerial,ground,split,id,lat,lon"]
    folder.mkdir(parents=True)
    for number in range(NUM_TEST + 4):
        for view, size in (("a", (16, 16)), ("g", (8, 32))):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{view}{number}.png")
        split = "test" if number < NUM_TEST else ("train", "val")[number % 2]
        place = f"{split},{number} {HOSTILE},{48 + number / 100},{11 - number / 100}"
        lines.append(f"a{number}.png,g{number}.png,{place}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def write_run(workdir, config):
    """The files of a training: config, checkpoint with random weights, metrics with a skip."""
    save_run(workdir, config)
    (workdir / "config.json").write_text(config_to_json(config))
    rows = [
        {
            "step": step,
            "contrastive/loss": 4.0 / step,
            "contrastive/grad": 1.0,
            "g/l1": float("nan") if step == 3 else 1.0,
            "skipped/total": float(step > 2),
            "val/psnr": 10.0 + step,
        }
        for step in (1, 2, 3, 4)
    ]
    start = {"time": "2026-01-01T00:00:00Z", "step": 2, "command": f"train {HOSTILE}"}
    start |= {"machine": {"commit": HOSTILE}}
    (workdir / "starts.jsonl").write_text(f"{json.dumps(start)}\n[]\n")
    lines = [json.dumps(row) for row in rows]
    (workdir / "metrics.jsonl").write_text("\n".join([*lines, "{half a line", ""]))
