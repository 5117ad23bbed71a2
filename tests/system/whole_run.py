"""The run of `city_smoke` that most tests of whole runs look at."""

NUM_STEPS = 24
FLAGS = [
    f"--config.train.{name}={value}"
    for name, value in {
        "num_steps": NUM_STEPS,
        "log_every": 1,
        "sample_every": 12,
        "eval_every": 12,
        "checkpoint_every": 5,
    }.items()
]
