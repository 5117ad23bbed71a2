"""One case of the comparison: both sides get the same inputs and name their results alike."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from parity_cases import arrays, precision

Results = dict[str, np.ndarray]


class Case(NamedTuple):
    """`ours` and `theirs`: floating type -> arrays by name, with PyTorch's order of axes."""

    name: str
    ours: Callable[[np.dtype], Results]
    theirs: Callable[[np.dtype], Results]


class Difference(NamedTuple):
    """max |a - b| / max |a| of the worst output and the worst gradient of a case, with their names.

    `vanished`: gradients that are zero up to rounding on both sides, for example of a bias before
    an instance normalisation. Their quotient would be meaningless.
    """

    output: float
    output_name: str
    gradient: float
    gradient_name: str
    vanished: list[str]


class _Twin:
    """The modules of torch_reference, imported on first use: our side needs no PyTorch."""

    def __getattr__(self, name: str):
        return importlib.import_module(f"torch_reference.{name}")


twin = _Twin()


def pair(
    name: str,
    inputs: Mapping[str, np.ndarray],
    ours: Callable[..., Mapping[str, Any]],
    theirs: Callable[..., Mapping[str, Any]],
    module: nn.Module | None = None,
    make_twin: Callable[[], Any] | None = None,
    touch: Callable[..., Any] | None = None,
    train: bool = False,
    by_inputs: bool = True,
) -> Case:
    """Makes a case from two functions of the same inputs.

    Results are outputs; the gradients of their product with random arrays, with respect to every
    parameter ("d NAME") and input ("d input NAME"); and running statistics.

    Args:
      name: of the case.
      inputs: arrays with our order of axes, to differentiate with respect to.
      ours: (bound Linen module, *inputs) -> {name: array}; without a module (*inputs).
      theirs: (PyTorch module, *inputs) -> {name: tensor}, likewise.
      module: of Linen.
      make_twin: makes the PyTorch module.
      touch: initialises the Linen module where `ours` cannot, because it differentiates.
      train: the mode of the PyTorch module.
      by_inputs: whether to differentiate with respect to the inputs too.
    """
    num_inputs = len(inputs) if by_inputs else 0

    def run_ours(dtype: np.dtype) -> Results:
        with precision.use(dtype):
            values = [array.astype(dtype) for array in inputs.values()]
            wide = module and precision.widen(module, dtype)
            variables = module and _draw_variables(wide, touch or ours, values, dtype)
            values = dict(zip(inputs, values, strict=True))
            return _run_ours(wide, variables, ours, values, num_inputs)

    def run_theirs(dtype: np.dtype) -> Results:
        values = {name: array.astype(dtype) for name, array in inputs.items()}
        instance = make_twin and make_twin()
        if instance is not None:
            shaped = [array.astype(np.float32) for array in values.values()]
            variables = _draw_variables(module, touch or ours, shaped, dtype)
            state = {k: v for tree in variables.values() for k, v in arrays.flatten(tree).items()}
            arrays.load(instance.train(train), state, dtype)
        with precision.use(dtype):
            return _run_theirs(instance, theirs, values, num_inputs)

    return Case(name, run_ours, run_theirs)


def compare(ours: Results, theirs: Results) -> Difference:
    """The largest relative differences; both must have the same names and shapes."""
    if ours.keys() != theirs.keys():
        raise ValueError(f"results differ in {sorted(ours.keys() ^ theirs.keys())}")
    gradients = {name for name in ours if name.startswith("d ")}
    largest = max((np.abs(ours[name]).max(initial=0.0) for name in gradients), default=0.0)
    floor = largest * 300 * np.finfo(next(iter(ours.values())).dtype).eps
    worst = {True: (0.0, ""), False: (0.0, "")}
    vanished = []
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            raise ValueError(f"{name}: shapes {a.shape} and {b.shape}")
        size, is_gradient = np.abs(a).max(initial=0.0), name in gradients
        if is_gradient and max(size, np.abs(b).max(initial=0.0)) <= floor:
            vanished.append(name)
            continue
        change = np.abs(a - b).max(initial=0.0)
        relative = float(change / size) if change else 0.0
        worst[is_gradient] = max(worst[is_gradient], (relative, name))
    return Difference(*worst[False], *worst[True], vanished)


def _draw_variables(module: nn.Module, touch, values: list[np.ndarray], dtype: np.dtype):
    shapes = jax.eval_shape(nn.init(touch, module), jax.random.key(0), *values)
    return arrays.draw_variables(shapes, dtype)


def _run_ours(module, variables, fn, inputs: Results, num_inputs: int) -> Results:
    variables = dict(variables or {})
    params = variables.pop("params", {})

    def objective(params, values):
        if module is None:
            outputs, stats = fn(*values), {}
        else:
            apply = nn.apply(fn, module, mutable=["batch_stats"])
            outputs, updated = apply({"params": params, **variables}, *values)
            stats = updated.get("batch_stats", {})
        total = sum(
            (out * arrays.draw(name, out.shape).astype(out.dtype)).sum()
            for name, out in outputs.items()
        )
        return total, (outputs, stats)

    run = jax.jit(jax.grad(objective, (0, 1), has_aux=True))
    (grads, input_grads), (outputs, stats) = jax.device_get(run(params, list(inputs.values())))
    results = {name: arrays.swap(np.asarray(out)) for name, out in outputs.items()}
    results |= arrays.flatten(stats)
    results |= {f"d {name}": grad for name, grad in arrays.flatten(grads).items()}
    for name, grad in list(zip(inputs, input_grads, strict=True))[:num_inputs]:
        results[f"d input {name}"] = arrays.swap(grad)
    return results


def _run_theirs(module, fn, inputs: Results, num_inputs: int) -> Results:
    import torch

    values = {
        name: torch.from_numpy(np.array(arrays.swap(array))).requires_grad_(i < num_inputs)
        for i, (name, array) in enumerate(inputs.items())
    }
    params = dict(module.named_parameters()) if module is not None else {}
    outputs = fn(module, *values.values()) if module is not None else fn(*values.values())
    total = 0.0
    for name, out in outputs.items():
        shape = tuple(out.shape)
        if len(shape) == 4:
            shape = (shape[0], *shape[2:], shape[1])
        weights = arrays.swap(arrays.draw(name, shape))
        total = total + (out * torch.from_numpy(weights.copy()).to(out.dtype)).sum()
    leaves = {f"d {name}": param for name, param in params.items()}
    leaves |= {f"d input {name}": x for name, x in values.items() if x.requires_grad}
    grads = ()
    if leaves:
        grads = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    found = outputs | dict(zip(leaves, grads, strict=True))
    if module is not None:
        found |= dict(module.named_buffers())
    return {name: tensor.detach().numpy() for name, tensor in found.items()}
