import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import make_images

from retroguide_jax.errors import UserError
from retroguide_jax.metric_nets import inception

# pytorch-fid, torch-fidelity, torchmetrics, clean-fid, on these images (make_golden.py).
SMALL = make_images(2, 70, 150)
LARGE = make_images(1, 360, 330, seed=1)


def test_features_are_those_of_the_fields_packages(inception_state, golden):
    variables = inception.convert_inception(inception_state)
    names = list(inception.PREPROCESSINGS)
    rows = [
        inception.preprocess(images, inception.PREPROCESSINGS[name])
        for name in names
        for images in (SMALL, LARGE)
    ]
    features = jax.jit(inception.compute_features)(variables, jnp.concatenate(rows))
    theirs = [golden[f"{name}_{size}"] for name in names for size in ("small", "large")]
    np.testing.assert_allclose(features[:, ::16], np.concatenate(theirs), rtol=1e-4, atol=1e-5)


def test_preprocessings_differ(golden):
    """The agreement above is meaningful: mixing up two preprocessings gives a far larger error."""
    for name in set(inception.PREPROCESSINGS) - {"clean"}:
        difference = golden[f"{name}_large"] - golden["clean_large"]
        assert np.abs(difference).max() > 1e-3


def test_network(inception_state, golden):
    net = inception.make_inception(inception_state, "tf")
    outputs = jax.jit(net.apply)(net.variables, SMALL)
    assert outputs["features"].shape == (2, 2048) and outputs["logits"].shape == (2, 1008)
    np.testing.assert_allclose(outputs["logits"][:, ::16], golden["tf_small_logits"], atol=1e-5)
    assert net.name == "inception_tf" and "torch-fidelity" in net.protocol and not net.on_host


def test_fingerprint_covers_weights_and_preprocessing(inception_state):
    changed = dict(inception_state)
    changed["Mixed_7c.branch_pool.bn.running_var"] = (
        inception_state["Mixed_7c.branch_pool.bn.running_var"] * 1.001
    )
    fingerprints = [
        inception.make_inception(state, preprocessing).fingerprint
        for state, preprocessing in (
            (inception_state, "tf"),
            (inception_state, "tf"),
            (inception_state, "clean"),
            (changed, "tf"),
        )
    ]
    assert fingerprints[0] == fingerprints[1] and len(set(fingerprints)) == 3


def test_what_is_not_needed_is_left_out(inception_state):
    extra = inception_state | {"AuxLogits.fc.weight": np.zeros((1000, 768), np.float32)}
    variables = inception.convert_inception(extra)
    assert len(variables) == 2 * 94 + 1 and "fc.bias" not in variables


def test_wrong_weights_are_named(inception_state):
    torchvisions = inception_state | {"fc.weight": np.zeros((1000, 2048), np.float32)}
    with pytest.raises(UserError, match=r"fc.weight is \[1000, 2048\], not \[1008, 2048\]"):
        inception.make_inception(torchvisions, "pytorch")
    cut = dict(list(inception_state.items())[:-7])
    with pytest.raises(UserError, match="branch3x3dbl_3a.bn.running_mean is missing.*and 2 more"):
        inception.make_inception(cut, "pytorch")
    with pytest.raises(UserError, match="'legacy'; there are pytorch, tf"):
        inception.make_inception(inception_state, "legacy")
