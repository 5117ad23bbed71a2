import pytest

from retroguide_jax.config import complete_config, config_from_json, config_to_json, load_config
from retroguide_jax.errors import UserError
from retroguide_jax.scaling import describe_length, list_warnings, make_table, scale_config


def load(spec="default", **fields):
    return load_config(spec, [f"--config.{name}={value}" for name, value in fields.items()])


def test_four_times_the_batch():
    config = load(**{"train.batch_size": 128, "train.reference_batch": 32})
    scaled = scale_config(config)
    for name, rate in (("embedder", 2e-4), ("generator", 4e-4), ("discriminator", 4e-4)):
        assert scaled.optimizer[name].learning_rate == pytest.approx(rate)
    assert scaled.optimizer.generator.warmup_steps == config.optimizer.generator.warmup_steps
    config.unlock().train.contrastive_warmup_steps = 1000
    assert scale_config(config).train.contrastive_warmup_steps == 250
    assert scaled.losses.penalty_weight == pytest.approx(config.losses.penalty_weight / 4)
    assert scaled.train.num_steps * 128 == config.train.num_steps * 32
    for name in ("generator", "guide"):
        field = f"ema_halflife_{name}"
        assert scaled.train[field] == config.train[field]
    # The config in a work directory is scaled already; a resumed run must not scale it again.
    assert scale_config(scaled) == scaled


def test_nothing_is_scaled_unasked():
    config = load(**{"train.batch_size": 128})
    assert scale_config(config) == config


def test_a_length_in_images():
    assert scale_config(load(**{"train.num_images": 1000})).train.num_steps == 32
    fields = {"train.num_images": 1000, "train.batch_size": 64, "train.reference_batch": 32}
    assert scale_config(load(**fields)).train.num_steps == 16


@pytest.mark.parametrize("name", ["num_images", "reference_batch"])
def test_a_number_that_cannot_be(name):
    with pytest.raises(UserError, match=f"config.train.{name}=-1: give"):
        scale_config(load(**{f"train.{name}": -1}))


def test_the_table_says_what_a_run_is_given(run_command):
    done = run_command("plan", "--config=city", "--batches=64,128", "--num_pairs=1000")
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()[2:]]
    config = load("city", **{"train.batch_size": 128, "train.reference_batch": 64})
    scaled = scale_config(config)
    assert [line[:2] for line in found] == [["64", "2"], ["128", "4"]]
    assert scaled.train.structure_steps == 750
    # A step of the embedder reads a batch, and 25 of the generator share one.
    assert found[1][-3:] == [str(scaled.train.num_steps), str(200 * 128), "25.6"]
    assert f"{scaled.optimizer.embedder.learning_rate:.2g}," in found[1]
    with pytest.raises(UserError, match="100 is no multiple of 32"):
        make_table(load("city"), [100])


def test_a_run_says_how_long_it_is_and_what_may_be_wrong():
    config = load("city")
    text = describe_length(config, 3968)
    assert text.startswith(
        "4000 steps read 25600 pairs in batches of 64, 6.45 epochs of 3968; updates:"
    )
    assert "embedder 400, generator 3750, discriminator 2250" in text
    assert list_warnings(config, 2, 1000) == []
    (warning,) = list_warnings(config, 4, 1000)
    assert (
        "config.train.adversarial_batch_size=2 is no multiple" in warning and "2 of them" in warning
    )
    (warning,) = list_warnings(load("city", **{"train.ema_halflife_guide": 15}), 1, 1000)
    assert "config.train.ema_halflife_guide=15: an average over fewer than 200" in warning
    (warning,) = list_warnings(config, 2, 8)
    assert "config.train.batch_size=64 is more than the 8 training pairs" in warning
    fields = {"train.reference_batch": 64, "train.adversarial_batch_size": 16}
    four_times, larger = (
        scale_config(load("city", **fields, **{"train.batch_size": size})) for size in (256, 512)
    )
    assert list_warnings(four_times, 1, 1000) == []
    (warning,) = list_warnings(larger, 1, 1000)
    assert "config.train.num_steps=500: after scaling" in warning and "num_images" in warning


def test_a_config_with_one_half_life_in_images_keeps_both():
    text = config_to_json(load("city"))
    text = text.replace('"ema_halflife_generator": 250.0', '"ema_halflife_images": 1000')
    text = text.replace('"ema_halflife_guide": 250.0,', "")
    train = complete_config(config_from_json(text)).train
    assert (train.ema_halflife_generator, train.ema_halflife_guide) == (500.0, 15.625)
    assert "ema_halflife_images" not in train
