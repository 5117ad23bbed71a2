"""The discriminator's and the generator's update, guided by the averaged embedder.

G runs forward once: D learns from its images as constants, then G's gradient is taken through D.
"""

from typing import NamedTuple

import torch
from ml_collections import ConfigDict
from torch import Tensor
from torch.func import functional_call

from torch_reference import losses
from torch_reference.embedder import Embedder
from torch_reference.generator import Generator
from torch_reference.layers import at_least_float32, downsample
from torch_reference.networks import Networks
from torch_reference.optimizer import Optimizer, average, compute_decay
from torch_reference.switches import Switches


class Noise(NamedTuple):
    """The random numbers of one step, n its adversarial rows.

    z: [n, Z]. other: what jitters the encoded styles, [n, S]; with mode seeking the second z,
    [n, Z]; else None. maps: what `Generator.draw_noise` gives for n.
    """

    z: Tensor
    other: Tensor | None
    maps: list[Tensor]


class Drawn(NamedTuple):
    """What G drew: images [n, 3, H, W], the styles [n, S] they were drawn with, and more."""

    image: Tensor
    low: Tensor | None
    code: Tensor
    encoded: Tensor
    mapped: Tensor
    second: Tensor | None = None
    second_code: Tensor | None = None


class AdversarialUpdate:
    """Trains G and D, and averages G into `averaged`."""

    def __init__(
        self,
        config: ConfigDict,
        networks: Networks,
        guide: Embedder,
        averaged: Generator,
        num_steps: int,
        switches: Switches,
    ):
        self.config, self.networks, self.switches = config, networks, switches
        self.generator, self.discriminator = networks.generator, networks.discriminator
        self.guide = guide
        self.g_optimizer = Optimizer(
            config.optimizer.generator, self.generator.parameters(), num_steps
        )
        self.d_optimizer = Optimizer(
            config.optimizer.discriminator, self.discriminator.parameters(), num_steps
        )
        self.averaged = list(averaged.parameters())
        self.bank: list[Tensor] = []  # embeddings of the last updates' sources
        self.embed = switches.prepare(self._embed)
        self.draw = switches.prepare(self._draw)
        self.compute_discriminator_loss = switches.prepare(self._compute_discriminator_loss)
        self.compute_generator_loss = switches.prepare(self._compute_generator_loss)

    def draw_noise(self) -> Noise:
        """Fresh random numbers for one step."""
        num, style = self.config.train.adversarial_batch_size, self.config.losses.style
        like = self.generator.rgb.weight
        widths = {
            "encoder": self.config.generator.style_dim,
            "mode_seeking": self.generator.z_dim,
        }
        z, other = (
            torch.randn(num, width, device=like.device, dtype=like.dtype) if width else None
            for width in (self.generator.z_dim, widths.get(style))
        )
        return Noise(z, other, self.generator.draw_noise(num))

    def __call__(
        self, batch: dict[str, Tensor], step: int, num_updates: int, noise: Noise | None = None
    ) -> dict[str, Tensor]:
        """One update of each.

        Args:
          batch: images [B, 3, H, W] of both views, of which evenly spaced rows are used.
          step: steps done before, which says whether the penalty is due.
          num_updates: adversarial updates done before.
          noise: the step's random numbers; None draws them.

        Returns:
          Metrics, scalars on the device.
        """
        config, num = self.config, self.config.train.adversarial_batch_size
        noise = noise or self.draw_noise()
        source, target = (
            batch[view].view(num, -1, *batch[view].shape[1:])[:, 0]
            for view in (self.networks.source_view, self.networks.target_view)
        )
        norm_of = torch.nn.utils.get_total_norm
        norms = {
            "d/param_norm": norm_of(self.d_optimizer.params).detach(),
            "g/param_norm": norm_of(self.g_optimizer.params).detach(),
        }
        with torch.no_grad():
            embedding, tokens = self.embed(source)
        drawn = self.draw(embedding, tokens, target, noise)

        d_loss, logits = self.compute_discriminator_loss(target, drawn.image.detach(), embedding)
        total, metrics = d_loss, {"d/loss": d_loss.detach()}
        if step % config.losses.penalty_every == 0:
            # Never compiled: torch.compile cannot differentiate twice.
            penalty = self.compute_penalty(target, embedding)
            metrics["d/penalty"] = penalty.detach()
            total = d_loss + config.losses.penalty_weight * config.losses.penalty_every * penalty
        d_grads = self.d_optimizer.differentiate(total)
        alternating = config.train.update_order == "alternating"
        if alternating:
            _, norms["d/grad"] = self.d_optimizer.update(d_loss, d_grads)

        # G's gradient passes through D; those of D's own weights would be computed for nothing.
        self.discriminator.requires_grad_(False)
        bank = torch.cat(self.bank) if self.bank else None
        loss, terms = self.compute_generator_loss(drawn, embedding, target, bank)
        if size := config.losses.retrieval_bank // num:
            self.bank = [*self.bank, embedding][-size:]
        self.discriminator.requires_grad_(True)
        g_grads = self.g_optimizer.differentiate(loss)
        if not alternating:
            _, norms["d/grad"] = self.d_optimizer.update(d_loss, d_grads)
        ok, norms["g/grad"] = self.g_optimizer.update(loss, g_grads)
        decay = compute_decay(config.train.ema_halflife_generator, num_updates)
        with torch.no_grad():
            average(self.averaged, self.g_optimizer.params, decay, ok)
        return metrics | logits | terms | norms

    def _embed(self, source: Tensor) -> tuple[Tensor, Tensor]:
        with self.switches.cast(source.device):
            return self.guide(source, self.networks.source_view)

    def _draw(self, embedding: Tensor, tokens: Tensor, target: Tensor, noise: Noise) -> Drawn:
        """With the style encoder, even rows take the style of their own target, odd rows F(z)."""
        generator, style = self.generator, self.config.losses.style
        with self.switches.cast(target.device):
            mapped = generator.mapping(noise.z)
            encoded, code = mapped.detach(), mapped
            if style == "encoder":
                encoded = generator.style_encoder(target)
                jittered = encoded + self.config.losses.style_noise * noise.other
                rows = self._reconstruction_rows(target)[:, None]
                # F follows the encoder's distribution alone; D's opinion must not pull it away.
                code = torch.where(rows > 0, jittered, mapped.detach())
            image, low = generator.synthesize(embedding, tokens, code, noise.maps)
            drawn = Drawn(image, low, code, encoded, mapped)
            if style == "mode_seeking":
                other = generator.mapping(noise.other)
                second, _ = generator.synthesize(embedding, tokens, other, noise.maps)
                drawn = drawn._replace(second=second, second_code=other)
        return drawn

    def _reconstruction_rows(self, target: Tensor) -> Tensor:
        """[n] of 1 for the rows that are asked to reconstruct their target, else 0."""
        rows = target.new_ones(len(target))
        if self.config.losses.style == "encoder":
            rows[1::2] = 0.0
        return rows

    def _compute_discriminator_loss(self, target, fake, embedding):
        num = len(target)
        with self.switches.cast(target.device):
            features, patches = self.discriminator.extract(torch.cat([target, fake]))
            # Wrong pairs reuse the real images' features.
            logits = self.discriminator.score(
                torch.cat([features, features[:num]]),
                torch.cat([embedding, embedding, embedding.roll(1, 0)]),
            )
        real, made, wrong = logits.split(num)
        kind = self.config.losses.adversarial
        loss = losses.discriminator_loss(kind, real, made, wrong)
        if patches is not None:
            loss = (loss + losses.discriminator_loss(kind, *patches.split(num), None)) / 2
        means = {"d/real": real, "d/fake": made, "d/mismatched": wrong}
        return loss, {name: value.detach().mean() for name, value in means.items()}

    def compute_penalty(self, target: Tensor, embedding: Tensor) -> Tensor:
        """D's penalty at images [n, 3, H, W] and unit rows [n, E], to be differentiated."""
        kind = self.config.losses.penalty
        with self.switches.cast(target.device):
            return losses.gradient_penalty(kind, self._average_heads, target, embedding)

    def _average_heads(self, images: Tensor, embedding: Tensor) -> Tensor:
        """One opinion per image, [n], in which D's heads count alike."""
        heads = self.discriminator(images, embedding)
        return torch.stack([logits.reshape(len(logits), -1).mean(1) for logits in heads]).mean(0)

    def _compute_generator_loss(
        self, drawn: Drawn, embedding: Tensor, target: Tensor, bank: Tensor | None = None
    ):
        weights, image = self.config.losses, drawn.image
        rows = self._reconstruction_rows(target)
        with self.switches.cast(target.device):
            heads = self.discriminator(image, embedding)
            seen = None
            if weights.retrieval != "off" or weights.token_weight:
                generated, tokens = self.guide(image, self.networks.target_view)
            if weights.token_weight:
                _, target_tokens = self.guide(target, self.networks.target_view)
            if weights.style == "encoder":
                # Read the style back with a frozen copy of S, where the style came from noise.
                encoder = self.generator.style_encoder
                frozen = {name: param.detach() for name, param in encoder.named_parameters()}
                seen = functional_call(encoder, frozen, image)
        terms = {
            "g/adversarial": torch.stack(
                [losses.generator_loss(weights.adversarial, logits) for logits in heads]
            ).mean(),
            "g/l1": losses.masked_l1(image, target, rows),
        }
        total = weights.adversarial_weight * terms["g/adversarial"]
        total = total + weights.reconstruction_weight * terms["g/l1"]
        if drawn.low is not None:
            small = target
            while small.shape[2] > drawn.low.shape[2]:
                small = downsample(small)
            terms["g/l1_low"] = losses.masked_l1(drawn.low, small, rows)
            total = total + weights.low_reconstruction_weight * terms["g/l1_low"]
        if weights.token_weight:
            terms["g/tokens"] = at_least_float32(tokens - target_tokens).abs().mean()
            total = total + weights.token_weight * terms["g/tokens"]
        if weights.retrieval != "off":
            if weights.retrieval == "info_nce":
                scale = 1.0 / weights.retrieval_temperature
                terms["g/retrieval"] = losses.info_nce(generated, embedding, scale, bank)
            else:
                terms["g/retrieval"] = losses.retrieval_cosine(generated, embedding)
            total = total + weights.retrieval_weight * terms["g/retrieval"]
        if seen is not None:
            error = (seen - drawn.code.detach()).square().mean(-1)
            terms["g/style_consistency"] = (error * (1.0 - rows)).sum() / (1.0 - rows).sum()
            total = total + weights.style_consistency_weight * terms["g/style_consistency"]
            terms["g/style_matching"] = losses.energy_distance(drawn.mapped, drawn.encoded.detach())
            total = total + weights.style_matching_weight * terms["g/style_matching"]
        elif weights.style == "mode_seeking":
            terms["g/mode_seeking"] = losses.mode_seeking(
                image, drawn.second, drawn.code, drawn.second_code
            )
            total = total + weights.mode_seeking_weight * terms["g/mode_seeking"]
        return total, {name: term.detach() for name, term in terms.items()}
