"""Our side of step.py."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from retroguide_jax.inference import Model
from retroguide_jax.networks import embedder_variables, make_networks
from retroguide_jax.parallel.mesh import make_mesh, place_batch
from retroguide_jax.state import abstract_state, create_state, make_optimizers
from retroguide_jax.training import adversarial, contrastive, objectives
from retroguide_jax.training.steps import make_train_step
from retroguide_jax.training.updates import Recipe
from speed import count_stages


class Side:
    """One of the two sides: `run(work)` runs a work once and waits until the device has done it."""

    def __init__(self, config: ConfigDict, images: dict[str, np.ndarray]):
        """Takes the config and a batch: view -> [B, H, W, 3] in [-1, 1]."""
        self.config, self.networks = config, make_networks(config)
        self.mesh = make_mesh({"data": 1}, jax.devices()[:1])
        self.images, self.batch = images, place_batch(images, self.mesh)
        state = create_state(config, self.networks, self.mesh)
        self.state = state.replace(step=jnp.int32(count_stages(config)))
        self.works: dict[str, Callable] = {}

    def run(self, work: str) -> None:
        """Runs a work of `step.WORKS` once; the first run compiles it."""
        if work not in self.works:
            name, _, size = work.partition(" ")
            make = {"step": self._make_step, "generate": self._make_generate}
            make |= {"embed": self._make_embed}
            self.works[work] = make[name](int(size)) if size else make.get(name, self._make)(name)
        self.works[work]()

    def read_peak(self) -> int:
        """Peak bytes of device memory in use so far; 0 where the device does not report it."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)

    def _make_step(self, name: str) -> Callable:
        abstract = abstract_state(self.config, self.networks, self.mesh)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        step_fn = make_train_step(self.config, self.networks, self.mesh, shardings)

        def step():
            self.state, metrics = step_fn(self.state, self.batch)
            jax.block_until_ready(metrics)

        return step

    def _make(self, name: str) -> Callable:
        """Gradients of one phase of the step, on precomputed inputs."""
        config, networks = self.config, self.networks
        shardings = abstract_state(config, networks, self.mesh).params
        recipe = Recipe(config, networks, self.mesh, shardings, make_optimizers(config))
        guide = embedder_variables(**self.state.ema["embedder"])
        num = config.train.adversarial_batch_size
        source, target = (
            self.batch[view][:num] for view in (networks.source_view, networks.target_view)
        )
        embed = jax.jit(functools.partial(networks.embedder.apply, view=networks.source_view))
        guidance = objectives.Guidance(*embed(guide, source), source)

        def differentiate_generator(params, guide, guidance, target, batch):
            draw = adversarial.draw_images(recipe, guidance, target, jax.random.key(0))
            drawn, pull_back = jax.vjp(draw, params["generator"])
            scene = objectives.Scene(
                recipe,
                guidance,
                target,
                guide=guide,
                params=params["generator"],
                disc_params=params["discriminator"],
            )
            objective = objectives.generator_objective(scene)
            return pull_back(jax.grad(objective, has_aux=True)(drawn)[0])

        def differentiate_discriminator(params, guide, guidance, target, batch):
            fake = target[::-1]
            objective = objectives.discriminator_objective(recipe, target, fake, guidance)
            return jax.grad(objective, has_aux=True)(params["discriminator"])

        def differentiate_penalty(params, guide, guidance, target, batch):
            objective = objectives.penalty_objective(recipe, target, guidance)
            return jax.grad(objective)(params["discriminator"])

        def differentiate_embedder(params, guide, guidance, target, batch):
            stats = guide["batch_stats"]
            return contrastive.differentiate(recipe, params["embedder"], stats, batch)

        phases = {
            "embedder": differentiate_embedder,
            "D": differentiate_discriminator,
            "R1": differentiate_penalty,
            "G": differentiate_generator,
        }
        phase = jax.jit(phases[name])
        # Copy, because the step donates the arrays of its state; pass the inputs as arguments, so
        # that XLA does not fold them as constants.
        params, guide = jax.tree.map(jnp.copy, (self.state.params, guide))
        inputs = (params, guide, guidance, target, self.batch)
        return lambda: jax.block_until_ready(phase(*inputs))

    @functools.cached_property
    def _model(self) -> Model:
        model = Model(self.config, self.networks)
        model.load(jax.tree.map(jnp.copy, self.state.ema), 0)
        return model

    def _make_generate(self, size: int) -> Callable:
        z = np.zeros((size, self.config.generator.z_dim), np.float32) + 1
        source = self._repeat(self.networks.source_view, size)
        return lambda: self._model.generate(source, z)

    def _make_embed(self, size: int) -> Callable:
        images = self._repeat("ground", size)
        return lambda: self._model.embed(images, "ground")

    def _repeat(self, view: str, size: int) -> np.ndarray:
        return np.resize(self.images[view], (size, *self.images[view].shape[1:]))
