"""The random numbers of a training step, as ours draws them from keys, for the twin.

In the floating type that `precision.use` sets.
"""

import jax
import numpy as np


def draw_maps(keys: jax.Array, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    """The maps of noise of a generator.

    Args:
      keys: [B] as `Generator.synthesize` of ours takes them.
      sizes: two a block, as `Generator.noise_sizes` of the twin gives them.

    Returns:
      One [B, 1, H, W] a size.
    """
    folded = jax.vmap(jax.random.fold_in, (0, None))
    return [
        draw_map(folded(folded(keys, index // 2), index % 2), size)
        for index, size in enumerate(sizes)
    ]


def draw_map(keys: jax.Array, size: tuple[int, int]) -> np.ndarray:
    """One map [B, 1, H, W] from a layer's own keys [B]."""
    rows = jax.vmap(lambda key: jax.random.normal(key, (*size, 1)))(keys)
    return np.array(np.moveaxis(rows, -1, 1))


def draw_step(config, generator, step: int):
    """What `retroguide_jax.training.adversarial` draws at this step: z, other, maps of `Noise`.

    Args:
      config: of the run.
      generator: the twin's, for its sizes.
      step: number of the step.
    """
    num, style = config.train.adversarial_batch_size, config.losses.style
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    keys = jax.random.split(jax.random.fold_in(key, 0), num)
    first, second = jax.random.split(jax.random.fold_in(key, 1), 2)
    z = jax.random.normal(first, (num, generator.z_dim))
    widths = {"encoder": config.generator.style_dim, "mode_seeking": generator.z_dim}
    other = jax.random.normal(second, (num, widths[style])) if style in widths else None
    other = None if other is None else np.array(other)
    return np.array(z), other, draw_maps(keys, generator.noise_sizes())
