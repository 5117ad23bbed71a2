"""Saving memory changes no result: micro batches and rematerialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_batch, make_tiny_config

from retroguide_jax.errors import UserError
from retroguide_jax.models.discriminator import Discriminator
from retroguide_jax.models.embedder import Embedder
from retroguide_jax.models.generator import Generator
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.state import create_state
from retroguide_jax.training import contrastive
from retroguide_jax.training.losses import gradient_penalty
from retroguide_jax.training.steps import check_batches
from retroguide_jax.training.updates import Recipe


def differentiate(num_devices, **fields):
    """(loss, accuracy, gradients) of the embedder on `num_devices` devices."""
    fields |= {"embedder.learned_temperature": True, "mode": "contrastive"}
    config = make_tiny_config(**fields)
    networks, mesh = make_networks(config), make_mesh({"data": -1}, jax.devices()[:num_devices])
    state = create_state(config, networks, mesh)
    recipe = Recipe(config, networks, mesh, {}, {})
    micro = config.train.micro_batch_size
    fn = contrastive._differentiate_pieces if micro else contrastive.differentiate
    batch = place_batch(make_batch(config), mesh)
    return jax.jit(lambda params, batch: fn(recipe, params, {}, batch)[:3])(
        state.params["embedder"], batch
    )


@pytest.fixture(scope="module")
def big_batch():
    return differentiate(1)


@pytest.mark.parametrize(("num_devices", "micro", "chunk"), [(1, 4, 0), (2, 8, 4), (8, 8, 0)])
def test_micro_batches_keep_the_negatives_of_the_whole_batch(big_batch, num_devices, micro, chunk):
    found = differentiate(
        num_devices, **{"train.micro_batch_size": micro, "losses.contrastive_chunk": chunk}
    )
    for value, expected in zip(found[:2], big_batch[:2], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(big_batch[2]))
    assert float(jnp.abs(big_batch[2]["log_scale"])) > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * largest),
        found[2],
        big_batch[2],
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.micro_batch_size": 5}, "micro_batch_size=5 must divide"),
        ({"train.micro_batch_size": 4}, "multiple of the number of devices, 8"),
        ({"losses.contrastive_chunk": 3}, "contrastive_chunk=3 must divide"),
        (
            {"train.micro_batch_size": 8, "embedder.saig.stem_norm": "batch"},
            "does not mix examples",
        ),
        ({"train.batch_size": 12, "train.adversarial_batch_size": 12}, "number of devices, 8"),
        ({"train.adversarial_batch_size": 1}, "at least 2: half of the images reconstruct"),
    ],
)
def test_sizes_that_do_not_go_together(fields, message):
    with pytest.raises(UserError, match=message):
        check_batches(make_tiny_config(**fields), 8)


def embed(remat):
    tower = {"width": 8, "depth": 2, "num_heads": 2, "stem_features": (8, 8)}
    tower |= {"stem_strides": (2, 2), "stem_norm": "batch"}
    grids = {"aerial": (4, 4), "ground": (2, 8)}
    network = Embedder(grids=grids, tower=tower, remat=remat)
    aerial, ground = jnp.ones((2, 16, 16, 3)), jnp.ones((2, 8, 32, 3))
    variables = network.init(jax.random.key(0), aerial, ground, True, method="both")

    def loss_fn(params):
        variables_now = variables | {"params": params}
        (a, b), _ = network.apply(
            variables_now, aerial, ground, True, method="both", mutable=["batch_stats"]
        )
        return jnp.square(a[0, 0] + b[1, 1])

    return loss_fn, variables["params"]


def generate(remat):
    network = Generator(
        start=(2, 8),
        structure_features=(8, 8),
        facade_features=(8,),
        width=8,
        z_dim=4,
        style_dim=4,
        mapping_depth=1,
        style_features=(8,),
        mask_width=4,
        modulation_hidden=8,
        remat=remat,
    )
    embedding, tokens, z = jnp.ones((2, 8)), jnp.ones((2, 4, 8)), jnp.ones((2, 4))
    arguments = (embedding, tokens, z, jnp.ones((2, 8, 32, 3)), jax.random.split(jax.random.key(1)))
    params = network.init(jax.random.key(0), *arguments)["params"]

    def loss_fn(params):
        image, low = network.apply({"params": params}, *arguments)
        return jnp.square(image[0, 0]).sum() + low.mean()

    return loss_fn, params


def judge(remat):
    network = Discriminator(features=(8, 8), width=8, remat=remat)
    images, embedding = jnp.ones((2, 8, 32, 3)), jnp.ones((2, 4))
    params = network.init(jax.random.key(0), images, embedding)["params"]

    def loss_fn(params):
        logits_fn = lambda images, e: network.apply({"params": params}, images, e)[0]  # noqa: E731
        return gradient_penalty("r1", logits_fn, images, embedding)

    return loss_fn, params


@pytest.mark.parametrize(
    "network",
    [judge, *(pytest.param(fn, marks=pytest.mark.slow) for fn in (embed, generate))],
    ids=lambda fn: fn.__name__,
)
def test_rematerialisation_keeps_less_and_changes_nothing(network):
    found = {}
    for remat in ("none", "elementwise", "blocks"):
        loss_fn, params = network(remat)
        # The pull-back function is a tree of the values kept for it.
        pull_back = jax.eval_shape(lambda params: jax.vjp(loss_fn, params)[1], params)  # noqa: B023
        kept = sum(leaf.size for leaf in jax.tree.leaves(pull_back))
        found[remat] = kept, params, jax.jit(jax.grad(loss_fn))(params)
    sizes = [kept for kept, _, _ in found.values()]
    # The penalty is a gradient itself, so the sizes of its kept values have no fixed order.
    assert sizes[0] > sizes[1] > sizes[2] or network is judge, sizes
    _, params, grads = found["none"]
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads)) > 1e-6
    for _, others, other_grads in list(found.values())[1:]:
        jax.tree.map(np.testing.assert_array_equal, params, others)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, other_grads
        )
