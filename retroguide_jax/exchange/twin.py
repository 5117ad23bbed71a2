"""The weight layout `torch` as a source of an import; see torch_layout/ for its names."""

from collections.abc import Mapping

import numpy as np

from retroguide_jax.exchange.weight_layouts import Source
from retroguide_jax.torch_layout.names import name_parameter


def open_source(arrays: Mapping[str, np.ndarray]) -> Source:
    """Arrays of one or several networks; names may begin with the network (`generator.rgb.`)."""

    def name_array(name: str) -> str:
        network, _, path = name.partition("/")
        plain = name_parameter(path)
        return f"{network}.{plain}" if f"{network}.{plain}" in arrays else plain

    return Source(arrays, name_array)
