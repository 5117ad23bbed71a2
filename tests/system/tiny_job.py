"""A config for whole runs that cost little but their start: the networks of tests/tiny.py."""

from tiny import make_tiny_config


def get_config(direction="a2g"):
    fields = {
        "data.config_name": "city_smoke",
        # Neither is a multiple of the number taken by processes or devices at a time.
        "data.train_split": "train[9:]",
        "data.val_split": "train[:9]",
        "data.aerial_size": (32, 32),
        "data.ground_size": (16, 64),  # SSIM needs 11 rows
        "generator.structure_features": (8, 8),
        "train.log_every": 1,
        "train.sample_every": 1000,
        "eval.every": 1000,
        "eval.batch_size": 4,
        "eval.num_noises": 1,
    }
    return make_tiny_config(direction, **fields)
