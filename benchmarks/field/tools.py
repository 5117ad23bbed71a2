"""Opens the field's own tools with given weights, and checks whether they are installed.

Each network is a module in evaluation mode; make its input tensors with `to_tensor`.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

# distribution -> module
_MODULES = {
    "scikit-image": "skimage",
    "torchmetrics": "torchmetrics",
    "pytorch-fid": "pytorch_fid",
    "torch-fidelity": "torch_fidelity",
    "clean-fid": "cleanfid",
    "lpips": "lpips",
    "torch": "torch",
    "torchvision": "torchvision",
    "scipy": "scipy",
    "numpy": "numpy",
    "retroguide_jax": "retroguide_jax",
}
_TORCH = ("torch", "torchvision")
_NEEDS = {
    "torchmetrics": (*_TORCH, "torch-fidelity"),  # for its Inception
    "pytorch-fid": _TORCH,
    "torch-fidelity": _TORCH,
    "clean-fid": _TORCH,
    "lpips": _TORCH,
}


def list_missing(tool: str) -> list[str]:
    """A distribution and the others that it needs here, as far as they are not installed."""
    needed = (tool, *_NEEDS.get(tool, ()))
    return [name for name in needed if importlib.util.find_spec(_MODULES[name]) is None]


def describe(tool: str) -> str:
    """Name and version."""
    return f"{tool} {importlib.metadata.version(tool)}"


def use_all_cores() -> None:
    """Gives PyTorch, where it is installed, the cores that JAX has."""
    if not list_missing("torch"):
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))


def to_tensor(images: np.ndarray):
    """uint8 [N, H, W, 3] to a tensor uint8 [N, 3, H, W]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def run(fn: Callable, *tensors, num_rows: int = 16) -> np.ndarray:
    """fn over batches without gradients, float32 [N, ...]."""
    import torch

    with torch.inference_mode():
        batches = zip(*(tensor.split(num_rows) for tensor in tensors), strict=True)
        return torch.cat([fn(*batch) for batch in batches]).numpy()


def open_pytorch_fid(state: Mapping[str, np.ndarray], *, resize: bool = True) -> Callable:
    """pytorch-fid's network: float [B, 3, H, W] in [0, 1] -> features [B, 2048].

    Without `resize` the images must be 299 x 299.
    """
    import pytorch_fid.inception

    # The class has no argument for a file of weights, so replace its download.
    download = pytorch_fid.inception.load_state_dict_from_url
    pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: _to_tensors(state)
    try:
        net = pytorch_fid.inception.InceptionV3([3], resize_input=resize).eval()
    finally:
        pytorch_fid.inception.load_state_dict_from_url = download
    return lambda x: net(x)[0].flatten(1)


def open_torchmetrics(state: Mapping[str, np.ndarray], output: str, *, antialias: bool):
    """torchmetrics' network: uint8 [B, 3, H, W] -> "2048" or "logits_unbiased"."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    with save(state) as path:
        return NoTrainInceptionV3("inception-v3-compat", [output], path, antialias=antialias)


def open_torch_fidelity(state: Mapping[str, np.ndarray]):
    """torch-fidelity's network: uint8 [B, 3, H, W] -> (features, logits without bias)."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    outputs = ["2048", "logits_unbiased"]
    with save(state) as path:
        return FeatureExtractorInceptionV3("inception-v3-compat", outputs, path)


def open_lpips(net: str, trunk: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray]):
    """The lpips package's module: two float [B, 3, H, W] in [-1, 1] -> [B, 1, 1, 1]."""
    import lpips

    module = lpips.LPIPS(pretrained=False, net=net, pnet_rand=True, verbose=False)
    return _fill_lpips(module, trunk, heads)


def open_torchmetrics_lpips(
    net: str, trunk: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray]
):
    """torchmetrics' module, as `open_lpips`."""
    from torchmetrics.functional.image.lpips import _LPIPS

    return _fill_lpips(_LPIPS(pretrained=False, net=net, pnet_rand=True), trunk, heads)


@contextlib.contextmanager
def leave_out_epsilon() -> Iterator[None]:
    """Context manager: torchmetrics' LPIPS without the 1e-8 under its root, as in package lpips."""
    from torchmetrics.functional.image import lpips

    original = lpips._normalize_tensor
    # 1e-20 is negligible beside every length except 0, where it avoids a division by zero.
    lpips._normalize_tensor = functools.partial(original, eps=1e-20)
    try:
        yield
    finally:
        lpips._normalize_tensor = original


def make_given(num_features: int):
    """A "network" whose features are its input, for torchmetrics' distances between sets."""
    import torch

    given = torch.nn.Identity()
    given.num_features = num_features
    return given


def measure(metric, *sides: np.ndarray) -> float:
    """The value of a torchmetrics class of `make_given`: of (generated, real), or of one set.

    Each set is passed as one batch, which is faster than several.
    """
    import torch

    for is_real, side in enumerate(sides):
        which = {"real": bool(is_real)} if len(sides) > 1 else {}
        metric.update(torch.from_numpy(side), **which)
    value = metric.compute()
    return float(value[0] if isinstance(value, tuple) else value)


def make_dataset(images: np.ndarray):
    """uint8 [N, H, W, 3] as the data set of tensors uint8 [3, H, W] that torch-fidelity takes."""
    import torch

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return to_tensor(images[index : index + 1])[0]

    return Images()


@contextlib.contextmanager
def save(state: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields the path of a temporary .pth file with the state dict."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "weights.pth")
        torch.save(_to_tensors(state), path)
        yield path


def _to_tensors(state: Mapping[str, np.ndarray]) -> dict:
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


def _fill_lpips(module, trunk: Mapping[str, np.ndarray], heads: Mapping[str, np.ndarray]):
    tensors = _to_tensors({**trunk, **heads})
    state = module.state_dict()
    for name in state:
        # "net.slice2.3.weight" in lpips, "net.slices.1.3.weight" in torchmetrics.
        in_trunk = re.fullmatch(r"net\.slices?\.?\d+\.(.+)", name)
        if in_trunk:
            state[name] = tensors[f"features.{in_trunk[1]}"]
        elif re.match(r"lin\d", name):
            state[name] = tensors[name]
        elif name.startswith("lins."):
            state[name] = tensors[f"lin{name.removeprefix('lins.')}"]
    module.load_state_dict(state)
    return module.eval()
