"""Changes to `city`: named variants with a few fields changed, and what unknown geometry needs."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from retroguide_jax.configs import city


def change_city(changes: Mapping[str, Mapping[str, Any]], name: str) -> ConfigDict:
    """`city` with the fields of `changes[name]`, {dotted name: value}.

    Raises:
      ValueError: there is no such change.
    """
    if name not in changes:
        raise ValueError(f"no {name!r}; choose one of {', '.join(changes)}")
    config = city.get_config()
    config.update_from_flattened_dict(changes[name])
    return config


def forget_geometry(config: ConfigDict) -> None:
    """Lets positions attend to all tokens, in place: for views whose geometry is not known."""
    config.generator.aain_form = "tokens"
    config.generator.fine_tokens = 0
    config.generator.reader_width = 0
    config.generator.start_rank = 0
    config.losses.token_weight = 10.0
