import json
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from retroguide_jax.data.images import to_float, to_uint8, write_png
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import examples, job
from retroguide_jax.evaluation import nets as nets_lib
from retroguide_jax.evaluation.examples import ModelExamples
from retroguide_jax.evaluation.table import format_table
from retroguide_jax.evaluation.workdir import score_folders
from retroguide_jax.metric_nets.frozen import FrozenNet
from retroguide_jax.noise import draw_noises
from retroguide_jax.weights.files import MissingWeightsError

NUM_TEST, NUM_TRAIN = 23, 40
METRICS = (
    "psnr", "ssim_rgb", "sharpness_ratio", "retrieval", "diversity", "sky_spread_ratio",
)  # fmt: skip
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
    settings = types.SimpleNamespace(with_sky=True, pairs_per_tile=1, with_near=False, changed=None)

    def iterate_batches(builder, data_config, split, *, batch_size, **kwargs):
        images = make_images(split)
        if settings.changed is not None:
            images[settings.changed, 3, 4, 0] ^= 8
        for first in range(0, len(images), batch_size):
            positions = np.arange(first, first + batch_size)
            index = np.minimum(positions, len(images) - 1)
            ground = images[index]
            batch = {
                "aerial": ground.swapaxes(1, 2),
                "ground": ground,
                "mask": positions < len(images),
                "index": index,
                "id": np.array([f"pair {i}" for i in index]),
                "aerial_id": np.array([f"place {i // settings.pairs_per_tile}" for i in index]),
                "semi_positives": np.full(batch_size, ""),
            }
            batch["positives"] = batch["aerial_id"]
            if settings.with_near:  # the tile of the next pair shows this place too
                near = [f"place {(i + 1) % len(images)}" for i in index]
                batch["semi_positives"] = np.array(near)
            if settings.with_sky:
                batch["sky_mask"] = np.zeros((batch_size, *SIZE), bool)
                batch["sky_mask"][:, :5] = True
            yield batch

    monkeypatch.setattr(examples, "iterate_batches", iterate_batches)
    monkeypatch.setattr(examples, "num_examples", lambda builder, split: len(make_images(split)))
    return settings


class FakeModel:
    """Embeds by projecting the place; generates the true target plus brightness noise."""

    config = types.SimpleNamespace(data=DATA_CONFIG)
    step = 7
    z_dim = 4
    variables = {}

    def __init__(self, seed=0, views=("aerial", "ground"), noise=0.1, has_generator=True):
        self.source_view, self.target_view = views
        self.has_generator = has_generator
        self._noise = noise
        self._projection = np.random.default_rng(seed).normal(size=(16 * 16 * 3, 12))
        self.batch_sizes = set()

    def embed(self, images, view):
        self.batch_sizes.add(len(images))
        images = to_float(images) if images.dtype == np.uint8 else images
        place = images.swapaxes(1, 2) if view == "aerial" else images
        place = place - place.mean(axis=(1, 2, 3), keepdims=True)
        rows = place.reshape(len(images), -1) @ self._projection
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def generate(self, source, z):
        self.batch_sizes.add(len(source))
        source = to_float(source) if source.dtype == np.uint8 else source
        # Never so small that an image equals its target.
        brightness = self._noise * (1 + np.abs(z[:, :1, None, None]))
        return np.clip(source.swapaxes(1, 2) + brightness, -1, 1)


class ConstantModel(FakeModel):
    """Ignores its input."""

    def embed(self, images, view):
        return np.full((len(images), 4), 0.5, np.float32)

    def generate(self, source, z):
        return np.zeros(source.shape, np.float32)


def evaluate(model, judges=None, *, metrics=METRICS, rows=2, seed=0, progress_fn=None, **kwargs):
    examples = ModelExamples(
        model, None, DATA_CONFIG, "test", **{"num_noises": 3, "seed": seed} | kwargs
    )
    settings = job.Settings(metrics=metrics, rows_per_device=rows, seed=seed)
    opened = job.Job(settings, {job.EMBEDDER: model, **(judges or {})})
    described = opened.describe({"split": "test"})
    row, per_image = opened.score(examples, described, progress_fn)
    assert json.dumps(row, allow_nan=False)
    return row | {"per_image": per_image}


def get_values(row):
    return {name: metric["value"] for name, metric in row["metrics"].items()}


