"""A stated heading is applied: the networks see north in the panorama's centre column."""

import numpy as np
import pytest
from pair_files import make_data_config
from PIL import Image
from retroguide_jax.datasets.common import report

from retroguide_jax.data import catalog, pipeline

RNG = np.random.default_rng(0)
SIZE, WIDTH = 48, 64
RED = (255, 0, 0)


def write_marked_pair(root, number, bearing, heading):
    """A pair with a red mark at `bearing`, whose panorama's centre column looks at `heading`."""
    aerial, ground = np.full((SIZE, SIZE, 3), 60, np.uint8), np.full((16, WIDTH, 3), 60, np.uint8)
    # Every file differs: equal ones would count as one place.
    aerial[0, 0], ground[0, 0] = number, number
    angle = np.radians(bearing)
    y, x = int(SIZE / 2 - 16 * np.cos(angle)), int(SIZE / 2 + 16 * np.sin(angle))
    aerial[y - 2 : y + 3, x - 2 : x + 3] = RED
    column = int(WIDTH / 2 + (bearing - heading) / 360 * WIDTH)
    ground[6:10, np.arange(column - 1, column + 2) % WIDTH] = RED
    for view, pixels in (("a", aerial), ("g", ground)):
        (root / view).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / view / f"{number:02d}.png")


def write_marked_pairs(root, headings, column="heading", cell=str):
    rows = [f"aerial,ground,split,{column}"]
    for number, heading in enumerate(headings):
        write_marked_pair(root, number, float(RNG.uniform(0, 360)), heading)
        rows.append(f"a/{number:02d}.png,g/{number:02d}.png,train,{cell(heading)}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def make_config(root, **fields):
    return make_data_config(root, aerial_size=(SIZE, SIZE), ground_size=(16, WIDTH), **fields)


def find_red(image):
    return np.nonzero((image[..., 0] > 200) & (image[..., 1] < 100))


def measure_offsets(batch):
    """Degrees between the mark in each panorama and the mark in its aerial."""
    for aerial, ground in zip(batch["aerial"], batch["ground"], strict=True):
        ys, xs = find_red(aerial)
        seen_above = np.arctan2(xs.mean() - SIZE / 2 + 0.5, SIZE / 2 - 0.5 - ys.mean())
        columns = (find_red(ground)[1] + 0.5) / WIDTH * 2 * np.pi
        seen_around = np.angle(np.exp(1j * columns).mean()) - np.pi
        yield np.degrees(np.angle(np.exp(1j * (seen_above - seen_around))))


@pytest.mark.parametrize(
    "headings", [[0.0] * 12, [90.0] * 12, [-30.0] * 12, list(np.linspace(0, 700, 12))]
)
def test_panoramas_agree_with_aerials_whatever_the_heading(headings, tmp_path):
    data_config = make_config(write_marked_pairs(tmp_path / "raw", headings))
    builder = catalog.open_dataset(data_config, tmp_path / "built")
    batches = pipeline.make_train_iterator(builder, data_config, batch_size=12, seed=0)
    offsets = [offset for _ in range(4) for offset in measure_offsets(next(batches))]
    assert len(offsets) == 48 and np.abs(offsets).max() < 15  # two columns, or four pixels
    example = next(iter(builder.as_data_source("train")))
    assert example["heading"] == 0


def check(root, **fields):
    builder_class = catalog.load_builder_class("image_pairs")
    found = report.make_report(
        builder_class, make_config(root, **fields), full=False, num_workers=1
    )
    return "\n".join(found["notes"])


def test_check_warns_of_headings_that_contradict(tmp_path):
    root = write_marked_pairs(
        tmp_path / "some", [90.0, 30.0, 0.0, 120.0], cell=lambda heading: heading or ""
    )
    assert "1 of 4 rows have no heading, such as row 4" in check(root)
    assert "not turned" not in check(root) and "radians" not in check(root)
    assert "images are not turned by them" in check(root, panorama=False)
    root = write_marked_pairs(tmp_path / "radians", [1.5, 3.0, 0.2, 6.1])
    assert "are they radians?" in check(root)
    root = write_marked_pairs(tmp_path / "none", [0.0] * 4)
    notes = check(root)
    assert "no heading" not in notes and "headings" not in notes.replace(str(tmp_path), "")


@pytest.mark.parametrize("column", ["yaw", "Bearing", "azimuth_deg", "north angle"])
def test_check_names_columns_that_may_be_a_heading(column, tmp_path):
    root = write_marked_pairs(tmp_path / "raw", [90.0] * 4, column=column)
    assert f"column {column!r} is not read" in check(root)


XMP = (
    '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:PoseHeading{}/>'
)


@pytest.mark.parametrize("form", ['Degrees="137.5"', "Degrees>137.5</GPano:PoseHeadingDegrees"])
def test_check_compares_with_the_heading_in_metadata(form, tmp_path):
    root = write_marked_pairs(tmp_path / "raw", [0.0] * 3)
    for number in range(3):
        noise = RNG.integers(0, 256, (16, WIDTH, 3), dtype=np.uint8)
        path = root / "g" / f"{number:02d}.png"
        Image.fromarray(noise).save(path, "JPEG", xmp=XMP.format(form).encode())
    assert "3 of 3 panoramas state another heading" in check(root)
    assert "137.5 degrees, 0 are used" in check(root)
    text = (root / "manifest.csv").read_text().replace(",0.0\n", ",137\n")
    (root / "manifest.csv").write_text(text)
    assert "state another heading" not in check(root)
