"""All metrics of single images and pairs that need pixels only, by the names of their protocols.

Protocol: images are scored as they are written to PNG. Every function takes uint8 [B, H, W, 3] and
gives float32 [B]; nothing is resized or cropped, and no score depends on other rows.
"""

from collections.abc import Callable

import jax

from retroguide_jax.metrics.breakage import measure_breakage
from retroguide_jax.metrics.panorama import seam_error
from retroguide_jax.metrics.pixel_errors import psnr, psnr_legacy, psnr_nosky, rmse
from retroguide_jax.metrics.sharpness import sd_lua, sd_s2d, sd_shi, sd_sky, sharpness
from retroguide_jax.metrics.similarity import (
    ssim_lua,
    ssim_rgb,
    ssim_rgb_nosky,
    ssim_skimage,
    ssim_skimage_luma,
)

# Arguments: (generated, target), with "_nosky" also sky_mask; one image for the last three.
FUNCTIONS: dict[str, Callable[..., jax.Array]] = {
    "psnr": psnr,
    "psnr_legacy": psnr_legacy,
    "rmse": rmse,
    "ssim_rgb": ssim_rgb,
    "ssim_lua": ssim_lua,
    "ssim_skimage": ssim_skimage,
    "ssim_skimage_luma": ssim_skimage_luma,
    "sd_lua": sd_lua,
    "sd_shi": sd_shi,
    "sd_s2d": sd_s2d,
    "sd_sky": sd_sky,
    "psnr_nosky": psnr_nosky,
    "ssim_rgb_nosky": ssim_rgb_nosky,
    "sharpness_ratio": sharpness,
    "seam_error": seam_error,
    "broken_share": measure_breakage,  # [B, 8]: what is broken depends on the real images
}
