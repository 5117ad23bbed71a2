"""Metrics by frozen networks and distances between sets, compared with the packages."""

import contextlib
import io
from collections.abc import Callable, Iterator

import numpy as np

from field import inputs, tools
from field.lines import Line, Subject, compare


def compare_scipy(subject: Subject) -> Iterator[Line]:
    """The Frechet distance on random rows of full rank."""
    import scipy.linalg

    del subject
    generated, real = (rows.astype(np.float64) for rows in make_rows(1000, 256))
    product = np.cov(generated, rowvar=False) @ np.cov(real, rowvar=False)
    traces = np.var(generated, axis=0, ddof=1).sum() + np.var(real, axis=0, ddof=1).sum()
    theirs = traces - 2 * np.trace(scipy.linalg.sqrtm(product)).real
    theirs += np.sum((generated.mean(axis=0) - real.mean(axis=0)) ** 2)
    against = f"{tools.describe('scipy')} sqrtm, random rows [1000, 256]"
    yield compare("frechet_distance", against, measure_frechet(generated, real), theirs)


def compare_pytorch_fid(subject: Subject) -> Iterator[Line]:
    """Features and FID; and the FID of the same features without a matrix square root."""
    name = tools.describe("pytorch-fid")
    net = tools.open_pytorch_fid(subject.weights.get("inception"))
    theirs = [tools.run(lambda x: net(x / 255), tools.to_tensor(side)) for side in subject.pair]
    ours = subject.get_features("pytorch")
    yield compare("inception features", name, np.concatenate(ours), np.concatenate(theirs))
    value = measure_by_pytorch_fid(*theirs)
    yield compare("fid", name, measure_frechet(*ours), value)
    value = _measure_frechet_of_few(*theirs)
    against = "singular values of the same features, NumPy"
    yield compare("fid", against, measure_frechet(*theirs), value)


def compare_torch_fidelity(subject: Subject) -> Iterator[Line]:
    """Features and logits; then FID, KID and Inception Score, all from its one function."""
    import torch_fidelity

    name = tools.describe("torch-fidelity")
    state = subject.weights.get("inception")
    net = tools.open_torch_fidelity(state)
    reference = tools.to_tensor(subject.reference)
    for i, output in enumerate(("features", "logits")):
        theirs = tools.run(lambda x, i=i: net(x)[i], reference)
        yield compare(f"inception {output}", name, subject.look("tf")[1][output], theirs)
    num_splits = min(10, len(reference))
    with tools.save(state) as path:
        found = torch_fidelity.calculate_metrics(
            input1=tools.make_dataset(subject.generated),
            input2=tools.make_dataset(subject.reference),
            fid=True,
            kid=True,
            isc=True,
            kid_subsets=1,
            kid_subset_size=len(reference),
            isc_splits=num_splits,
            feature_extractor_weights_path=path,
            batch_size=inputs.NUM_ROWS,
            cuda=False,
            cache=False,
            verbose=False,
            save_cpu_ram=True,  # no worker processes: they would be forks of this process
        )
    ours = subject.get_features("tf")
    yield compare("fid_tf", name, measure_frechet(*ours), found["frechet_inception_distance"])
    value = found["kernel_inception_distance_mean"]
    yield compare("kid, tf", f"{name}, one subset", _measure_kernel(*ours), value)
    value = found["inception_score_mean"]
    yield compare("inception_score", name, _score_inception(subject, num_splits), value)


