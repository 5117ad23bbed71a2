"""The generator's and the discriminator's objectives.

The generator's is a weighted sum of the terms in `GENERATOR_TERMS`. To add a term, write a function
of a `Scene`, a line of that table and a weight in `config.losses`; the variables of a network that
no update changes go into `Recipe.frozen`.
"""

import dataclasses
import functools
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from retroguide_jax.bank import Bank, filled
from retroguide_jax.models.resampling import downsample, upsample
from retroguide_jax.parallel.mesh import replicate
from retroguide_jax.training import losses, pairwise
from retroguide_jax.training.updates import Recipe


class Guidance(NamedTuple):
    """The inputs of G and D for n sources.

    embedding: [n, E], the guide's unit rows; tokens: [n, N, T], the guide's.
    source: [n, H, W, 3] in [-1, 1], the images, which only baselines read. place: [n] int, equal
    where two sources show the same place; None: all places differ.
    """

    embedding: jax.Array
    tokens: jax.Array
    source: jax.Array
    place: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """All inputs of the terms of G's objective. Gradients flow through `drawn` alone.

    Attributes:
      recipe: the static parts, with frozen networks.
      guidance: inputs of G and D for the sources.
      target: [n, H, W, 3] in [-1, 1].
      drawn: output of `adversarial.draw_images`: image, low, rows, code, encoded, mapped, and with
        mode seeking second, second_code; empty before G has drawn.
      guide: the averaged embedder's variables.
      params: G's parameters, for the style encoder that reads styles back.
      disc_params: D's parameters.
      augment: augmentation of images before D sees them.
      bank: the guide's embeddings of earlier sources, see `retroguide_jax.bank`; None or {}: none.
      styles: the same of the style encoder's codes of earlier targets.
    """

    recipe: Recipe
    guidance: Guidance
    target: jax.Array
    drawn: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    guide: Any = None
    params: Any = None
    disc_params: Any = None
    augment: Callable[[jax.Array], jax.Array] = lambda images: images
    bank: Bank | None = None
    styles: Bank | None = None

    @property
    def weights(self) -> ConfigDict:
        """`config.losses`."""
        return self.recipe.config.losses

    @property
    def rows(self) -> jax.Array:
        """[n] float: 1 for the rows that should reconstruct their target, else 0."""
        return self.drawn["rows"]

    @functools.cached_property
    def seen(self) -> tuple[jax.Array, jax.Array]:
        """The guide's embedding [n, E] and tokens [n, N, T] of the generated images."""
        return self._look_at(self.drawn["image"])

    @functools.cached_property
    def target_tokens(self) -> jax.Array:
        """The guide's tokens [n, N, T] of the real targets."""
        return self._look_at(self.target)[1]

    def _look_at(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        networks = self.recipe.networks
        if self.weights.guide_blur:
            images = upsample(downsample(images), networks.generator.circular)
        return networks.embedder.apply(self.guide, images, networks.target_view)


class Term(NamedTuple):
    """A term of G's objective.

    fn: scene -> scalar. weight: a field of `config.losses`; the term is not computed where it is 0.
    applies: whether the config and its networks provide the term's inputs.
    """

    fn: Callable[[Scene], jax.Array]
    weight: str
    applies: Callable[[Scene], bool] = lambda scene: True


def reconstruction_rows(config: ConfigDict, num: int) -> jax.Array:
    """[num] float: 1 for the rows that should reconstruct their target, else 0."""
    if config.losses.style == "encoder":
        return (jnp.arange(num) % 2 == 0).astype(jnp.float32)
    return jnp.ones(num)


def _adversarial(scene: Scene) -> jax.Array:
    heads = scene.recipe.networks.discriminator.apply(
        {"params": scene.disc_params},
        scene.augment(scene.drawn["image"]),
        scene.guidance.embedding,
        scene.guidance.source,
    )
    kind = scene.weights.adversarial
    return _mean([losses.generator_loss(kind, logits) for logits in heads])


def _reconstruction(scene: Scene) -> jax.Array:
    return losses.masked_l1(scene.drawn["image"], scene.target, scene.rows)


def _low_reconstruction(scene: Scene) -> jax.Array:
    low, small = scene.drawn["low"], scene.target
    while small.shape[1] > low.shape[1]:
        small = downsample(small)
    return losses.masked_l1(low, small, scene.rows)


def _retrieval(scene: Scene) -> jax.Array:
    generated, source = scene.seen[0], scene.guidance.embedding
    if scene.weights.retrieval == "cosine":
        return losses.retrieval_cosine(generated, source)
    scale = 1.0 / scene.weights.retrieval_temperature
    gather_fn = functools.partial(replicate, mesh=scene.recipe.mesh)
    return pairwise.info_nce(
        generated,
        source,
        scale,
        gather_fn=gather_fn,
        place=scene.guidance.place,
        bank=scene.bank,
    )


def _tokens(scene: Scene) -> jax.Array:
    """Mean L1 distance of tokens, unscaled: layer-normalised tokens have unit scale."""
    return jnp.abs(scene.seen[1] - scene.target_tokens).astype(jnp.float32).mean()


def _style_consistency(scene: Scene) -> jax.Array:
    """Reads the style back with a frozen copy of S, where the style came from noise."""
    frozen = {"params": jax.lax.stop_gradient(scene.params)}
    generator = scene.recipe.networks.generator
    seen = generator.apply(frozen, scene.drawn["image"], method="encode_style")
    error = jnp.square(seen - jax.lax.stop_gradient(scene.drawn["code"])).mean(-1)
    return losses.masked_mean(error, 1.0 - scene.rows)


def _style_matching(scene: Scene) -> jax.Array:
    encoded, counts = jax.lax.stop_gradient(scene.drawn["encoded"]), None
    if scene.styles:
        counts = jnp.concatenate([jnp.ones(encoded.shape[0], bool), filled(scene.styles)])
        encoded = jnp.concatenate([encoded, scene.styles["rows"]])
    return losses.energy_distance(scene.drawn["mapped"], encoded, counts)


def _mode_seeking(scene: Scene) -> jax.Array:
    drawn = scene.drawn
    return losses.mode_seeking(drawn["image"], drawn["second"], drawn["code"], drawn["second_code"])


def _has_style(style: str) -> Callable[[Scene], bool]:
    return lambda scene: scene.weights.style == style


GENERATOR_TERMS = {
    "g/adversarial": Term(_adversarial, "adversarial_weight"),
    "g/l1": Term(_reconstruction, "reconstruction_weight"),
    "g/l1_low": Term(
        _low_reconstruction,
        "low_reconstruction_weight",
        lambda scene: scene.drawn["low"] is not None,
    ),
    "g/retrieval": Term(
        _retrieval, "retrieval_weight", lambda scene: scene.weights.retrieval != "off"
    ),
    "g/tokens": Term(_tokens, "token_weight"),
    "g/style_consistency": Term(
        _style_consistency, "style_consistency_weight", _has_style("encoder")
    ),
    "g/style_matching": Term(_style_matching, "style_matching_weight", _has_style("encoder")),
    "g/mode_seeking": Term(_mode_seeking, "mode_seeking_weight", _has_style("mode_seeking")),
}


# The terms that train the structure stage alone.
STRUCTURE_TERMS = ("g/l1_low", "g/style_matching")


def generator_objective(scene: Scene, names: Container[str] = GENERATOR_TERMS):
    """G's loss as a function of its drawn images: `drawn -> (loss, {name: term})`.

    Args:
      scene: everything but `drawn`.
      names: the terms to add up.
    """

    def loss_fn(drawn):
        shown = dataclasses.replace(scene, drawn=drawn)
        total, terms = jnp.zeros(()), {}
        for name, term in GENERATOR_TERMS.items():
            weight = shown.weights[term.weight]
            if name in names and weight and term.applies(shown):
                terms[name] = term.fn(shown)
                total += weight * terms[name]
        return total, terms

    return loss_fn


def discriminator_objective(recipe: Recipe, real, fake, guidance: Guidance):
    """D's loss as a function of its parameters: `params -> (loss, {name: mean logit})`.

    Every head of D has the same weight, whatever its number of logits.

    Args:
      recipe: the static parts.
      real: target images [n, H, W, 3] in [-1, 1].
      fake: the images that G drew for the same sources, of the same shape; constants.
      guidance: inputs of D for the sources.
    """
    discriminator, kind = recipe.networks.discriminator, recipe.config.losses.adversarial

    def loss_fn(params):
        def run(method, *args):
            return discriminator.apply({"params": params}, *args, method=method)

        # Real and generated images share one pass; mismatched pairs reuse the real features.
        twice = _interleave(guidance.source, guidance.source)
        features, patches = run("extract", _interleave(real, fake), twice)
        real_features, fake_features = _separate(features)
        condition = run("condition", guidance.embedding, guidance.source)
        right = run("score", real_features, condition)
        made = run("score", fake_features, condition)
        means = {"d/real": right.mean(), "d/fake": made.mean()}
        wrong = None
        differ = jnp.ones(len(right))
        if guidance.place is not None:
            differ = (guidance.place != jnp.roll(guidance.place, 1)).astype(jnp.float32)
        if discriminator.has_late_condition:
            wrong = run("score", real_features, jnp.roll(condition, 1, 0))
            means["d/mismatched"] = losses.masked_mean(wrong, differ)
        heads = [losses.discriminator_loss(kind, right, made, wrong, differ)]
        if patches is not None:
            heads.append(losses.discriminator_loss(kind, *_separate(patches), None))
        return _mean(heads), means

    return loss_fn


def penalty_objective(recipe: Recipe, real, guidance: Guidance):
    """D's gradient penalty as a function of its parameters; arguments as above."""
    kind = recipe.config.losses.penalty

    def penalty_fn(params):
        def opinion(images, embedding):
            heads = recipe.networks.discriminator.apply(
                {"params": params}, images, embedding, guidance.source
            )
            return _mean([logits.reshape(len(logits), -1).mean(1) for logits in heads])

        return losses.gradient_penalty(kind, opinion, real, guidance.embedding)

    return penalty_fn


def _mean(values: list[jax.Array]) -> jax.Array:
    return sum(values[1:], values[0]) / len(values)


def _interleave(a: jax.Array, b: jax.Array) -> jax.Array:
    """Rows a0 b0 a1 b1 ...; if they were concatenated, rows would have to move between devices."""
    return jnp.stack([a, b], 1).reshape(2 * a.shape[0], *a.shape[1:])


def _separate(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = rows.reshape(rows.shape[0] // 2, 2, *rows.shape[1:])
    return pairs[:, 0], pairs[:, 1]
