"""Cases of losses; the gradient of a penalty is a second derivative of the discriminator."""

from collections.abc import Iterator

import numpy as np

from parity_cases.arrays import draw, draw_unit
from parity_cases.case import Case, pair, twin
from parity_cases.networks import make_scored, make_tiny_config
from retroguide_jax.networks import make_networks
from retroguide_jax.training import losses, pairwise

_ROWS = {"source": draw_unit("source", (5, 6)), "target": draw_unit("target", (5, 6))}
_LOGITS = {name: draw(name, (4, 3)) for name in ("real", "fake", "mismatched")}
_IMAGES = {name: draw(name, (4, 4, 8, 3)) for name in ("image", "other")}
_CODES = {name: draw(name, (4, 5)) for name in ("code", "other_code")}


def make_cases() -> Iterator[Case]:
    """Every loss of every kind."""
    scale = {"scale": np.array(14.0)}
    yield _pair(pairwise, "info_nce", _ROWS | scale)
    yield _pair(pairwise, "soft_margin_triplet", _ROWS)
    yield _pair(pairwise, "retrieval_accuracy", _ROWS, by_inputs=False)
    yield _pair(losses, "retrieval_cosine", _ROWS)
    for kind in ("logistic", "hinge"):
        yield _pair(losses, "discriminator_loss", _LOGITS, kind)
        yield _pair(losses, "generator_loss", {"fake": _LOGITS["fake"]}, kind)
    yield _pair(losses, "masked_l1", _IMAGES | {"mask": np.array([1.0, 0.0, 1.0, 0.0])})
    yield _pair(losses, "mode_seeking", _IMAGES | _CODES)
    yield _pair(losses, "energy_distance", _CODES)
    for conditioning in ("projection", "concat"):
        for kind in ("r1", "matching_aware"):
            yield _pair_penalty(kind, conditioning)


def _pair(module, name: str, inputs, *leading, by_inputs: bool = True) -> Case:
    return pair(
        ", ".join([name.replace("_", " "), *leading]),
        inputs,
        lambda *args: {"loss": getattr(module, name)(*leading, *args)},
        lambda *args: {"loss": getattr(twin.losses, name)(*leading, *args)},
        by_inputs=by_inputs,
    )


def _pair_penalty(kind: str, conditioning: str) -> Case:
    config = make_tiny_config(**{"discriminator.conditioning": conditioning})

    def penalise_ours(module, images, embedding):
        plain, variables = module.unbind()

        def opinion(*args):
            return plain.apply(variables, *args)[0]

        return {"loss": losses.gradient_penalty(kind, opinion, images, embedding)}

    return pair(
        f"gradient penalty, {kind}, {conditioning}",
        make_scored(config),
        penalise_ours,
        lambda module, *args: {
            "loss": twin.losses.gradient_penalty(kind, lambda *inputs: module(*inputs)[0], *args)
        },
        make_networks(config).discriminator,
        lambda: twin.networks.build_networks(config).discriminator,
        touch=lambda module, *args: module(*args),
        by_inputs=False,
    )