def compare_torchmetrics(subject: Subject) -> Iterator[Line]:
    """Features, FID, KID and Inception Score, without and with its antialiasing; LPIPS."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    name = tools.describe("torchmetrics")
    state = subject.weights.get("inception")
    tensors = [tools.to_tensor(side) for side in subject.pair]
    features = {}
    for preprocessing, label in (("tf", "antialias=False"), ("torchmetrics", "as it is")):
        net = tools.open_torchmetrics(state, "2048", antialias=preprocessing != "tf")
        theirs = features[preprocessing] = [tools.run(net, tensor) for tensor in tensors]
        ours = subject.get_features(preprocessing)
        label = f"{name}, {label}"
        yield compare("inception features", label, np.concatenate(ours), np.concatenate(theirs))
    given = tools.make_given(2048)
    fid = {n: tools.measure(FrechetInceptionDistance(given), *f) for n, f in features.items()}
    ours = {n: measure_frechet(*subject.get_features(n)) for n in features}
    yield compare("fid_tf", f"{name}, antialias=False", ours["tf"], fid["tf"])
    yield compare("fid_tf", f"{name}, as it is: antialiased", ours["tf"], fid["torchmetrics"])
    label = f"{name}, as it is"
    yield compare("fid, antialiased", label, ours["torchmetrics"], fid["torchmetrics"])
    kid = KernelInceptionDistance(given, subsets=1, subset_size=len(tensors[0]))
    value = tools.measure(kid, *features["tf"])
    label = f"{name}, antialias=False, one subset"
    yield compare("kid, tf", label, _measure_kernel(*subject.get_features("tf")), value)
    net = tools.open_torchmetrics(state, "logits_unbiased", antialias=False)
    value = tools.measure(InceptionScore(given, splits=1), tools.run(net, tensors[0]))
    label = f"{name}, antialias=False, one split"
    yield compare("inception_score", label, _score_inception(subject, 1), value)
    label = f"{name}, as it is: 1e-8 in the root"
    yield from _compare_lpips(subject, label, tools.open_torchmetrics_lpips)
    with tools.leave_out_epsilon():
        label = f"{name}, the 1e-8 left out"
        yield from _compare_lpips(subject, label, tools.open_torchmetrics_lpips)


def compare_clean_fid(subject: Subject) -> Iterator[Line]:
    """The resize; and the features after it, if pytorch-fid is installed for its network."""
    from cleanfid.resize import build_resizer

    from retroguide_jax.metric_nets import inception

    name = tools.describe("clean-fid")
    chosen = inception.PREPROCESSINGS["clean"]
    run = inputs.compile_rows(lambda _, x: {"x": inception.preprocess(x, chosen)})
    ours = run(subject.reference)["x"] * 128.0 + 128.0
    theirs = np.stack(list(map(build_resizer("clean"), subject.reference)))
    yield compare("resized pixels", f"{name}, 0..255", ours, theirs)
    if tools.list_missing("pytorch-fid"):
        return
    net = tools.open_pytorch_fid(subject.weights.get("inception"), resize=False)
    # That network takes [0, 1] and rescales to [-1, 1] by itself.
    theirs = tools.run(lambda x: net((x - 128) / 256 + 0.5), tools.to_tensor(theirs))
    ours = subject.get_features("clean")[1]
    yield compare("inception features", f"{name}'s resize, pytorch-fid's network", ours, theirs)


def compare_lpips(subject: Subject) -> Iterator[Line]:
    """LPIPS with its three trunks."""
    return _compare_lpips(subject, tools.describe("lpips"), tools.open_lpips)


def _compare_lpips(subject: Subject, against: str, open_fn: Callable) -> Iterator[Line]:
    tensors = [tools.to_tensor(side) for side in subject.few]
    for net in ("alex", "vgg", "squeeze"):
        module = open_fn(net, *subject.weights.get_lpips(net))
        theirs = tools.run(lambda *pair, m=module: m(*(x / 127.5 - 1 for x in pair)), *tensors)
        yield compare(f"lpips_{net}", against, subject.measure_lpips(net), theirs.ravel())


def make_rows(num: int, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of random rows, float32 [num, num_features], nonnegative as Inception's are."""
    rng = np.random.default_rng(0)
    sides = rng.normal(0, 1, (2, num, num_features)) * [[[1.0]], [[1.1]]] + [[[0.1]], [[0.2]]]
    return tuple(np.maximum(sides, 0).astype(np.float32))


def measure_frechet(generated: np.ndarray, real: np.ndarray) -> float:
    """Our Frechet distance between features [N, D] each."""
    from retroguide_jax.metrics.distribution import frechet_distance
    from retroguide_jax.metrics.moments import compute_moments

    return frechet_distance(compute_moments(real), compute_moments(generated))


def measure_by_pytorch_fid(generated: np.ndarray, real: np.ndarray) -> float:
    """pytorch-fid's Frechet distance between features [N, D] each, in float64 as in pytorch-fid."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    moments = []
    for side in (generated, real):
        side = side.astype(np.float64)
        moments += [np.mean(side, axis=0), np.cov(side, rowvar=False)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints remarks on singular covariances
        return calculate_frechet_distance(*moments)


def _measure_frechet_of_few(generated: np.ndarray, real: np.ndarray) -> float:
    """tr (S1 S2)^(1/2) is the sum of the singular values of X1 X2^T / sqrt((N-1) (M-1))."""
    means = generated.mean(axis=0, dtype=np.float64), real.mean(axis=0, dtype=np.float64)
    x, y = (
        (side - m) / np.sqrt(len(side) - 1)
        for side, m in zip((generated, real), means, strict=True)
    )
    traces = np.sum(x * x) + np.sum(y * y)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return np.sum((means[0] - means[1]) ** 2) + traces - 2 * root


def _measure_kernel(generated: np.ndarray, real: np.ndarray) -> float:
    from retroguide_jax.metrics.distribution import kernel_distance

    return kernel_distance(real, generated).value


def _score_inception(subject: Subject, num_splits: int) -> float:
    from retroguide_jax.metrics.classification import compute_probabilities
    from retroguide_jax.metrics.distribution import inception_score

    logits = subject.look("tf")[0]["logits"]
    return inception_score(compute_probabilities(logits), num_splits).value
