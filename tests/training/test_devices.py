"""A step gives the same result on any number of devices and is compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import make_batch, make_tiny_config

from retroguide_jax import state as state_lib
from retroguide_jax.networks import make_networks
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.training import steps

NUM_STEPS = 3


class Runner:
    """The step of a tiny config on one mesh."""

    def __init__(self, config, mesh_shape):
        devices = jax.devices()[: mesh_shape[0] * mesh_shape[1]]
        self.mesh = make_mesh(dict(zip(("data", "fsdp"), mesh_shape, strict=True)), devices)
        networks = make_networks(config)
        abstract = state_lib.abstract_state(config, networks, self.mesh)
        self.shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        self.step_fn = steps.make_train_step(config, networks, self.mesh, self.shardings)

    def run(self, state, batches):
        """Starts from `state` on the host; returns the host's copy of [(state, metrics)]."""
        # Copied, because the step donates its inputs.
        state = jax.device_put(jax.tree.map(np.array, state), self.shardings)
        history = []
        for batch in batches:
            state, metrics = self.step_fn(state, place_batch(batch, self.mesh))
            history.append(jax.tree.map(np.array, (state, metrics)))
        return history


@pytest.fixture(scope="module")
def setting():
    """(config, state on the host, batches, runner of one device, its history).

    Plain gradient descent takes Adam's place. Adam divides a gradient by its own size, so where
    the true gradient is zero it turns a rounding error of 1e-12 into a whole step; descent shows
    the gradients as they are. Step 0 is warm-up (embedder only), step 1 updates G and D without
    the lazy terms, step 2 does everything.
    """
    patch = pytest.MonkeyPatch()
    names = ("embedder", "generator", "discriminator")
    descent = lambda config: {name: optax.sgd(0.05) for name in names}  # noqa: E731
    patch.setattr(state_lib, "make_optimizers", descent)
    patch.setattr(steps, "make_optimizers", descent)
    config = make_tiny_config(
        **{
            "embedder.saig.stem_norm": "batch",
            "losses.retrieval_bank": 32,
            "losses.style_bank": 16,
            "losses.token_weight": 1.0,
            "train.contrastive_warmup_steps": 1,
        }
    )
    one = Runner(config, (1, 1))
    state = state_lib.create_state(config, make_networks(config), one.mesh)
    # The per-layer noise has weight zero at first; give it some weight, so that it is compared too.
    state.params["generator"] = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 0.1 if "scale" in str(path[-1]) else leaf,
        state.params["generator"],
    )
    state = jax.tree.map(np.array, state)
    batches = [make_batch(config, seed) for seed in range(NUM_STEPS)]
    yield config, state, batches, one, one.run(state, batches)
    patch.undo()


def largest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def subtract(new, old):
    return jax.tree.map(lambda a, b: a.astype(np.float64) - b, new, old)


def test_what_each_step_does(setting):
    _, state, _, _, history = setting
    lazy = {"contrastive": (True, False, True), "g/": (False, True, True)}
    for index, (_, metrics) in enumerate(history):
        for prefix, due in lazy.items():
            values = [v for name, v in metrics.items() if name.startswith(prefix)]
            assert values and all(np.isfinite(v) == due[index] for v in values), prefix
        assert np.isfinite(metrics["d/penalty"]) == (index == 2)
        assert metrics["skipped/total"] == 0
    states = [state] + [new for new, _ in history]
    for name, due in (
        ("embedder", (1, 0, 1)),
        ("generator", (0, 1, 1)),
        ("discriminator", (0, 1, 1)),
    ):
        for index in range(NUM_STEPS):
            old, new = (states[i].params[name] for i in (index, index + 1))
            assert (largest(subtract(new, old)) > 0) == bool(due[index]), (name, index)
    assert [int(new.step) for new, _ in history] == [1, 2, 3]
    assert [int(new.styles["count"]) for new, _ in history] == [0, 8, 16]


@pytest.mark.parametrize(
    "shape",
    [(4, 2), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((8, 1), (1, 8)))],
    ids=str,
)
def test_devices_agree(setting, shape):
    config, state, batches, _, expected = setting
    history = Runner(config, shape).run(state, batches)
    previous = state
    for (found, metrics), (wanted, wanted_metrics) in zip(history, expected, strict=True):
        assert metrics.keys() == wanted_metrics.keys()
        for name, value in metrics.items():
            np.testing.assert_allclose(
                value, wanted_metrics[name], rtol=1e-5, atol=1e-6, err_msg=name
            )
        for name in found.params:
            update = largest(subtract(wanted.params[name], previous.params[name]))
            error = largest(subtract(found.params[name], wanted.params[name]))
            # Parameters are float32: an error below their rounding is meaningless.
            assert error <= 5e-5 * update + 1e-6 * largest(wanted.params[name]), name
        assert largest(subtract(found.stats, wanted.stats)) < 1e-5
        assert largest(subtract(found.ema, wanted.ema)) < 1e-5
        assert largest(subtract(found.bank["rows"], wanted.bank["rows"])) < 1e-5
        assert largest(subtract(found.styles["rows"], wanted.styles["rows"])) < 1e-5
        previous = wanted


def test_the_step_is_traced_and_compiled_once(setting, monkeypatch):
    config, state, batches, one, _ = setting
    # Warm-up, lazy terms due and not due, with the state as made and as returned.
    traces = []
    update_gan = steps.update_gan
    monkeypatch.setattr(steps, "update_gan", lambda *args: traces.append(1) or update_gan(*args))
    one.run(state, batches)
    assert traces == []
    assert one.step_fn._cache_size() == 1


def test_nonfinite_updates_are_skipped_and_counted(setting):
    _, state, batches, one, _ = setting
    bad = {name: np.full_like(rows, np.nan) for name, rows in batches[0].items()}
    (ok, _), (first, _), (second, metrics), (healed, healed_metrics) = one.run(
        state, [batches[0], bad, bad, batches[1]]
    )
    for skipped in (first, second):
        for part in ("params", "opt", "stats", "ema", "bank", "styles"):
            jax.tree.map(np.testing.assert_array_equal, getattr(skipped, part), getattr(ok, part))
    assert int(second.step) == 3
    assert second.skipped["generator"] == {"total": 2, "streak": 2}
    assert metrics["skipped/streak"] == 2
    assert healed.skipped["generator"] == {"total": 2, "streak": 0}
    assert np.isfinite(healed_metrics["g/l1"])
    for name in ("generator", "discriminator"):
        assert largest(subtract(healed.params[name], ok.params[name])) > 0


def test_the_average_follows_the_parameters(setting):
    config, _, _, _, history = setting
    before, after = history[0][0], history[1][0]
    decay = min(0.5 ** (1 / config.train.ema_halflife_generator), 1.0 / 10.0)
    expected = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new,
        before.ema["generator"],
        after.params["generator"],
    )
    assert largest(subtract(after.ema["generator"], expected)) < 1e-6


def test_the_averages_are_copies(setting):
    """An average that shared its parameters' buffers could not be donated together with them."""
    config, _, _, one, _ = setting
    state = state_lib.create_state(config, make_networks(config), one.mesh)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    assert len(set(pointers)) == len(pointers)
    assert jnp.issubdtype(state.step.dtype, jnp.integer)
