"""A dozen photographs of a user: they train, and their faults are named."""

import numpy as np
import pytest
from PIL import Image

# The embedder alone: photographs matter to the data only.
SMALL = [
    "--config.mode=contrastive",
    "--config.data.aerial_size=(32, 32)",
    "--config.data.ground_size=(16, 64)",
    "--config.train.num_steps=1",
    "--config.train.batch_size=16",
    "--config.train.adversarial_batch_size=8",
    "--config.train.contrastive_warmup_steps=0",
    "--config.embedder.saig.width=8",
    "--config.embedder.saig.depth=1",
    "--config.embedder.saig.stem_features=(8, 8, 8, 8)",
]


@pytest.fixture
def photographs(tmp_path):
    """Twelve pairs of JPEG and PNG files of various sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    for view, (height, width) in {"aerial": (90, 90), "ground": (60, 240)}.items():
        (folder / view).mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(0, 256, (height + index, width + index, 3), np.uint8)
            suffix = "jpg" if index % 2 else "png"
            Image.fromarray(pixels).save(folder / view / f"place_{index:02d}.{suffix}")
    return folder


def test_a_dozen_pairs_train(photographs, tmp_path, run_command):
    result = run_command(
        "train",
        "--config=image_pairs",
        f"--config.data.raw_dir={photographs}",
        f"--workdir={tmp_path / 'run'}",
        f"--data_dir={tmp_path / 'data'}",
        *SMALL,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()


def test_a_bad_photograph_is_named_and_stops_the_build(photographs, tmp_path, run_command):
    (photographs / "ground" / "place_03.jpg").write_bytes(b"not an image")
    result = run_command(
        "train",
        "--config=image_pairs",
        f"--config.data.raw_dir={photographs}",
        f"--workdir={tmp_path / 'run'}",
        f"--data_dir={tmp_path / 'data'}",
        *SMALL,
    )
    assert result.returncode == 1
    assert "place_03.jpg" in result.stderr
    assert "Traceback" not in result.stderr