@pytest.mark.parametrize("views", [("aerial", "ground"), ("ground", "aerial")])
def test_pairs_that_share_a_tile_are_all_right(data, views):
    data.pairs_per_tile = NUM_TEST  # all pairs share one tile: whatever is retrieved is right
    values = get_values(evaluate(FakeModel(views=views)))
    assert values["r@1_real/embedder"] == 1
    assert "r@1_shuffled/embedder" not in values  # no image is of another place


def test_hit_rate_leaves_near_misses_out(data):
    data.with_near = True
    model = FakeModel()
    embed = model.embed

    def embed_half_way(images, view):
        """A target is near the next place's source too, so the hit rate exceeds R@1."""
        rows = embed(images, view)
        if view == "aerial":
            return rows
        mixed = rows + 1.2 * np.roll(rows, -1, axis=0)
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    model.embed = embed_half_way
    values = get_values(evaluate(model, rows=4))  # all in one batch
    assert values["hit_rate_real/embedder"] > values["r@1_real/embedder"] + 0.3
    assert values["hit_rate_real/embedder"] > 0.7


def test_good_model_passes_its_floors():
    row = evaluate(FakeModel(), {"judge": FakeModel(seed=5)})
    values = get_values(row)
    assert row["direction"] == "a2g"
    for judge in ("embedder", "judge"):
        assert values[f"r@1_real/{judge}"] == 1
        assert values[f"r@1_generated/{judge}"] > 0.9
        assert values[f"r@1_shuffled/{judge}"] < 0.1
        assert values[f"r@1_shuffled/{judge}"] <= values[f"r@10_shuffled/{judge}"]
    assert 0.9 < values["ssim_rgb"] <= 1
    assert values["psnr"] > values["psnr_mean_image"] > values["psnr_shuffled"]
    assert values["ssim_rgb"] > 0.9 > values["ssim_rgb_mean_image"]
    assert 0.9 < values["sharpness_ratio"] <= 1.0
    assert 0.02 < values["diversity"] < 0.3
    assert row["absent"] == []
    for name, metric in row["metrics"].items():
        # The last of an odd number of examples has no neighbour to take a source from.
        assert metric["n"] == NUM_TEST - ("_shuffled" in name), name
        assert metric["low"] <= metric["value"] <= metric["high"], name
        once = ("_shuffled", "_mean_image", "_real", "diversity", "sky_")
        assert ("noise_std" in metric) != any(part in name for part in once), name
    assert row["ties"]["real/judge"] == 0


def test_scores_are_listed_image_by_image():
    row = evaluate(FakeModel(), {"judge": FakeModel(seed=5)})
    columns, values = row["per_image"], get_values(row)
    assert sorted(columns["id"]) == sorted(f"pair {i}" for i in range(NUM_TEST))
    for name in ("psnr", "ssim_rgb", "sharpness_ratio"):
        assert columns[name].shape == (NUM_TEST, 3)
        np.testing.assert_allclose(columns[name].mean(), values[name], rtol=1e-12)
    ranks = columns["rank_generated/judge"]
    np.testing.assert_allclose(np.mean(ranks <= 5), values["r@5_generated/judge"], rtol=1e-12)
    np.testing.assert_allclose(np.mean(1 / ranks), values["mrr_generated/judge"], rtol=1e-12)


