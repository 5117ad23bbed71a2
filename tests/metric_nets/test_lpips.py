import jax
import numpy as np
import pytest
from random_weights import make_images

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets import lpips
from retroguide_jax.metric_nets.torchvision_nets import TRUNKS

# The lpips package on these images (make_golden.py).
GENERATED = make_images(2, 64, 96, seed=2)
TARGET = make_images(2, 64, 96, seed=3)


@pytest.mark.parametrize("name", TRUNKS)
def test_distance_is_the_packages(make_random_lpips, golden, name):
    net = make_random_lpips(name)
    apply = jax.jit(net.apply)
    distance = apply(net.variables, GENERATED, TARGET)["distance"]
    np.testing.assert_allclose(distance, golden[f"lpips_{name}"][:, 0], rtol=1e-5)
    same = apply(net.variables, GENERATED, GENERATED)["distance"]
    np.testing.assert_array_equal(same, [0, 0])


def test_rows_do_not_depend_on_each_other(make_random_lpips):
    net = make_random_lpips("alex")
    apply = jax.jit(net.apply)
    both = apply(net.variables, GENERATED, TARGET)["distance"]
    turned = apply(net.variables, GENERATED[::-1], TARGET[::-1])["distance"]
    np.testing.assert_allclose(both, turned[::-1], rtol=1e-6)


@pytest.mark.parametrize("name", TRUNKS)
def test_smallest_images(make_random_lpips, name):
    net, size = make_random_lpips(name), TRUNKS[name].min_size
    smallest = jax.eval_shape(net.apply, net.variables, *2 * [np.zeros((1, size, 90, 3), np.uint8)])
    assert smallest["distance"].shape == (1,)
    shapes = jax.eval_shape(
        lambda x: TRUNKS[name].run(lpips.Layers(net.variables), x), np.zeros((1, size, size, 3))
    )
    assert shapes[-1].shape[1:3] == (1, 1)
    too_small = np.zeros((1, 90, size - 1, 3), np.uint8)
    with pytest.raises(UserError, match=f"at least {size} x {size} pixels, got 90 x {size - 1}"):
        net.apply(net.variables, too_small, too_small)


def test_wrong_weights_are_named(make_lpips_states):
    trunk, heads = make_lpips_states("alex")
    with pytest.raises(UserError, match="squeezenet1_1.*features.0.weight is"):
        lpips.make_lpips("squeeze", trunk, heads)
    with pytest.raises(UserError, match=r"alex.pth: lin0.model.1.weight is missing"):
        lpips.make_lpips("alex", trunk, {})
    with pytest.raises(UserError, match="'resnet'; there are alex, vgg, squeeze"):
        lpips.make_lpips("resnet", trunk, heads)


def test_alexnet_is_pytorchs(make_lpips_states, make_random_lpips):
    """Beside a live PyTorch, layer by layer as torchvision defines them."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    )  # fmt: skip
    state = make_lpips_states("alex")[0]
    features.load_state_dict(
        {name.removeprefix("features."): torch.from_numpy(array) for name, array in state.items()}
    )
    x = make_images(1, 128, 512).astype(np.float32) / 127.5 - 1
    with torch.inference_mode():
        theirs = features(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    variables = make_random_lpips("alex").variables
    ours = jax.jit(lambda v, x: TRUNKS["alex"].run(lpips.Layers(v), x)[-1])(variables, x)
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
