"""Makes golden.npz: what the field's own packages say on the weights of random_weights.py.

Run beside the package, in an environment with torch, torchvision, pytorch-fid, torch-fidelity,
torchmetrics, clean-fid and lpips:

    python tests/metric_nets/make_golden.py
"""

import tempfile
from pathlib import Path

import lpips
import numpy as np
import pytorch_fid.inception
import torch
import torchvision
from cleanfid.resize import build_resizer
from random_weights import make_images, make_state
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import NoTrainInceptionV3
from torchvision import transforms

IMAGES = make_images(2, 70, 150)
LARGE = make_images(1, 360, 330, seed=1)
PAIRS = make_images(2, 64, 96, seed=2), make_images(2, 64, 96, seed=3)
# Of the features and logits only these columns are kept.
EVERY = 16


def fill(module):
    """Gives a network its weights; returns their state dict."""
    shapes = {name: tuple(array.shape) for name, array in module.state_dict().items()}
    names = [name for name in shapes if not name.endswith("num_batches_tracked")]
    state = make_state({name: shapes[name] for name in names})
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return module.eval()


def to_tensor(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def run_inception():
    shell = torchvision.models.inception_v3(
        num_classes=1008, aux_logits=False, weights=None, init_weights=False
    )
    # pytorch-fid's changes to the blocks bear no weights, so the names and shapes are the same.
    state = fill(shell).state_dict()
    pytorch_fid.inception.load_state_dict_from_url = lambda *args, **kwargs: state
    of_pytorch = pytorch_fid.inception.InceptionV3([3]).eval()
    without_resize = pytorch_fid.inception.InceptionV3([3], resize_input=False).eval()
    outputs = ["2048", "logits_unbiased"]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "inception.pth")
        plain = {k: v for k, v in state.items() if "AuxLogits" not in k}
        torch.save(plain, path)
        fidelity = FeatureExtractorInceptionV3("inception-v3-compat", outputs, path)
        torchmetrics_net = NoTrainInceptionV3("inception-v3-compat", ["2048"], path)
    clean = build_resizer("clean")
    for size, images in (("small", IMAGES), ("large", LARGE)):
        features, logits = fidelity(to_tensor(images))
        resized = np.stack([clean(image) for image in images])
        of_clean = without_resize((to_tensor(resized) - 128) / 128 * 0.5 + 0.5)[0]
        yield f"tf_{size}", features
        yield f"tf_{size}_logits", logits
        yield f"torchmetrics_{size}", torchmetrics_net(to_tensor(images))
        yield f"pytorch_{size}", of_pytorch(to_tensor(images) / 255)[0].flatten(1)
        yield f"clean_{size}", of_clean.flatten(1)


def run_lpips():
    generated, target = (to_tensor(images) / 127.5 - 1 for images in PAIRS)
    features = {
        "alex": torchvision.models.alexnet,
        "vgg": torchvision.models.vgg16,
        "squeeze": torchvision.models.squeezenet1_1,
    }
    for name, make_trunk in features.items():
        trunk = fill(make_trunk(weights=None)).features
        net = lpips.LPIPS(net=name, pnet_rand=True, pretrained=False, verbose=False)
        for i in range(net.net.N_slices):
            for index, layer in getattr(net.net, f"slice{i + 1}").named_children():
                layer.load_state_dict(trunk[int(index)].state_dict())
        heads = {k: tuple(v.shape) for k, v in net.state_dict().items() if k.startswith("lin")}
        heads = {k: v for k, v in heads.items() if not k.startswith("lins")}
        arrays = make_state(heads)
        for layer, lin in enumerate(net.lins):
            weight = torch.from_numpy(arrays[f"lin{layer}.model.1.weight"])
            lin.model[1].weight.data.copy_(weight)
        yield f"lpips_{name}", net(generated, target).flatten()[:, None]


def run_places():
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    to_input = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    )
    net = fill(torchvision.models.alexnet(num_classes=365))
    for size, images in (("small", IMAGES), ("large", LARGE)):
        crops = [crop(transforms.functional.to_pil_image(image)) for image in images]
        logits = net(torch.stack([to_input(image) for image in crops]))
        yield f"places_{size}", torch.softmax(logits, 1)


if __name__ == "__main__":
    golden = {}
    with torch.inference_mode():
        for run in (run_inception, run_lpips, run_places):
            for name, rows in run():
                golden[name] = rows.numpy()[:, ::EVERY].astype(np.float32)
                spread = rows.std(0).mean().item() if len(rows) > 1 else float("nan")
                print(f"{name:24} mean {rows.mean().item():.4g}, spread over images {spread:.4g}")
    np.savez(Path(__file__).with_name("golden.npz"), **golden)
