import json
import types

import numpy as np
import pytest

from retroguide_jax.data.images import to_float, to_uint8
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import job

NUM_TEST, NUM_TRAIN = 23, 40
SIZE = (16, 16)
DATA_CONFIG = types.SimpleNamespace(train_split="train", aerial_size=SIZE, ground_size=SIZE)
DATA_CONFIG = type("Data", (dict,), {"__getattr__": dict.__getitem__})(vars(DATA_CONFIG))


def make_images(split):
    """A hidden place is a 16x16 pattern; the ground shows it, the aerial shows it transposed."""
    num, seed = {"train": (NUM_TRAIN, 1), "test": (NUM_TEST, 2)}[split]
    return np.random.default_rng(seed).integers(30, 225, (num, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """A data set in memory with the pipeline's interface; `with_sky` switches the masks."""
    settings = types.SimpleNamespace(with_sky=True, pairs_per_tile=1)

    def iterate_batches(builder, data_config, split, *, batch_size):
        images = make_images(split)
        for first in range(0, len(images), batch_size):
            positions = np.arange(first, first + batch_size)
            index = np.minimum(positions, len(images) - 1)
            ground = to_float(images[index])
            batch = {
                "aerial": ground.swapaxes(1, 2),
                "ground": ground,
                "mask": positions < len(images),
                "index": index,
                "aerial_id": np.array([f"place {i // settings.pairs_per_tile}" for i in index]),
            }
            if settings.with_sky:
                batch["sky_mask"] = np.zeros((batch_size, *SIZE), bool)
                batch["sky_mask"][:, :5] = True
            yield batch

    monkeypatch.setattr(job, "iterate_batches", iterate_batches)
    monkeypatch.setattr(job, "num_examples", lambda builder, split: len(make_images(split)))
    return settings


class FakeModel:
    """Embeds by projecting the place; generates the true target plus brightness noise."""

    config = types.SimpleNamespace(data=DATA_CONFIG)
    step = 7
    z_dim = 4

    def __init__(self, seed=0, views=("aerial", "ground"), noise=0.2, has_generator=True):
        self.source_view, self.target_view = views
        self.has_generator = has_generator
        self._noise = noise
        self._projection = np.random.default_rng(seed).normal(size=(16 * 16 * 3, 12))
        self.batch_sizes = set()

    def embed(self, images, view):
        self.batch_sizes.add(len(images))
        place = images.swapaxes(1, 2) if view == "aerial" else images
        place = place - place.mean(axis=(1, 2, 3), keepdims=True)
        rows = place.reshape(len(images), -1) @ self._projection
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def generate(self, source, z):
        self.batch_sizes.add(len(source))
        return np.clip(source.swapaxes(1, 2) + self._noise * z[:, :1, None, None], -1, 1)


class ConstantModel(FakeModel):
    """Ignores what it sees."""

    def embed(self, images, view):
        return np.full((len(images), 4), 0.5, np.float32)

    def generate(self, source, z):
        return np.zeros_like(source)


def evaluate(model, judges=None, **kwargs):
    kwargs = {"batch_size": 8} | kwargs
    return job.evaluate(model, judges or {}, None, DATA_CONFIG, "test", **kwargs)


def get_values(row):
    return {name: metric["value"] for name, metric in row["metrics"].items()}


def test_a_shared_tile_stands_in_the_gallery_once():
    ids = np.array(["b", "a", "b", "c", "b"])
    shown, places = job.find_matches(ids, "aerial")
    assert sorted(ids[shown]) == ["a", "b", "c"]
    assert (ids[shown][places[:, 0]] == ids).all() and places.shape == (5, 1)
    shown, places = job.find_matches(ids, "ground")
    np.testing.assert_array_equal(shown, np.arange(5))
    assert [sorted(row[row >= 0].tolist()) for row in places] == [
        [0, 2, 4], [1], [0, 2, 4], [3], [0, 2, 4],
    ]  # fmt: skip
    assert (places[:, 0] >= 0).all()


@pytest.mark.parametrize("views", [("aerial", "ground"), ("ground", "aerial")])
def test_pairs_that_share_a_tile_are_all_right(data, views):
    data.pairs_per_tile = NUM_TEST  # one tile in all: whatever is found is right
    values = get_values(evaluate(FakeModel(views=views)))
    assert values["r@1_real/embedder"] == values["r@1_shuffled/embedder"] == 1


def test_good_model_passes_its_floors():
    row = evaluate(FakeModel(), {"judge": FakeModel(seed=5)})
    values = get_values(row)
    assert (row["step"], row["split"], row["direction"]) == (7, "test", "a2g")
    for judge in ("embedder", "judge"):
        assert values[f"r@1_real/{judge}"] == 1
        assert values[f"r@1_generated/{judge}"] > 0.9
        assert values[f"r@1_shuffled/{judge}"] < 0.1
        assert values[f"r@1_shuffled/{judge}"] <= values[f"r@10_shuffled/{judge}"]
    assert values["psnr"] > values["psnr_mean_image"] > values["psnr_shuffled"]
    assert values["ssim_rgb"] > 0.9 > values["ssim_rgb_mean_image"]
    assert 0.9 < values["sharpness_ratio"] <= 1.0
    assert 0.05 < values["diversity"] < 0.3
    assert row["absent"] == []
    assert {metric["n"] for metric in row["metrics"].values()} == {NUM_TEST}
    assert row["ties"]["real/judge"] == 0
    json.dumps(row, allow_nan=False)


def test_metric_names_are_the_documented_ones():
    names = set(evaluate(FakeModel(), {"j": FakeModel(seed=5)})["metrics"])
    recalls = {
        f"r@{k}_{kind}/{judge}"
        for k in (1, 5, 10)
        for kind in ("real", "generated", "shuffled")
        for judge in ("embedder", "j")
    }
    pairs = {m + s for m in ("psnr", "ssim_rgb") for s in ("", "_shuffled", "_mean_image")}
    assert names == recalls | pairs | {"sharpness_ratio", "sky_spread_ratio", "diversity"}


def test_scores_agree_with_a_direct_computation():
    model = FakeModel()
    values = get_values(evaluate(model, num_noises=2, seed=3))
    target = make_images("test")
    source = to_float(target).swapaxes(1, 2)
    noise = job.draw_noise(3, np.arange(NUM_TEST), 2, 4)
    samples = [to_uint8(model.generate(source, z)).astype(np.float64) / 255 for z in noise]
    error = np.mean((samples[0] - target / 255) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(values["psnr"], np.mean(-10 * np.log10(error)), rtol=1e-5)
    distance = np.sqrt(np.mean((samples[0] - samples[1]) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(values["diversity"], np.mean(distance), rtol=1e-5)
    mean = to_uint8(to_float(make_images("train")).mean(axis=0)) / 255
    error = np.mean((mean - target / 255) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(values["psnr_mean_image"], np.mean(-10 * np.log10(error)), rtol=1e-5)


def test_result_does_not_depend_on_batch_size():
    rows = [evaluate(FakeModel(), batch_size=size) for size in (1, 8, NUM_TEST, 64)]
    for row in rows[1:]:
        assert row["metrics"].keys() == rows[0]["metrics"].keys()
        for name, value in get_values(row).items():
            np.testing.assert_allclose(value, get_values(rows[0])[name], rtol=1e-6, err_msg=name)


def test_every_batch_has_the_same_size():
    model = FakeModel()
    evaluate(model, batch_size=8)
    assert model.batch_sizes == {8}


def test_seed_decides():
    first, again, other = (get_values(evaluate(FakeModel(), seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["diversity"] != other["diversity"]


def test_noise_belongs_to_the_example():
    noise = job.draw_noise(5, np.array([4, 0, 9]), 3, 6)
    assert noise.shape == (3, 3, 6) and noise.dtype == np.float32
    np.testing.assert_array_equal(job.draw_noise(5, np.array([9, 4]), 2, 6), noise[:2, [2, 0]])
    assert len(np.unique(noise)) == noise.size
    assert abs(job.draw_noise(0, np.arange(500), 2, 8).std() - 1) < 0.05


def test_constant_model_scores_chance():
    row = evaluate(ConstantModel())
    values = get_values(row)
    assert {value for name, value in values.items() if name.startswith("r@")} == {0.0}
    assert row["ties"]["real/embedder"] == NUM_TEST
    assert values["psnr"] == values["psnr_shuffled"]
    assert values["diversity"] == values["sky_spread_ratio"] == values["sharpness_ratio"] == 0


def test_perfect_images_have_no_finite_psnr():
    row = evaluate(FakeModel(noise=0.0))
    absent = {entry["name"]: entry["reason"] for entry in row["absent"]}
    assert "23 of 23 images equal" in absent["psnr"]
    values = get_values(row)
    assert "psnr" not in values
    np.testing.assert_allclose([values["ssim_rgb"], values["sharpness_ratio"]], 1, rtol=1e-5)
    assert values["r@1_generated/embedder"] == 1


def test_other_direction_has_no_sky():
    row = evaluate(FakeModel(views=("ground", "aerial")))
    assert row["direction"] == "g2a"
    assert [entry["name"] for entry in row["absent"]] == ["sky_spread_ratio"]


def test_data_set_without_sky_masks(data):
    data.with_sky = False
    row = evaluate(FakeModel())
    assert "sky masks" in row["absent"][0]["reason"]
    assert "sky_spread_ratio" not in row["metrics"]


def test_one_noise_gives_no_spread():
    row = evaluate(FakeModel(), num_noises=1)
    assert {entry["name"] for entry in row["absent"]} == {"diversity", "sky_spread_ratio"}


def test_model_without_generator_gives_real_recall_only():
    row = evaluate(FakeModel(has_generator=False), {"judge": FakeModel(seed=5)})
    assert len(row["metrics"]) == 6
    assert all("_real/" in name for name in row["metrics"])
    assert row["absent"]


def test_max_examples_and_progress():
    seen = []
    row = evaluate(FakeModel(), max_examples=10, progress_fn=lambda *args: seen.append(args))
    assert {metric["n"] for metric in row["metrics"].values()} == {10}
    assert seen == [(8, 10), (10, 10)]


def test_derangement_has_no_fixed_point():
    for num in (2, 3, 50):
        other = job._draw_derangement(num, 0)
        assert sorted(other) == list(range(num))
        assert not np.any(other == np.arange(num))


def test_copy_of_the_own_embedder_is_no_judge():
    with pytest.raises(UserError, match="own embedder"):
        evaluate(FakeModel(), {"judge": FakeModel()})


def test_judge_of_another_size_is_refused():
    judge = FakeModel(seed=5)
    judge.config = types.SimpleNamespace(data={"aerial_size": (8, 8), "ground_size": SIZE})
    with pytest.raises(UserError, match="aerial_size"):
        evaluate(FakeModel(), {"judge": judge})


def test_images_that_are_not_finite_are_an_error():
    model = FakeModel()
    model.generate = lambda source, z: np.full_like(source, np.nan)
    with pytest.raises(UserError, match="not finite"):
        evaluate(model)


def test_too_few_examples_are_an_error():
    with pytest.raises(UserError, match="at least 2"):
        evaluate(FakeModel(), max_examples=1)
