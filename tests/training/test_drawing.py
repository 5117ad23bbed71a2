"""What G draws in an update, and which codes of noise are matched to encoded styles."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.config import load_config
from retroguide_jax.training import adversarial, objectives

NUM = 4
TARGET = jnp.zeros((NUM, 2, 3, 3))
GUIDANCE = objectives.Guidance(jnp.ones((NUM, 5)), None, TARGET)


class Generator:
    """Its codes are two entries of the noise, its images the codes themselves."""

    z_dim = 3

    def apply(self, variables, *args, method):
        return getattr(self, method)(*args)

    def map_noise(self, z):
        return z[:, :2]

    def encode_style(self, images):
        return jnp.full((len(images), 2), 100.0)

    def synthesize(self, embedding, tokens, code, keys, source):
        return code, None


@pytest.mark.parametrize(("draws", "num_codes"), [(0, NUM), (2, NUM), (64, 64)])
def test_more_codes_of_noise_are_matched_than_drawn(draws, num_codes):
    config = load_config("city_smoke", [f"--config.losses.style_draws={draws}"])
    networks = types.SimpleNamespace(generator=Generator())
    recipe = types.SimpleNamespace(config=config, networks=networks)
    drawn = adversarial.draw_images(recipe, GUIDANCE, TARGET, jax.random.key(0))({})
    assert drawn["mapped"].shape == (num_codes, 2)
    assert drawn["encoded"].shape == drawn["image"].shape == (NUM, 2)
    assert len(np.unique(drawn["mapped"], axis=0)) == num_codes
    # Odd rows are drawn with the first codes of noise, even ones with encoded styles.
    np.testing.assert_array_equal(drawn["image"][1::2], drawn["mapped"][:NUM][1::2])
    assert (drawn["image"][::2] > 90.0).all()


class Learner(Generator):
    """Its encoded styles are its only parameter."""

    def apply(self, variables, *args, method):
        self.style = variables["params"]
        return super().apply(variables, *args, method=method)

    def encode_style(self, images):
        return jnp.broadcast_to(self.style, (len(images), 2))

    def draw_structure(self, embedding, tokens, code, keys, source):
        return code


@pytest.mark.parametrize(
    ("kept", "structure", "learns"),
    [(False, False, True), (True, False, False), (True, True, True)],
)
def test_styles_that_are_kept_are_learned_in_the_structure_stage(kept, structure, learns):
    config = load_config("city_smoke", [f"--config.losses.style_kept={kept}"])
    recipe = types.SimpleNamespace(
        config=config, networks=types.SimpleNamespace(generator=Learner())
    )
    draw = adversarial.draw_images(recipe, GUIDANCE, TARGET, jax.random.key(0), structure)
    gradient = jax.grad(lambda style: draw(style)["low" if structure else "image"].sum())(1.0)
    assert bool(gradient) == learns
