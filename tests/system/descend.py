"""`retroguide` with plain gradient descent in place of Adam.

Adam divides a gradient by its own size: where the true gradient is zero, such as that of a bias
before a normalisation, a rounding error becomes a full step, and a few steps later all numbers
differ. Descent keeps runs comparable whose sums are taken in another order. Its rate is low:
at 0.01 G's gradients, of norm 20, turn a difference of 1e-6 into one of 1 within five steps.
"""

import sys

import optax

from retroguide_jax import state
from retroguide_jax.__main__ import main
from retroguide_jax.training import steps


def make_optimizers(config):
    del config
    return {name: optax.sgd(0.001) for name in ("embedder", "generator", "discriminator")}


if __name__ == "__main__":
    state.make_optimizers = steps.make_optimizers = make_optimizers
    sys.exit(main())
