"""Ten training steps of ours and of the PyTorch twin, and of the twin by its switches."""

import dataclasses

import numpy as np
import pytest
from parity_cases import steps
from tiny import make_batch, make_tiny_config

torch = pytest.importorskip("torch")

FIELDS = {
    "generator.reader_width": 16,
    "losses.penalty_every": 4,
    "losses.retrieval_bank": 8,
    "losses.token_weight": 2.0,
    "losses.guide_blur": True,
    "losses.style_draws": 6,
    "losses.style_bank": 8,
    "losses.style_kept": True,
    "train.contrastive_warmup_steps": 2,
    "train.structure_steps": 2,
    "train.batch_size": 8,
    "train.adversarial_batch_size": 4,
    "optimizer.generator.warmup_steps": 2,
}


def check(config, dtype, losses, params):
    lines = list(steps.compare_steps(config, 10, np.dtype(dtype)))
    assert [line.step for line in lines] == list(range(1, 11))
    last = lines[-1]
    assert np.isfinite([*last.params.values(), last.average]).all(), last
    for line in lines:
        assert line.metrics < losses, line
        # NaN until the first change.
        assert not any(value > params for value in (*line.params.values(), line.average)), line


def test_ten_steps_are_the_same_function():
    check(make_tiny_config(**FIELDS), "float64", losses=1e-11, params=1e-11)


@pytest.mark.slow
def test_ten_steps_in_float32():
    # Adam divides a gradient by its own size: rounding of small ones counts as much as large ones.
    check(make_tiny_config(**FIELDS), "float32", losses=1e-2, params=1e-2)


@pytest.mark.slow
def test_ten_steps_of_city_are_the_same_function():
    check(steps.make_city_config(), "float64", losses=1e-10, params=1e-10)


OTHER_SWITCHES = {
    "frozen": {
        "mode": "frozen",
        "losses.adversarial": "hinge",
        "losses.penalty": "matching_aware",
        "losses.style": "none",
        "losses.retrieval": "cosine",
        "discriminator.conditioning": "concat",
        "train.update_order": "simultaneous",
    },
    "mode_seeking": {
        "losses.contrastive": "soft_margin_triplet",
        "losses.style": "mode_seeking",
        "embedder.saig.stem_norm": "batch",
        "optimizer.embedder.clip_norm": 0.1,
    },
    "off": {
        "losses.retrieval": "off",
        "generator.facade_features": (),
        "train.structure_steps": 0,
        "losses.style_kept": False,
        "data.ground_size": (4, 16),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_SWITCHES)
def test_ten_steps_with_other_switches(name):
    check(make_tiny_config(**FIELDS | OTHER_SWITCHES[name]), "float64", losses=1e-9, params=1e-9)


def train(dtype=torch.float64, **switches):
    """Parameters of the twin after three steps, and the losses of the last step."""
    from torch_reference.networks import build_networks
    from torch_reference.step import TrainStep
    from torch_reference.switches import Switches

    config = make_tiny_config(**FIELDS | {"train.contrastive_warmup_steps": 0})
    torch.manual_seed(0)
    networks = build_networks(config)
    for name in steps.NETWORKS:
        getattr(networks, name).to(dtype)
    step_fn = TrainStep(config, networks, Switches(**switches))
    for step in range(3):
        batch = {
            view: torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(dtype)
            for view, x in make_batch(config, step).items()
        }
        metrics = step_fn(batch)
    params = [
        param.detach().contiguous()
        for field in dataclasses.fields(networks)[:3]
        for param in getattr(networks, field.name).parameters()
    ]
    return params, metrics


@pytest.mark.parametrize(
    "switch", ["channels_last", pytest.param("compile", marks=pytest.mark.slow)]
)
def test_switches_change_no_result(switch):
    params, metrics = train()
    others, other_metrics = train(**{switch: True})
    for name, value in metrics.items():
        np.testing.assert_allclose(other_metrics[name], value, rtol=1e-9, err_msg=name)
    for param, other in zip(params, others, strict=True):
        # Where a gradient is only rounding, Adam takes steps of at most 1e-9.
        np.testing.assert_allclose(other, param, rtol=1e-9, atol=1e-8)


def test_autocast_stays_near():
    _, metrics = train(torch.float32)
    _, others = train(torch.float32, autocast=True)
    for name in ("d/loss", "g/l1", "g/adversarial"):
        np.testing.assert_allclose(others[name], metrics[name], rtol=0.1, err_msg=name)
        assert others[name] != metrics[name]
