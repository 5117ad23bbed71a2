"""Cases of whole networks, built from configs on both sides."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from parity_cases.arrays import draw, draw_unit
from parity_cases.case import Case, pair, twin
from parity_cases.noise import draw_maps
from retroguide_jax.config import load_config
from retroguide_jax.networks import make_networks

_FIELDS = {
    "data.aerial_size": (16, 16),
    "data.ground_size": (8, 32),
    "embedder.head_outputs": 2,
    "embedder.saig.width": 8,
    "embedder.saig.depth": 2,
    "embedder.saig.num_heads": 2,
    "embedder.saig.stem_features": (8, 8),
    "embedder.saig.stem_strides": (2, 2),
    "generator.structure_features": (12, 8),
    "generator.facade_features": (6,),
    "generator.width": 8,
    "generator.z_dim": 4,
    "generator.style_dim": 4,
    "generator.mapping_depth": 1,
    "generator.style_features": (6, 8),
    "generator.mask_width": 4,
    "generator.aain_form": "mask",
    "generator.query_position": False,
    "generator.fine_tokens": 0,
    "generator.reader_width": 0,
    "generator.start_rank": 0,
    "generator.modulation_hidden": 8,
    "discriminator.features": (6, 8),
    "discriminator.fold": 1,
    "discriminator.width": 8,
    "losses.penalty_every": 4,
    "losses.retrieval_bank": 0,
    "losses.style_bank": 0,
    "losses.style_kept": False,
    "losses.token_weight": 0.0,
    "losses.guide_blur": False,
    "optimizer.embedder.warmup_steps": 2,
    "optimizer.generator.warmup_steps": 2,
    "optimizer.discriminator.warmup_steps": 2,
    "train.num_steps": 20,
    "train.structure_steps": 0,
    "train.batch_size": 8,
    "train.adversarial_batch_size": 4,
    "train.contrastive_warmup_steps": 2,
    "train.contrastive_every": 2,
}


def make_tiny_config(**fields: Any) -> ConfigDict:
    """`city` with networks of some thousand parameters; `fields` are dotted names."""
    config = load_config(f"city:{fields.get('direction', 'a2g')}", [])
    with config.unlocked():
        config.update_from_flattened_dict(_FIELDS | fields)
    return config


def make_cases() -> Iterator[Case]:
    """Embedder, generator and discriminator with each of their switches."""
    yield from _make_embedders()
    yield from _make_generators()
    yield from _make_discriminators()


def _make_embedders() -> Iterator[Case]:
    names = "aerial", "aerial tokens", "ground", "ground tokens", "scale"
    forms = {
        "group norm": {},
        "batch norm": {"embedder.saig.stem_norm": "batch"},
        "fine tokens": {"generator.fine_tokens": 1},
        "finer tokens": {"generator.fine_tokens": 2},
        "shared, mean, learned temperature": {
            "embedder.shared": True,
            "embedder.head": "gap",
            "embedder.learned_temperature": True,
            "data.ground_size": (16, 16),
        },
    }

    def embed_ours(module, aerial, ground):
        outputs = *module(aerial, "aerial", True), *module(ground, "ground", True)
        found = dict(zip(names, (*outputs, module.inverse_temperature()), strict=True))
        return found | _guide(module, aerial)

    def embed_theirs(module, aerial, ground):
        outputs = *module(aerial, "aerial"), *module(ground, "ground")
        scale = aerial.new_tensor(1.0) * module.inverse_temperature()
        return dict(zip(names, (*outputs, scale), strict=True)) | _guide(module, aerial)

    for name, fields in forms.items():
        config = make_tiny_config(**fields)
        inputs = {
            view: draw(view, (2, *config.data[f"{view}_size"], 3)) for view in ("aerial", "ground")
        }
        yield pair(
            f"embedder, {name}",
            inputs,
            embed_ours,
            embed_theirs,
            make_networks(config).embedder,
            lambda config=config: twin.networks.build_networks(config).embedder,
            train=True,
        )


def _guide(module, aerial) -> dict:
    """Fine tokens, where there are any."""
    return {"guidance": module.guide(aerial, "aerial")[1]} if module.fine_tokens else {}


def _make_generators() -> Iterator[Case]:
    forms = {
        "default": {},
        "tokens, 3 regions, g2a": {
            "direction": "g2a",
            "generator.aain_form": "tokens",
            "generator.query_position": True,
            "generator.normalise_last": True,
            "generator.num_regions": 3,
        },
        "rays": {"generator.aain_form": "rays", "generator.query_position": True},
        "reader": {"generator.reader_width": 32},
        "reader, g2a": {"direction": "g2a", "generator.reader_width": 32},
        "rays, g2a": {"direction": "g2a", "generator.aain_form": "rays"},
        "one stage, learned start, no embedding": {
            "generator.facade_features": (),
            "generator.unfold": 2,
            "generator.start_from_embedding": False,
            "generator.use_embedding": False,
            "data.ground_size": (8, 16),
        },
        "channel gate, no mask, no style": {
            "generator.aain_form": "channel",
            "generator.num_regions": 0,
            "generator.start_rank": 2,
            "generator.unfold": 2,
            "generator.use_style": False,
        },
    }
    keys = jax.random.split(jax.random.key(2), 2)

    def run_ours(module, embedding, tokens, z, images):
        code = module.map_noise(z) + module.encode_style(images)
        image, low = module.synthesize(embedding, tokens, code, keys)
        return {"image": image} | ({} if low is None else {"low": low})

    def run_theirs(module, embedding, tokens, z, images):
        code = module.mapping(z) + module.style_encoder(images)
        maps = [z.new_tensor(x) for x in draw_maps(keys, module.noise_sizes())]
        image, low = module.synthesize(embedding, tokens, code, maps)
        return {"image": image} | ({} if low is None else {"low": low})

    for name, fields in forms.items():
        config = make_tiny_config(**fields)
        networks = make_networks(config)
        size = networks.sizes[networks.target_view]
        inputs = {
            "embedding": draw_unit("embedding", (2, 16)),
            "tokens": draw("tokens", (2, 16, 8)),
            "z": draw("z", (2, 4)),
            "images": draw("images", (2, *size, 3)),
        }
        yield pair(
            f"generator, {name}",
            inputs,
            run_ours,
            run_theirs,
            networks.generator,
            lambda config=config: twin.networks.build_networks(config).generator,
        )


def _make_discriminators() -> Iterator[Case]:
    forms = {
        "projection": {},
        "concat": {"discriminator.conditioning": "concat"},
        "patch": {"discriminator.patch": True, "data.panorama": False},
        "folded": {"discriminator.fold": 2, "discriminator.features": (6,)},
    }
    for name, fields in forms.items():
        config = make_tiny_config(**fields)
        yield pair(
            f"discriminator, {name}",
            make_scored(config),
            lambda module, *args: {"logits": _join_heads(module(*args), jnp.concatenate)},
            lambda module, *args: {"logits": _join_heads(module(*args), _cat)},
            make_networks(config).discriminator,
            lambda config=config: twin.networks.build_networks(config).discriminator,
        )


def _join_heads(heads, join_fn):
    """[B, 1 + P]: the logits of all heads."""
    return join_fn([logits.reshape(len(logits), -1) for logits in heads], 1)


def _cat(tensors, dim):
    import torch

    return torch.cat(tensors, dim)


def make_scored(config: ConfigDict) -> dict:
    """Inputs of a discriminator: images and unit rows."""
    images = draw("images", (3, *config.data.ground_size, 3))
    return {"images": images, "embedding": draw_unit("embedding", (3, 16))}
