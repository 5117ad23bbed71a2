import jax.numpy as jnp
import numpy as np

from retroguide_jax import bank


def test_the_oldest_rows_are_replaced():
    kept = bank.create(4, 1)
    assert not bank.filled(kept).any()
    for first in (1.0, 3.0, 5.0):
        kept = bank.add(kept, jnp.array([[first], [first + 1.0]]))
        if first == 1.0:
            np.testing.assert_array_equal(bank.filled(kept), [True, True, False, False])
    np.testing.assert_array_equal(kept["rows"][:, 0], [5.0, 6.0, 3.0, 4.0])
    assert bank.filled(kept).all()
