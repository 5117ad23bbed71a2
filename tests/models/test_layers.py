import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retroguide_jax.errors import UserError
from retroguide_jax.models import attentional_adain, resampling
from retroguide_jax.models.attentional_adain import AttentionalAdaIN
from retroguide_jax.models.layers import Conv, NoiseInjection, instance_norm
from retroguide_jax.models.region_modulation import RegionMask, RegionModulation
from retroguide_jax.models.resampling import upsample

RNG = np.random.default_rng(0)
H = RNG.normal(2.0, 3.0, (2, 4, 8, 6)).astype(np.float32)
EMBEDDING, STYLE = RNG.normal(size=(2, 2, 5)).astype(np.float32)
TOKENS = RNG.normal(size=(2, 4, 7)).astype(np.float32)
FORMS = ("mask", "channel", "tokens", "rays", "plain")


def normalise(h):
    h = np.asarray(h, np.float64)
    return (h - h.mean((1, 2), keepdims=True)) / np.sqrt(h.var((1, 2), keepdims=True) + 1e-5)


def init(module, *args):
    """The module's parameters, all random, so that no initial value hides a mistake."""
    params = jax.eval_shape(lambda: module.init(jax.random.key(0), *args))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)


def apply(module, params, *args):
    return np.asarray(jax.jit(module.apply)({"params": params}, *args))


