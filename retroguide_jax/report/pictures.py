"""Pictures as data: URIs, and overlays of maps on them."""

import base64
import io

import numpy as np
from PIL import Image

# Small pictures are magnified pixel by pixel, which would show a lossy format's halved colours.
_MOST_LOSSLESS_BYTES = 32 * 1024
_QUALITY = 90
# Ten colours of Viridis (van der Walt and Smith, 2015), dark violet to yellow; its uniform
# lightness also reads in grey and for the colour-blind.
SCALE = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e",
    "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
_OPACITY = 0.65


def encode(image: np.ndarray) -> str:
    """Encodes uint8 [H, W, 3] as a data: URI, PNG where that is small and WebP otherwise."""
    kind, data = "png", _save(image, "PNG", optimize=True)
    if len(data) > _MOST_LOSSLESS_BYTES:
        kind, data = "webp", _save(image, "WEBP", quality=_QUALITY, method=6)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def lay_over(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Overlays a map, in the colours of `SCALE`, on the image in grey.

    Args:
      image: uint8 [H, W, 3].
      values: [h, w] in [0, 1], of any resolution; interpolated bilinearly.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    map_ = Image.fromarray(np.asarray(values, np.float32), "F")
    fitted = np.clip(np.asarray(map_.resize((width, height), Image.Resampling.BILINEAR)), 0, 1)
    places = np.linspace(0, 1, len(SCALE))
    anchors = np.array([list(bytes.fromhex(colour[1:])) for colour in SCALE])
    colours = np.stack([np.interp(fitted, places, channel) for channel in anchors.T], axis=-1)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None]
    return np.round(_OPACITY * colours + (1 - _OPACITY) * grey).astype(np.uint8)


def _save(image: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()
