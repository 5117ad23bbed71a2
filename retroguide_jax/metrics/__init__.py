"""Metric functions of arrays, each with one protocol, its formula and its source.

The names below are imported on first use.
"""

from retroguide_jax.lazy import make_lazy

_MODULES = {
    "breakage": ("find_broken", "measure_breakage"),
    "classification": ("compute_accuracies", "compute_divergences", "kl_score"),
    "distribution": ("frechet_between", "frechet_distance", "inception_score", "kernel_distance"),
    "moments": ("compute_moments",),
    "nearest": ("find_nearest",),
    "panorama": ("seam_error",),
    "pixel_errors": ("psnr", "psnr_legacy", "psnr_nosky", "rmse"),
    "retrieval": ("compute_recall", "mean_reciprocal_rank", "rank_matches", "recall_percent_k"),
    "sharpness": ("sd_lua", "sd_s2d", "sd_shi", "sd_sky"),
    "similarity": (
        "ssim_lua", "ssim_rgb", "ssim_rgb_nosky", "ssim_skimage", "ssim_skimage_luma"
    ),
    "statistics": ("bootstrap_mean", "compare_paired", "jackknife"),
}  # fmt: skip
_NAMES = {name: f"{module}:{name}" for module, names in _MODULES.items() for name in names}
__getattr__, __dir__ = make_lazy(__name__, _NAMES)