@pytest.mark.parametrize(("kernel_size", "strides"), [(1, 1), (3, 1), (3, 2), (7, 1)])
def test_circular_convolution_commutes_with_rolling(kernel_size, strides):
    conv = Conv(5, kernel_size, strides, circular=True)
    params = init(conv, H)
    out = apply(conv, params, H)
    assert out.shape == (2, 4 // strides, 8 // strides, 5)
    rolled = apply(conv, params, np.roll(H, 3 * strides, 2))
    np.testing.assert_allclose(rolled, np.roll(out, 3, 2), rtol=1e-4, atol=1e-4)


def test_zero_padded_convolution_does_not_commute_with_rolling():
    conv = Conv(5)
    params = init(conv, H)
    out, rolled = apply(conv, params, H), apply(conv, params, np.roll(H, 3, 2))
    assert np.abs(rolled - np.roll(out, 3, 2)).max() > 1.0
    # Only the columns that touch an edge, before or after, may differ.
    np.testing.assert_allclose(rolled[:, :, 4:7], out[:, :, 1:4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("circular", [False, True])
def test_rows_are_never_circular(circular):
    conv = Conv(5, circular=circular)
    params = init(conv, H)
    out, rolled = apply(conv, params, H), apply(conv, params, np.roll(H, 1, 1))
    assert np.abs(rolled - np.roll(out, 1, 1)).max() > 1.0


def test_upsample_is_bilinear_and_wraps():
    expected = jax.image.resize(H, (2, 8, 16, 6), "bilinear")
    np.testing.assert_allclose(upsample(H), expected, rtol=1e-5, atol=1e-5)
    wrapped = np.concatenate([H[:, :, -1:], H, H[:, :, :1]], 2)
    expected = jax.image.resize(wrapped, (2, 8, 20, 6), "bilinear")[:, :, 2:-2]
    np.testing.assert_allclose(upsample(H, circular=True), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("axis", "circular"), [(1, False), (2, False), (2, True)])
def test_tpus_upsample_by_products_with_the_same_result(axis, circular):
    doubled = resampling._double_by_shifts(H, axis, circular)
    np.testing.assert_allclose(
        resampling._double_by_product(H, axis, circular), doubled, rtol=1e-5, atol=1e-5
    )
    halved = resampling._halve_by_product(doubled, axis, circular)
    expected = resampling._halve_by_shifts(doubled, axis, circular)
    np.testing.assert_allclose(halved, expected, rtol=1e-5, atol=1e-5)


def test_downsample_is_the_mean_of_blocks():
    expected = np.stack([H[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(0)
    np.testing.assert_allclose(resampling.downsample(H), expected, rtol=1e-5)
    # As TPUs compute it for images.
    np.testing.assert_allclose(resampling._mean_by_products(H), expected, rtol=1e-5)


def test_joined_dense_is_dense_of_both():
    """With the same parameters, whose names are those of `nn.Dense`."""
    everywhere = np.broadcast_to(STYLE[:, None, None], (*H.shape[:3], STYLE.shape[-1]))
    dense = nn.Dense(4)
    params = init(dense, np.concatenate([H, everywhere], -1))
    expected = apply(dense, params, np.concatenate([H, everywhere], -1))
    joined = attentional_adain.JoinedDense(4, nn.initializers.zeros)
    assert jax.tree.map(np.shape, init(joined, H, STYLE)) == jax.tree.map(np.shape, params)
    np.testing.assert_allclose(apply(joined, params, H, STYLE), expected, rtol=1e-4, atol=1e-5)


def test_instance_norm_takes_statistics_in_float32():
    np.testing.assert_allclose(instance_norm(H), normalise(H), rtol=1e-4, atol=1e-4)
    # A mean far from zero: statistics taken in bfloat16 (8 bits) would be all wrong.
    large = jnp.asarray(H + 300.0, jnp.bfloat16)
    out = instance_norm(large)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(np.float32), normalise(large), rtol=1e-2, atol=1e-2)


def make_adain(form):
    return AttentionalAdaIN(form, circular=True, token_grid=(2, 2))


@pytest.mark.parametrize("form", FORMS)
def test_zero_modulation_is_identity(form):
    module = make_adain(form)
    args = (H, EMBEDDING, TOKENS, STYLE)
    params = init(module, *args)
    affine = {"plain", "context", "semantic", "style"}
    zeroed = {
        name: jax.tree.map(np.zeros_like, leaf) if name in affine else leaf
        for name, leaf in params.items()
    }
    assert affine & params.keys()
    np.testing.assert_allclose(apply(module, zeroed, *args), normalise(H), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_what_each_form_depends_on(form):
    module = make_adain(form)
    params = init(module, H, EMBEDDING, TOKENS, STYLE)
    apply_fn = jax.jit(module.apply)
    base = apply_fn({"params": params}, H, EMBEDDING, TOKENS, STYLE)

    def change(embedding=EMBEDDING, tokens=TOKENS, style=STYLE):
        changed = apply_fn({"params": params}, H, embedding, tokens, style)
        return np.abs(changed - base).max() > 1e-3

    attends = form in ("tokens", "rays")
    assert change(embedding=-EMBEDDING) != attends
    assert change(tokens=-TOKENS) == attends
    assert change(style=-STYLE)


@pytest.mark.parametrize("form", ["mask", "channel"])
@pytest.mark.parametrize("open_to", ["semantic", "style"])
def test_gate_of_one_and_zero(form, open_to):
    module = AttentionalAdaIN(form)
    args = (H, EMBEDDING, TOKENS, STYLE)
    params = init(module, *args)
    bias = 100.0 if open_to == "semantic" else -100.0
    gate = jax.tree.map(np.zeros_like, params["gate"])
    params["gate"] = gate | {"bias": np.full_like(gate["bias"], bias)}
    condition = EMBEDDING if open_to == "semantic" else STYLE
    dense = params[open_to]["Dense_0"]
    gamma, beta = np.split(condition @ dense["kernel"] + dense["bias"], 2, -1)
    expected = (1 + gamma)[:, None, None] * normalise(H) + beta[:, None, None]
    np.testing.assert_allclose(apply(module, params, *args), expected, rtol=1e-3, atol=1e-3)


def test_rays_see_only_what_lies_in_their_direction():
    module = AttentionalAdaIN("rays", circular=True, token_grid=(4, 4), attention_width=4)
    tokens = RNG.normal(size=(2, 4, 4, 7)).astype(np.float32)
    params = init(module, H, EMBEDDING, tokens.reshape(2, 16, 7), STYLE)
    before = apply(module, params, H, EMBEDDING, tokens.reshape(2, 16, 7), STYLE)
    tokens[:, 0, 3] += 1.0  # the north-east corner
    after = apply(module, params, H, EMBEDDING, tokens.reshape(2, 16, 7), STYLE)
    changed = np.abs(after - before).max((0, 1, 3)) > 1e-5
    # Columns look 22.5 degrees beside S, SW, W, NW, N, NE, E and SE, clockwise.
    assert changed.tolist() == [False] * 4 + [True, True] + [False] * 2


def test_places_of_an_aerial_image_see_the_column_in_their_direction():
    module = AttentionalAdaIN("rays", token_grid=(2, 8), attention_width=4)
    h = RNG.normal(size=(2, 4, 4, 6)).astype(np.float32)
    tokens = RNG.normal(size=(2, 2, 8, 7)).astype(np.float32)
    params = init(module, h, EMBEDDING, tokens.reshape(2, 16, 7), STYLE)
    before = apply(module, params, h, EMBEDDING, tokens.reshape(2, 16, 7), STYLE)
    tokens[:, 0, 4] += 1.0  # north to north-east
    after = apply(module, params, h, EMBEDDING, tokens.reshape(2, 16, 7), STYLE)
    changed = np.abs(after - before).max((0, 3)) > 1e-5
    # Its centre is at 22.5 degrees; directions within 45 degrees of it take part in it.
    expected = [[False, True, True, True], [False, False, True, False], [False] * 4, [False] * 4]
    assert changed.tolist() == expected


def test_attention_is_that_of_the_formula():
    module = AttentionalAdaIN("tokens", attention_width=4)
    args = (H, EMBEDDING, TOKENS, STYLE)
    p = init(module, *args)

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    h = normalise(H)
    logits = np.einsum("bhwd,bnd->bhwn", dense(h, p["query"]), dense(TOKENS, p["key"])) / 2.0
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    context = np.einsum("bhwn,bnd->bhwd", weights, dense(TOKENS, p["value"]))
    style = np.broadcast_to(STYLE[:, None, None], (*H.shape[:3], 5))
    out = dense(np.concatenate([context, style], -1), p["context"]["Dense_0"])
    gamma, beta = np.split(out, 2, -1)
    expected = (1 + gamma) * h + beta
    np.testing.assert_allclose(apply(module, p, *args), expected, rtol=1e-3, atol=1e-3)


def test_unknown_form():
    with pytest.raises(UserError, match="nosuch"):
        AttentionalAdaIN("nosuch").init(jax.random.key(0), H, EMBEDDING, TOKENS, STYLE)


@pytest.mark.parametrize("num_regions", [0, 1, 3])
def test_region_mask(num_regions):
    module = RegionMask(num_regions, width=4)
    params = {} if num_regions == 0 else init(module, H)
    mask = apply(module, params, H)
    assert mask.shape == (2, 4, 8, max(1, num_regions))
    assert (mask >= 0).all() and (mask <= 1).all()
    if num_regions == 1:
        assert mask.std() > 0.01
    else:
        np.testing.assert_allclose(mask.sum(-1), 1.0, rtol=1e-5)


def test_region_modulation_starts_as_instance_norm():
    module = RegionModulation(hidden=4)
    mask = RNG.uniform(size=(2, 4, 8, 2)).astype(np.float32)
    variables = module.init(jax.random.key(0), H, mask, EMBEDDING)
    out = module.apply(variables, H, mask, EMBEDDING)
    np.testing.assert_allclose(out, normalise(H), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("num_regions", [1, 3])
def test_region_modulation_respects_its_masks(num_regions):
    module = RegionModulation(hidden=4)
    mask = np.zeros((2, 4, 8, num_regions), np.float32)
    params = init(module, H, mask, EMBEDDING)
    np.testing.assert_allclose(
        apply(module, params, H, mask, EMBEDDING), normalise(H), rtol=1e-3, atol=1e-4
    )
    first, second = params["Dense_0"], params["Dense_1"]
    x = EMBEDDING @ first["kernel"] + first["bias"]
    x = np.where(x > 0, x, 0.2 * x) @ second["kernel"] + second["bias"]
    gamma, beta = np.split(x.reshape(2, num_regions, 12), 2, -1)
    mask = RNG.uniform(size=mask.shape).astype(np.float32)
    mask[:, 0], mask[:, 1] = 0.0, 1.0
    gamma, beta = (np.einsum("bhwk,bkc->bhwc", mask, m) for m in (gamma, beta))
    expected = (1 + gamma) * normalise(H) + beta
    out = apply(module, params, H, mask, EMBEDDING)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(out[:, 0], normalise(H)[:, 0], rtol=1e-3, atol=1e-4)


def test_noise_starts_at_zero_and_belongs_to_its_image():
    module = NoiseInjection()
    keys = jax.random.split(jax.random.key(3), 2)
    variables = module.init(jax.random.key(0), H, keys)
    np.testing.assert_array_equal(module.apply(variables, H, keys), H)
    variables = {"params": {"scale": np.arange(6, dtype=np.float32)}}
    out = module.apply(variables, H, keys)
    np.testing.assert_array_equal(out[..., 0], H[..., 0])
    noise = np.asarray(out - H)
    np.testing.assert_allclose(noise[..., 4], 2 * noise[..., 2], rtol=1e-3, atol=1e-4)
    assert np.abs(noise[0] - noise[1]).max() > 0.1
    alone = module.apply(variables, H[1:], keys[1:])
    np.testing.assert_allclose(alone[0], out[1], rtol=1e-6)
    np.testing.assert_array_equal(module.apply(variables, H, None), H)


@pytest.mark.parametrize(
    "module", [Conv(4), nn.Dense(4), RegionMask(1, 4), AttentionalAdaIN("tokens")]
)
def test_parameters_stay_float32_under_bfloat16(module):
    module = module.clone(dtype=jnp.bfloat16)
    h = jnp.asarray(H, jnp.bfloat16)
    conditions = isinstance(module, AttentionalAdaIN)
    args = (h, EMBEDDING, TOKENS, STYLE) if conditions else (h,)
    out, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *args))
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("circular", [False, True])
def test_the_gradient_of_upsampling_is_its_transpose(circular):
    grad = RNG.normal(size=(2, 8, 16, 6)).astype(np.float32)
    (found,) = jax.vjp(lambda h: upsample(h, circular), H)[1](grad)
    # Linear: its value at a unit map, weighed with the gradient, is one entry of the transpose.
    units = np.eye(4 * 8, dtype=np.float32).reshape(32, 4, 8, 1)
    columns = np.asarray(upsample(units, circular))[..., 0]
    expected = np.einsum("nhw,bhwc->bnc", columns, grad).reshape(2, 4, 8, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
