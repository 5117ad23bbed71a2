"""Region-aware modulation: soft regions found without labels, and an affine map for each."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from retroguide_jax.models.layers import Conv, Dtype, instance_norm, leaky_relu


class RegionMask(nn.Module):
    """Unsupervised soft regions of a feature map.

    m = sigmoid(conv1x1(relu(norm(conv3x3(h))))) for one region (after SSA-GAN, Liao et al., 2022),
    a softmax over regions for several; with `num_regions` 0 there is no mask: it is all ones.
    """

    num_regions: int = 1
    width: int = 100
    circular: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H, W, max(1, num_regions)], in [0, 1]."""
        if self.num_regions == 0:
            return jnp.ones((*h.shape[:3], 1), h.dtype)
        x = Conv(self.width, circular=self.circular, dtype=self.dtype)(h)
        x = nn.relu(instance_norm(x))
        logits = Conv(self.num_regions, 1, dtype=self.dtype)(x).astype(jnp.float32)
        mask = nn.sigmoid(logits) if self.num_regions == 1 else jax.nn.softmax(logits)
        self.sow("intermediates", "masks", mask)
        return mask.astype(h.dtype)


class RegionModulation(nn.Module):
    """Region-aware modulation: out = IN(h) + sum_k m_k (gamma_k IN(h) + beta_k).

    (gamma_k, beta_k) = MLP([e ; w]); its last layer starts at zero, so the layer starts as plain
    instance normalisation. The paper states the name; the formula is this project's choice.
    """

    hidden: int = 256
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array, mask: jax.Array, condition: jax.Array) -> jax.Array:
        """h [B, H, W, C], mask [B, H, W, K] in [0, 1], condition [B, D]; returns h's shape."""
        channels, regions = h.shape[-1], mask.shape[-1]
        x = leaky_relu(nn.Dense(self.hidden, dtype=self.dtype)(condition))
        x = nn.Dense(2 * regions * channels, kernel_init=nn.initializers.zeros, dtype=self.dtype)(x)
        gamma, beta = jnp.split(x.reshape(-1, regions, 1, 1, 2 * channels), 2, axis=-1)
        h = instance_norm(h)
        # An explicit sum: there are few regions, and an einsum would be a batch of tiny products.
        # Affine maps of h, not sums of gammas and of betas: each mask's gradient is then one sum.
        maps = (mask[..., k : k + 1] * (gamma[:, k] * h + beta[:, k]) for k in range(regions))
        return sum(maps, h)