def test_metric_names_are_the_documented_ones():
    names = set(evaluate(FakeModel(), {"j": FakeModel(seed=5)})["metrics"])
    recalls = {
        f"{score}_{kind}/{judge}"
        for score in ("r@1", "r@5", "r@10", "r@1%", "r@1%+", "mrr")
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
    noise = draw_noises(3, np.arange(NUM_TEST), 2, 4)
    samples = [to_uint8(model.generate(source, z)).astype(np.float64) / 255 for z in noise]
    error = np.mean((np.stack(samples) - target / 255) ** 2, axis=(2, 3, 4))
    np.testing.assert_allclose(values["psnr"], np.mean(-10 * np.log10(error)), rtol=1e-5)
    distance = np.sqrt(np.mean((samples[0] - samples[1]) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(values["diversity"], np.mean(distance), rtol=1e-5)
    mean = to_uint8(to_float(make_images("train")).mean(axis=0)) / 255
    error = np.mean((mean - target / 255) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(values["psnr_mean_image"], np.mean(-10 * np.log10(error)), rtol=1e-5)


def test_result_does_not_depend_on_the_rows_of_a_device():
    rows = [evaluate(FakeModel(), rows=size) for size in (2, 4, 16)]
    for row in rows[1:]:
        assert row["metrics"].keys() == rows[0]["metrics"].keys()
        for name, value in get_values(row).items():
            np.testing.assert_allclose(value, get_values(rows[0])[name], rtol=1e-6, err_msg=name)
    with pytest.raises(UserError, match="even"):
        evaluate(FakeModel(), rows=3)


def test_every_batch_has_the_same_size():
    model = FakeModel()
    evaluate(model, rows=4)
    assert model.batch_sizes == {4 * jax.local_device_count()}


def test_seed_decides():
    first, again, other = (get_values(evaluate(FakeModel(), seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["diversity"] != other["diversity"]


def test_noise_belongs_to_the_example():
    noise = draw_noises(5, np.array([4, 0, 9]), 3, 6)
    assert noise.shape == (3, 3, 6) and noise.dtype == np.float32
    np.testing.assert_array_equal(draw_noises(5, np.array([9, 4]), 2, 6), noise[:2, [2, 0]])
    assert len(np.unique(noise)) == noise.size
    assert abs(draw_noises(0, np.arange(500), 2, 8).std() - 1) < 0.05


def test_constant_model_scores_chance():
    row = evaluate(ConstantModel())
    values = get_values(row)
    recalls = [value for name, value in values.items() if name.startswith("r@")]
    assert set(recalls) == {0.0}
    assert row["ties"]["real/embedder"] == NUM_TEST
    np.testing.assert_allclose(values["mrr_real/embedder"], 1 / ((NUM_TEST + 1) / 2))
    psnr = row["per_image"]["psnr"]
    np.testing.assert_allclose(values["psnr_shuffled"], psnr[:-1].mean(), rtol=1e-6)
    assert values["diversity"] == values["sky_spread_ratio"] == values["sharpness_ratio"] == 0


def test_perfect_images_have_no_finite_psnr():
    row = evaluate(FakeModel(noise=0.0))
    infinite = {"value": None, "low": None, "high": None, "n": NUM_TEST, "infinite": NUM_TEST}
    assert row["metrics"]["psnr"] == infinite
    assert " inf " in format_table(row)
    values = get_values(row)
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
    assert len(row["metrics"]) == 12
    assert all("_real/" in name for name in row["metrics"])
    assert row["absent"]


def test_max_examples_and_progress():
    seen = []
    row = evaluate(FakeModel(), max_examples=10, progress_fn=lambda *args: seen.append(args))
    assert {metric["n"] for metric in row["metrics"].values()} == {10}
    assert seen == [(10, 10)]


def test_copy_of_the_own_embedder_is_no_judge():
    with pytest.raises(UserError, match="own embedder"):
        evaluate(FakeModel(), {"judge": FakeModel()})


def test_images_that_are_not_finite_are_an_error():
    model = FakeModel()
    model.generate = lambda source, z: np.full_like(source, np.nan)
    with pytest.raises(UserError, match="not finite"):
        evaluate(model)


def test_one_image_has_the_scores_of_an_image_and_reasons_for_the_rest():
    metrics = (*METRICS, "fd_judge", "retrieval_same_view")
    row = evaluate(FakeModel(), metrics=metrics, max_examples=1)
    assert {"psnr", "ssim_rgb", "sharpness_ratio", "psnr_mean_image"} <= row["metrics"].keys()
    assert row["metrics"]["psnr"]["n"] == 1 and row["metrics"]["psnr"]["low"] is None
    absent = {entry["name"]: entry["reason"] for entry in row["absent"]}
    assert "at least 2 images" in absent["retrieval"]
    assert "at least 2 images" in absent["retrieval_same_view"]
    assert "sets of 1 and 1 images is not defined" in absent["fd_embedder"]
    assert not any(name.startswith(("r@", "fd_")) for name in row["metrics"])


def test_a_metric_that_images_are_too_small_for_leaves_the_others_standing(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("generated", "reference", "sky_mask"):
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 32, 3), np.uint8)
            write_png(
                tmp_path / folder / f"{i}.png",
                pixels if folder != "sky_mask" else pixels[..., 0] // 128 * 255,
            )
    metrics = ("psnr", "ssim_rgb", "ssim_lua", "ssim_rgb_nosky", "psnr_nosky", "sharpness_ratio")
    folders = {name: tmp_path / name for name in ("generated", "reference", "sky_mask")}
    row, per_image = score_folders({**folders, "source": None}, {}, job.Settings(metrics, 2))
    assert row["metrics"].keys() >= {"psnr", "ssim_lua", "psnr_nosky", "sharpness_ratio"}
    absent = {entry["name"]: entry["reason"] for entry in row["absent"]}
    assert absent.keys() == {"ssim_rgb", "ssim_rgb_nosky"}
    assert "at least 11 x 11 pixels, got 8" in absent["ssim_rgb"]
    assert "ssim_rgb" not in per_image and len(per_image["psnr"]) == 6


@pytest.fixture
def nets(monkeypatch):
    """Stand-ins for the networks that need weight files; they count their calls."""
    projection = np.random.default_rng(3).normal(size=(16 * 16 * 3, 4)).astype(np.float32)
    asked = []

    def look(variables, images):
        asked.append(len(images))
        rows = jnp.reshape(images.astype(jnp.float32) / 255, (len(images), -1)) @ variables
        return {"features": rows, "probabilities": jax.nn.softmax(rows), "logits": rows}

    def compare(variables, generated, target):
        difference = generated.astype(jnp.float32) - target.astype(jnp.float32)
        return {"distance": jnp.abs(difference).mean(axis=(1, 2, 3)) / 255}

    def open_net(name, weights, unverified):
        if name == "lpips_vgg":
            raise MissingWeightsError(name, ["nowhere"])
        if name == "places":
            unverified[name] = ["some/file"]
        apply = compare if name.startswith("lpips") else look
        # On the host: each call is counted, not each trace.
        return FrozenNet(name, f"digest of {name}", "as it is", projection, apply, apply is look)

    monkeypatch.setattr(nets_lib, "_open", open_net)
    return asked


def test_distances_between_sets(nets):
    model = FakeModel()
    metrics = ("fid", "kid", "inception_score", "fd_judge", "lpips_alex")
    row = evaluate(model, metrics=metrics)
    values = get_values(row)
    real = make_images("test").reshape(NUM_TEST, -1) / 255
    source = to_float(make_images("test")).swapaxes(1, 2)
    samples = [model.generate(source, z) for z in draw_noises(0, np.arange(NUM_TEST), 3, 4)]
    projection = np.random.default_rng(3).normal(size=(16 * 16 * 3, 4)).astype(np.float32)
    rows = [to_uint8(s).reshape(NUM_TEST, -1) / 255 @ projection for s in samples]
    fids = [frechet(real @ projection, each) for each in rows]
    np.testing.assert_allclose(values["fid"], np.mean(fids), rtol=1e-4)
    assert row["metrics"]["fid"]["noise_std"] == pytest.approx(np.std(fids, ddof=1), rel=1e-3)
    assert row["metrics"]["fid"]["low"] < values["fid"] < row["metrics"]["fid"]["high"]
    assert values["inception_score"] >= 1 and values["fd_embedder"] > 0
    error = np.abs(to_uint8(np.stack(samples)) / 255 - make_images("test") / 255)
    np.testing.assert_allclose(values["lpips_alex"], error.mean(), rtol=1e-5)
    assert row["protocol"]["networks"]["inception_pytorch"]["fingerprint"].startswith("digest of")


def frechet(real, generated):
    """The formula as pytorch-fid has it."""
    means = real.mean(0) - generated.mean(0)
    s1, s2 = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    return means @ means + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)


def test_scores_by_unknown_weights_do_not_bear_the_metric_s_name(nets):
    row = evaluate(FakeModel(), metrics=("fid", "kl_places", "accuracy_places", "lpips_vgg"))
    assert "fid" in row["metrics"]
    assert {"unverified_kl_places", "unverified_top1_places"} <= row["metrics"].keys()
    assert not {"kl_places", "top1_places", "lpips_vgg"} & row["metrics"].keys()
    absent = {entry["name"]: entry["reason"] for entry in row["absent"]}
    assert "some/file" in absent["kl_places"]
    assert "retroguide weights fetch lpips_vgg" in absent["lpips_vgg"]


def test_real_images_are_looked_at_once(nets, tmp_path):
    settings = job.Settings(("fid",), 2, reference_stats=tmp_path / "reference.npz")
    model = FakeModel()
    examples = ModelExamples(model, None, DATA_CONFIG, "test")
    opened = job.Job(settings, {job.EMBEDDER: model})
    described = opened.describe({"split": "test"})
    rows = [opened.score(examples, described)[0] for _ in range(2)]
    num_batches = -(-NUM_TEST // (2 * jax.local_device_count()))
    assert len(nets) == 3 * num_batches  # real and generated, then generated only
    # A file of the same content serves the next job.
    again = job.Job(settings, {job.EMBEDDER: model})
    rows.append(again.score(examples, described)[0])
    assert len(nets) == 4 * num_batches
    assert rows[0]["metrics"] == rows[1]["metrics"] == rows[2]["metrics"]
    with pytest.raises(UserError, match="other images"):
        again.score(examples, again.describe({"split": "train"}))


def test_a_classifier_and_a_feature_network_of_one_s_own(nets, monkeypatch):
    from retroguide_jax.metric_nets import external

    monkeypatch.setattr(external, "open_net", lambda path: nets_lib._open(path.stem, None, {}))
    files = {"features": {"x_real": Path("a.onnx")}, "classifiers": {"theirs": Path("b.onnx")}}
    model = FakeModel()
    judges = {job.EMBEDDER: model, "city_real": FakeModel(seed=5)}
    metrics = ("psnr", "fd_judge", "retrieval")
    opened = job.Job(job.Settings(metrics, 2, **files), judges)
    row, _ = opened.score(ModelExamples(model, None, DATA_CONFIG, "test"), opened.describe({}))
    names = {"fd_x_real", "kl_theirs", "top1_theirs", "top5_theirs_sure", "inception_score_theirs"}
    assert names <= row["metrics"].keys() and "fd_theirs" not in row["metrics"]
    assert row["metrics"]["kl_theirs"]["value"] >= 1
    lines = {line.split()[0]: line.split() for line in format_table(row).splitlines()}
    generated, real = 1, 7
    for name in ("fd_x_real", "fd_city_real"):  # no ceiling of another metric
        assert lines[name][real] == "-" != lines[name][generated]
    assert lines["r@1/city_real"][real] == "1.0000"
    assert row["protocol"]["networks"].keys() == {"x_real", "theirs"}


def test_nothing_to_measure_is_an_error(nets):
    with pytest.raises(UserError, match="weights fetch lpips_vgg"):
        evaluate(FakeModel(), metrics=("lpips_vgg",))


@pytest.mark.parametrize("place", [0, NUM_TEST - 1])
def test_what_is_known_of_other_real_images_is_not_used(nets, tmp_path, data, place):
    """A data set with equal names, sizes and bytes, except for one pixel."""
    settings = job.Settings(("fid",), 2, reference_stats=tmp_path / "reference.npz")
    model = FakeModel()
    opened = job.Job(settings, {job.EMBEDDER: model})
    described = opened.describe({"split": "test"})
    before = opened.score(ModelExamples(model, None, DATA_CONFIG, "test"), described)[0]
    data.changed = place
    again = job.Job(settings, {job.EMBEDDER: model})
    with pytest.raises(UserError, match=f"made from other images .* such as 'pair {place}'"):
        again.score(ModelExamples(model, None, DATA_CONFIG, "test"), described)
    fresh = job.Job(job.Settings(("fid",), 2), {job.EMBEDDER: model})
    after = fresh.score(ModelExamples(model, None, DATA_CONFIG, "test"), described)[0]
    assert before["real_images"] != after["real_images"]
    assert before["protocol_hash"] == after["protocol_hash"]


def test_samples_of_a_folder_are_compared_with_each_other(nets, tmp_path):
    """NAME_0 .. NAME_2 as `generate --num_samples=3` names them: means, and diversity."""
    rng = np.random.default_rng(0)
    real = rng.integers(0, 200, (6, 16, 16, 3), np.uint8)
    for i, pixels in enumerate(real):
        write_png(tmp_path / "reference" / f"{i}.png", pixels)
        for k in range(3):
            write_png(tmp_path / "generated" / f"{i}_{k}.png", pixels + np.uint8(10 + 10 * k))
    folders = {"generated": tmp_path / "generated", "reference": tmp_path / "reference"}
    settings = job.Settings(("rmse", "lpips_alex", "diversity", "diversity_lpips_alex"), 2)
    none = {"source": None, "sky_mask": None}
    row, per_image = score_folders({**folders, **none}, {}, settings, num_samples=3)
    values = get_values(row)
    assert row["absent"] == [] and per_image["rmse"].shape == (6, 3)
    np.testing.assert_allclose(values["rmse"], 20, rtol=1e-5)
    # Differences of 10, 20 and 10 grey levels between the three.
    np.testing.assert_allclose(values["diversity"], 40 / 3 / 255, rtol=1e-5)
    np.testing.assert_allclose(values["diversity_lpips_alex"], 40 / 3 / 255, rtol=1e-5)
    np.testing.assert_allclose(values["lpips_alex"], 20 / 255, rtol=1e-5)
    assert row["protocol"]["num_noises"] == 3
