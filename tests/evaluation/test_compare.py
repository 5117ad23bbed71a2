import json

import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import results
from retroguide_jax.evaluation.compare import PER_IMAGE_DIR, compare

NUM = 200


PROTOCOL = {
    "examples": {"ids": "i", "num": NUM, "resize": "as stored"},
    "images": "uint8",
    "metrics": {"psnr": "on [0, 1]", "rmse": "on 0..255", "retrieval": "R@k"},
    "judges": {"j": {"step": 1, "weights": "w"}},
    "networks": {"net": {"fingerprint": "f", "protocol": "p"}},
    "seed": 0,
    "num_noises": 2,
    "formats": {"generated": "PNG", "reference": "PNG"},
}


def write(path, *, shift=0.0, seed=0, ids=None, protocol=PROTOCOL, real="r", **more):
    rng = np.random.default_rng(seed)
    images = np.random.default_rng(9).normal(15, 4, NUM)  # images vary far more than methods do
    columns = {
        "id": np.array(ids or [f"i{k}" for k in range(NUM)]),
        "psnr": images[:, None] + shift + rng.normal(0, 0.3, (NUM, 2)),
        "rmse": 80 - images - shift + rng.normal(0, 0.3, NUM),
        "rank_generated/j": np.where(np.arange(NUM) % 2, 1.0, 3.0)[:, None],
        **more,
    }
    results.write_per_image(path, columns, {"protocol": protocol, "real_images": real})
    return path


def test_pairs_show_what_means_would_hide(tmp_path):
    a, b = write(tmp_path / "a.csv", shift=0.2), write(tmp_path / "b.csv", seed=1)
    text, report = compare(a, b)
    psnr, rmse = report["metrics"]["psnr"], report["metrics"]["rmse"]
    assert psnr["low"] > 0 and psnr["verdict"] == rmse["verdict"] == "A is better"
    assert psnr["low"] < psnr["difference"] < psnr["high"] and rmse["high"] < 0
    np.testing.assert_allclose(psnr["a"] - psnr["b"], psnr["difference"])
    assert psnr["n"] == NUM
    recall = report["metrics"]["r@1_generated/j"]
    assert (recall["a"], recall["difference"], recall["verdict"]) == (0.5, 0, "no difference shown")
    np.testing.assert_allclose(report["metrics"]["mrr_generated/j"]["a"], (1 + 1 / 3) / 2)
    assert "A is better" in text
    assert compare(b, a)[1]["metrics"]["psnr"]["verdict"] == "B is better"


def test_ratios_only_differ(tmp_path):
    a = write(tmp_path / "a.csv", sharpness_ratio=np.full(NUM, 1.2))
    b = write(tmp_path / "b.csv", sharpness_ratio=np.full(NUM, 1.0))
    assert compare(a, b)[1]["metrics"]["sharpness_ratio"]["verdict"] == "differ"


def test_the_order_of_lines_does_not_matter(tmp_path):
    a = write(tmp_path / "a.csv")
    lines = a.read_text().splitlines(keepends=True)
    b = tmp_path / "b.csv"
    b.write_text("".join(lines[:1] + lines[:0:-1]))
    assert compare(a, b)[1]["metrics"]["psnr"]["difference"] == 0


def test_work_directories_stand_for_their_newest_file(tmp_path):
    for name, shift in (("a", 1.0), ("b", 0.0)):
        write(tmp_path / name / PER_IMAGE_DIR / "step_1.csv", shift=shift)
    assert compare(tmp_path / "a", tmp_path / "b")[1]["a"].endswith("step_1.csv")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="holds no per-image file"):
        compare(tmp_path / "a", tmp_path / "c")


def test_scores_that_are_not_defined_are_left_out(tmp_path):
    holes = np.arange(NUM, dtype=float)
    a = write(tmp_path / "a.csv", sd_lua=np.where(holes < 3, np.nan, holes))
    b = write(tmp_path / "b.csv", sd_lua=np.where(holes > NUM - 3, np.inf, holes))
    assert compare(a, b)[1]["metrics"]["sd_lua"]["n"] == NUM - 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a per-image file"),
        ("id,psnr\na,1\na,2\n", "one twice"),
        ("id,psnr\na,many\n", "not a per-image file"),
        ("name,psnr\na,1\n", "not a per-image file"),
        ("id,psnr\n", "holds no image"),
        ("id,psnr\na,1,2\n", "not a per-image file"),
        ("id,psnr\na\n", "not a per-image file"),
        ("id,psnr\na,1\n", "do not hold the same images"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    other = tmp_path / "other.csv"
    other.write_text(content)
    with pytest.raises(UserError, match=message):
        compare(write(tmp_path / "a.csv"), other)


def test_no_metric_in_common(tmp_path):
    ids = [f"i{k}" for k in range(NUM)]
    other = tmp_path / "b.csv"
    row = {"protocol": PROTOCOL, "real_images": "r"}
    results.write_per_image(other, {"id": np.array(ids), "fog": np.zeros(NUM)}, row)
    with pytest.raises(UserError, match="no metric in common"):
        compare(write(tmp_path / "a.csv"), other)


def change(place, value):
    """PROTOCOL with one value changed, named by its path such as "examples.resize"."""
    changed = json.loads(json.dumps(PROTOCOL))
    inner = changed
    *above, last = place.split(".")
    for key in above:
        inner = inner[key]
    inner[last] = value
    return changed


@pytest.mark.parametrize(
    "place, value",
    [
        ("examples.resize", "resized to 32x128 by Pillow's nearest, on uint8"),
        ("images", "float"),
        ("metrics.psnr", "on 0..128"),
        ("judges.j.weights", "v"),
        ("judges.j.step", 2),
        ("networks.net.fingerprint", "g"),
    ],
)
def test_two_protocols_are_not_compared(tmp_path, place, value):
    """The error names the fields that differ, with both values."""
    a = write(tmp_path / "a.csv")
    b = write(tmp_path / "b.csv", protocol=change(place, value))
    with pytest.raises(UserError, match="were measured differently") as caught:
        compare(a, b)
    assert f"{place}: " in str(caught.value) and f"against {value}" in str(caught.value)


def test_other_real_images_under_equal_names_are_not_compared(tmp_path):
    a, b = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", real="s")
    with pytest.raises(UserError, match="real_images: r against s"):
        compare(a, b)


@pytest.mark.parametrize(
    "place, value, noted",
    [
        ("formats.generated", "JPEG", "formats.generated: PNG against JPEG"),
        ("num_noises", 1, "num_noises: 2 against 1"),
        ("seed", 3, "seed: 0 against 3"),
        ("examples.ids", "elsewhere", ""),
        ("metrics.fid", "only B has it", ""),
        ("networks.other", {"fingerprint": "g"}, ""),
    ],
)
def test_what_leaves_both_comparable_is_noted(tmp_path, place, value, noted):
    a = write(tmp_path / "a.csv")
    b = write(tmp_path / "b.csv", protocol=change(place, value))
    text, report = compare(a, b)
    assert report["notes"] == ([f"A and B differ in {noted}"] if noted else [])
    assert (f"note: A and B differ in {noted}" in text) == bool(noted)


def test_files_of_an_earlier_version_are_noted(tmp_path):
    a, b = write(tmp_path / "a.csv"), tmp_path / "b.csv"
    rows = [line.split(",")[:2] for line in a.read_text().splitlines()]
    b.write_text("".join(",".join(row) + "\n" for row in rows))
    (note,) = compare(a, b)[1]["notes"]
    assert note.startswith(f"no protocol in {b}")
