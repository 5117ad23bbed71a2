"""The twin's side of step.py; see ours.py."""

from collections.abc import Callable

import numpy as np
import torch
from ml_collections import ConfigDict
from torch_reference.inference import Model
from torch_reference.networks import build_networks
from torch_reference.step import TrainStep
from torch_reference.switches import Switches

from speed import count_stages


class Side:
    """The twin with channels last; under `torch.compile` if asked, autocast for bfloat16."""

    def __init__(self, config: ConfigDict, images: dict[str, np.ndarray], compile: bool):
        """Takes the config and a batch: view -> [B, H, W, 3] in [-1, 1]."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")  # TF32, which XLA uses too
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        torch.manual_seed(config.seed)
        autocast = config.dtype == "bfloat16"
        self.config, self.images = config, images
        self.switches = Switches(channels_last=True, autocast=autocast, compile=compile)
        self.trained, used = build_networks(config), build_networks(config)
        for networks in (self.trained, used):
            for module in (networks.embedder, networks.generator, networks.discriminator):
                module.to(self.device)
        self.step = TrainStep(config, self.trained, self.switches)
        self.step.step = count_stages(config)
        self.model = Model(used, self.switches)
        self.batch = {view: self._place(rows) for view, rows in images.items()}
        self.works: dict[str, Callable] = {}

    def run(self, work: str) -> None:
        """Runs a work once; the first run compiles it."""
        if work not in self.works:
            name, _, size = work.partition(" ")
            make = {"generate": self._make_generate, "embed": self._make_embed}
            self.works[work] = make[name](int(size)) if size else self._make(name)
        self.works[work]()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def read_peak(self) -> int:
        """Peak bytes of device memory in use so far; 0 on the CPU."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def _make(self, name: str) -> Callable:
        if name == "step":
            return lambda: self.step(self.batch)
        adversarial, contrastive = self.step.adversarial, self.step.contrastive
        num = self.config.train.adversarial_batch_size
        source = self.batch[self.trained.source_view][:num].clone(**self._format)
        target = self.batch[self.trained.target_view][:num].clone(**self._format)
        with torch.no_grad():
            embedding, tokens = adversarial.embed(source)
        noise, fake = adversarial.draw_noise(), target.flip(0)

        def differentiate_generator():
            drawn = adversarial.draw(embedding, tokens, target, noise)
            adversarial.discriminator.requires_grad_(False)
            loss, _ = adversarial.compute_generator_loss(
                drawn, embedding, target, None, drawn.encoded.detach()
            )
            adversarial.discriminator.requires_grad_(True)
            return adversarial.g_optimizer.differentiate(loss)

        def differentiate_discriminator():
            loss, _ = adversarial.compute_discriminator_loss(target, fake, embedding)
            return adversarial.d_optimizer.differentiate(loss)

        def differentiate_penalty():
            penalty = adversarial.compute_penalty(target, embedding)
            return adversarial.d_optimizer.differentiate(penalty)

        def differentiate_embedder():
            loss, _ = contrastive.compute_loss(self.batch["aerial"], self.batch["ground"])
            return contrastive.optimizer.differentiate(loss)

        return {
            "embedder": differentiate_embedder,
            "D": differentiate_discriminator,
            "R1": differentiate_penalty,
            "G": differentiate_generator,
        }[name]

    def _make_generate(self, size: int) -> Callable:
        z = np.ones((size, self.config.generator.z_dim), np.float32)
        source = self._repeat(self.trained.source_view, size)

        def generate():
            return self.model.generate(self._place(source), torch.from_numpy(z).to(self.device))

        return lambda: generate().cpu().numpy()

    def _make_embed(self, size: int) -> Callable:
        images = self._repeat("ground", size)
        return lambda: self.model.embed(self._place(images), "ground").cpu().numpy()

    @property
    def _format(self) -> dict[str, torch.memory_format]:
        return {"memory_format": self.switches.memory_format}

    def _place(self, rows: np.ndarray) -> torch.Tensor:
        # NHWC arrays have the memory layout of channels-last tensors: the host copies nothing.
        return torch.from_numpy(rows).permute(0, 3, 1, 2).to(self.device)

    def _repeat(self, view: str, size: int) -> np.ndarray:
        return np.resize(self.images[view], (size, *self.images[view].shape[1:]))
