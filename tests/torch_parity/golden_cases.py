"""Selects the cases and elements kept in golden.npz, for its maker and its test."""

import numpy as np
from parity_cases import layers, losses, networks, updates

NETWORKS = ("embedder, batch norm", "generator, default", "discriminator, patch")
# Layers that these networks contain, and second derivatives of further discriminators.
LEFT_OUT = (
    "attentional AdaIN, mask",
    "facade block",
    "gradient penalty, matching_aware, concat",
    "gradient penalty, r1, projection",
    "mapping network",
    "region mask, 1",
    "region modulation, 1",
    "residual down",
    "self-attention block",
    "stem, batch norm, training",
    "structure block",
    "style encoder",
)
NUM_ELEMENTS = 60  # elements per array


def list_cases():
    cases = [case for module in (layers, losses, updates) for case in module.make_cases()]
    cases = [case for case in cases if not case.name.startswith(LEFT_OUT)]
    return cases + [case for case in networks.make_cases() if case.name in NETWORKS]


def thin_out(results):
    """A few evenly spaced elements of each array, in the order of names."""
    return {
        name: np.ravel(results[name])[:: max(1, results[name].size // NUM_ELEMENTS)]
        for name in sorted(results)
    }
