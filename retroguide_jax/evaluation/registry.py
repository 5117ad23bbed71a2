"""All metrics by protocol-qualified name, each with its definition, source and requirements.

One name, one protocol: what papers call PSNR, SD, SSIM and FID differs by more than the methods
that they compare, so a number without its protocol cannot be compared with any other.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.scores import UNVERIFIED, Score
from retroguide_jax.text import find_nearest


@dataclasses.dataclass(frozen=True)
class Metric:
    """An entry of the registry.

    Attributes:
      group: which part of the job computes it: "pair" (image against target, per image), "masked"
        (the same without the sky), "alone" (of one image), "lpips", "distribution" (of a set of
        images), "classifier", "retrieval", "noise" (over the noises of one source), "layout".
      better: "higher" or "lower"; "one" where 1 is best.
      unit: "dB", "" and so on.
      text: formula and source in one line; the function's docstring has the details.
      net: the frozen network it uses, a name of `nets.open_nets`; "" for none.
      floors: whether it is also computed for the image of another source and for the mean image.
      parts: name -> `better` of each of its scores, where it has several with their own names.
    """

    group: str
    better: str
    text: str
    unit: str = ""
    net: str = ""
    floors: bool = False
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)


_X_FORK = "X-Fork's Lua script, also SelectionGAN, CrossMLP, PanoGAN"
METRICS: dict[str, Metric] = {
    "psnr": Metric(
        "pair", "higher", "-10 log10 MSE on [0, 1], mean over images", "dB", floors=True
    ),
    "psnr_legacy": Metric(
        "pair", "higher", f"10 log10(255^2 / (128^2 MSE)) = psnr + 5.986; {_X_FORK}", "dB"
    ),
    "rmse": Metric("pair", "lower", "root of the MSE on 0..255; Shi et al., Sat2Density"),
    "ssim_rgb": Metric(
        "pair",
        "higher",
        "Gaussian 11 x 11, valid, mean of RGB; tf.image.ssim, pytorch_msssim, Sat2Density",
        floors=True,
    ),
    "ssim_lua": Metric("pair", "higher", f"luma, Gaussian 11 x 11, zero-padded full; {_X_FORK}"),
    "ssim_skimage": Metric(
        "pair", "higher", "uniform 7 x 7, sample covariance, mean of RGB; scikit-image, GPG2A"
    ),
    "ssim_skimage_luma": Metric("pair", "higher", "the same on luma, data range 1; SkyDiffusion"),
    "sd_lua": Metric("pair", "higher", f"sharpness difference of |gradients|; {_X_FORK}", "dB"),
    "sd_shi": Metric(
        "pair", "higher", "sharpness difference of signed gradients; Shi et al.", "dB"
    ),
    "sd_s2d": Metric(
        "pair", "higher", "sharpness difference of summed |gradients|; Sat2Density", "dB"
    ),
    "sd_sky": Metric("pair", "higher", "sharpness difference by Sobel on grey; SkyDiffusion", "dB"),
    "psnr_nosky": Metric("masked", "higher", "psnr of the pixels that are not sky", "dB"),
    "ssim_rgb_nosky": Metric("masked", "higher", "ssim_rgb at the positions that are not sky"),
    "sharpness_ratio": Metric(
        "alone", "one", "mean gradient magnitude of the luma, generated / real"
    ),
    "seam_error": Metric(
        "alone", "lower", "step from last to first column / step between neighbours; 1: no seam"
    ),
    "broken_share": Metric(
        "alone",
        "lower",
        "images whose saturation, blocks or spectrum no real image has; _real: false alarms",
    ),
    "lpips_alex": Metric(
        "lpips", "lower", "LPIPS v0.1, AlexNet; Zhang et al. 2018", net="lpips_alex"
    ),
    "lpips_vgg": Metric("lpips", "lower", "LPIPS v0.1, VGG16; Zhang et al. 2018", net="lpips_vgg"),
    "lpips_squeeze": Metric(
        "lpips", "lower", "LPIPS v0.1, SqueezeNet; Zhang et al. 2018", net="lpips_squeeze"
    ),
    "fid": Metric(
        "distribution",
        "lower",
        "FID as pytorch-fid: Inception 2015-12-05, bilinear to 299",
        net="inception_pytorch",
    ),
    "kid": Metric(
        "distribution",
        "lower",
        "unbiased MMD^2, cubic kernel, on the features of fid",
        net="inception_pytorch",
    ),
    "clean_fid": Metric(
        "distribution",
        "lower",
        "FID as clean-fid: bicubic with antialiasing to 299",
        net="inception_clean",
    ),
    "clean_kid": Metric(
        "distribution", "lower", "KID on the features of clean_fid; Sat3DGen", net="inception_clean"
    ),
    "fid_tf": Metric(
        "distribution",
        "lower",
        "FID as torch-fidelity and the TF code before it: TF1's bilinear to 299",
        net="inception_tf",
    ),
    "fid_torchmetrics": Metric(
        "distribution",
        "lower",
        "FID as torchmetrics: bilinear with antialiasing to 299",
        net="inception_torchmetrics",
    ),
    "inception_score": Metric(
        "distribution",
        "higher",
        "exp of the mean KL to the marginal; torch-fidelity's features",
        net="inception_tf",
    ),
    "kl_places": Metric(
        "classifier",
        "lower",
        "exp mean KL(generated || real), AlexNet-Places365; X-Fork",
        net="places",
    ),
    "accuracy_places": Metric(
        "classifier",
        "higher",
        "same class as the real image, top 1 and 5, all and sure; X-Fork",
        net="places",
    ),
    "inception_score_places": Metric(
        "classifier",
        "higher",
        "Inception Score on AlexNet-Places365, all, top 1, top 5",
        net="places",
    ),
    "retrieval": Metric(
        "retrieval", "higher", "R@k of the generated image among the real sources, by each judge"
    ),
    "retrieval_same_view": Metric(
        "retrieval", "higher", "R@k of the generated image among the real targets"
    ),
    "retrieval_reverse": Metric(
        "retrieval", "higher", "R@k of the real source among the generated images"
    ),
    "fd_judge": Metric(
        "distribution",
        "lower",
        "Frechet distance on the embeddings of the target view by each judge; also by --features",
    ),
    "diversity": Metric("noise", "higher", "mean pairwise RMS pixel distance over the noises"),
    "diversity_lpips_alex": Metric(
        "noise",
        "higher",
        "mean pairwise lpips_alex over the noises; Zhu et al. 2017 (BicycleGAN)",
        net="lpips_alex",
    ),
    "sky_spread_ratio": Metric(
        "noise", "one", "spread of the sky's colour over the noises / over the real images"
    ),
    "layout": Metric(
        "layout",
        "higher",
        "labels and depth read off the image against the true ones and between two noises; the "
        "light's and the facades' spread as sky_spread_ratio",
        parts={
            "label_agreement": "higher",
            "mean_iou": "higher",
            "skyline_error": "lower",
            "depth_error": "lower",
            "label_consistency": "higher",
            "light_spread_ratio": "one",
            "facade_spread_ratio": "one",
        },
    ),
}

# Metrics that need no downloaded weights; their table fits on a screen.
DEFAULT = tuple(
    name
    for name, metric in METRICS.items()
    if metric.group in ("pair", "masked", "alone", "noise") and not metric.net
) + ("retrieval", "fd_judge")

# The metrics that papers of each family report, in their order.
PRESETS: dict[str, tuple[str, ...]] = {
    "legacy_gan": (
        "inception_score_places", "accuracy_places", "kl_places", "ssim_lua", "psnr_legacy",
        "sd_lua",
    ),
    "shi": ("rmse", "ssim_rgb", "psnr", "sd_shi", "lpips_alex", "lpips_squeeze"),
    "sat2density": (
        "psnr", "ssim_rgb", "sd_s2d", "lpips_alex", "lpips_squeeze", "clean_fid", "clean_kid",
    ),
    "diffusion": ("fid", "ssim_skimage_luma", "psnr", "sd_sky", "lpips_alex"),
}  # fmt: skip


def choose_metrics(
    names: str | None, preset: str | None = None, flag: str = "--metrics"
) -> tuple[str, ...]:
    """The metrics that --metrics=a,b,c and --preset=NAME request, in that order.

    Args:
      names: comma-separated; "all" stands for every metric, "default" for `DEFAULT`.
      preset: of `PRESETS`.
      flag: the flag to name in errors.

    Raises:
      UserError: a name is that of no metric or preset.
    """
    if preset is not None and preset not in PRESETS:
        raise UserError(f"--preset={preset}: {_suggest(preset, PRESETS)}")
    chosen = list(PRESETS[preset]) if preset else []
    for name in names.split(",") if names else [] if preset else ["default"]:
        if name.strip() in ("all", "default"):
            chosen += METRICS if name.strip() == "all" else DEFAULT
        elif name.strip() in METRICS:
            chosen.append(name.strip())
        else:
            raise UserError(f"{flag}={name.strip()}: no such metric; {_suggest(name, METRICS)}")
    return tuple(dict.fromkeys(chosen))


def list_group(names: Sequence[str], *groups: str) -> list[str]:
    """Those of `names` that belong to one of the groups."""
    return [name for name in names if METRICS[name].group in groups]


def list_weights(net: str) -> tuple[str, ...]:
    """Catalog names of the weight files of a network."""
    kind, _, variant = net.partition("_")
    if kind == "lpips":
        return {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}[variant], net
    return ("places_alexnet",) if kind == "places" else (kind,)


def find_metric(score: Score) -> str | None:
    """The metric that a score belongs to: "layout" for `Score("mean_iou")`.

    None for scores by a classifier of the user and for names that this version does not know.
    """
    stem = score.metric.removeprefix(UNVERIFIED)
    if score.judge == "places" and stem in _OF_PLACES:
        return _OF_PLACES[stem]
    if stem == "fd" and score.judge:
        return "fd_judge"
    if stem.startswith(_BY_RANK):
        kinds = ("retrieval_same_view", "retrieval_reverse")
        return next((k for k in kinds if stem.endswith(k.removeprefix("retrieval"))), "retrieval")
    if stem in METRICS and not score.judge:
        return stem
    return next((name for name, metric in METRICS.items() if stem in metric.parts), None)


_OF_PLACES = {"kl": "kl_places"}
_OF_PLACES |= dict.fromkeys(("top1", "top5", "top1_sure", "top5_sure"), "accuracy_places")
_OF_PLACES |= {f"inception_score{top}": "inception_score_places" for top in ("", "_top1", "_top5")}
_BY_RANK = ("r@", "mrr", "hit_rate", "rank")


def find_direction(score: Score) -> str:
    """Whether "higher" or "lower" is better, or "one" is best."""
    stem, name = score.metric.removeprefix(UNVERIFIED), find_metric(score)
    if name is None:  # by a classifier of the user
        return "lower" if stem == "kl" else "higher"
    return METRICS[name].parts.get(stem, METRICS[name].better)


def measure_merit(score: Score, value: float) -> float:
    """A number that is higher where a value of this score is better."""
    signs = {"higher": value, "lower": -value, "one": -abs(value - 1)}
    return signs[find_direction(score)]


def describe_metrics() -> str:
    """The registry as text: name, definition and required weights of each metric."""
    width = max(map(len, METRICS))
    lines = []
    for name, metric in METRICS.items():
        unit = f" [{metric.unit}]" if metric.unit else ""
        weights = list_weights(metric.net) if metric.net else ()
        needs = f" (weights: {', '.join(weights)})" if weights else ""
        lines.append(f"{name:<{width}}  {metric.text}{unit}{needs}")
    presets = [f"--preset={name}: {', '.join(columns)}" for name, columns in PRESETS.items()]
    return "\n".join([*lines, "", *presets])


def _suggest(name: str, names: Iterable[str]) -> str:
    nearest = find_nearest(name.strip(), names)
    known = f"there are {', '.join(names)}"
    return f"did you mean {nearest}? {known}" if nearest else known
