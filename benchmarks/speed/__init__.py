"""Both sides of step.py, each in a process of its own."""

from ml_collections import ConfigDict


def count_stages(config: ConfigDict) -> int:
    """Steps before the first that updates D and G together; each of them trains less."""
    return config.train.contrastive_warmup_steps + config.train.structure_steps
