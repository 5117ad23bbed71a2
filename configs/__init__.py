"""Experiment configs: one file each, with `get_config(arg)`; `--config=NAME` finds them by name."""
