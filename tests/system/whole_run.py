"""The run of `city_smoke` that most tests of whole runs look at."""

NUM_STEPS = 24
FLAGS = [
    f"--config.{name}={value}"
    for name, value in {
        "train.num_steps": NUM_STEPS,
        "train.log_every": 1,
        "train.sample_every": 12,
        "eval.every": 12,
        "train.checkpoint_every": 5,
    }.items()
]
