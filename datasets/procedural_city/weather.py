"""The weather: sky and light of one moment, shown by the panorama but not by the aerial image."""

import dataclasses

import numpy as np

from .noise import periodic_noise


@dataclasses.dataclass(frozen=True)
class Weather:
    """One weather; colours are RGB in [0, 1].

    Attributes:
      name: the preset it was drawn from.
      zenith, horizon: sky colour straight up and at eye level.
      cloud: colour of the clouds.
      cover: share of the sky under cloud, 0 to 1.
      cloud_offset: offset of the clouds in the noise texture, two numbers in [0, 1).
      light: colour and strength of the light that multiplies every surface.
      direct: strength of the sun against the diffuse light, 0 (no shadows) to 1.
      haze_distance: metres after which 63 % of a surface's colour is replaced by the horizon's.
      glow: strength of the bright patch of sky around the sun, 0 to 1.
    """

    name: str
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloud: tuple[float, float, float]
    cover: float
    cloud_offset: tuple[float, float]
    light: tuple[float, float, float]
    direct: float
    haze_distance: float
    glow: float


def _preset(zenith, horizon, cloud, cover, light, direct, haze_distance, glow):
    return {
        "zenith": zenith,
        "horizon": horizon,
        "cloud": cloud,
        "cover": cover,
        "light": light,
        "direct": direct,
        "haze_distance": haze_distance,
        "glow": glow,
    }


# name -> (probability, values); a range (low, high) of cover is drawn uniformly.
PRESETS = {
    "clear": (
        0.26,
        _preset((0.24, 0.46, 0.80), (0.70, 0.83, 0.94), (0.98, 0.98, 0.99), (0.0, 0.12),
                (1.02, 1.00, 0.97), 0.95, 420.0, 0.35),
    ),
    "fair": (
        0.22,
        _preset((0.30, 0.52, 0.82), (0.74, 0.84, 0.92), (0.97, 0.97, 0.98), (0.3, 0.6),
                (0.99, 0.99, 0.99), 0.7, 350.0, 0.25),
    ),
    "overcast": (
        0.22,
        _preset((0.60, 0.63, 0.67), (0.78, 0.79, 0.81), (0.70, 0.72, 0.75), (0.85, 1.0),
                (0.88, 0.91, 0.95), 0.08, 260.0, 0.0),
    ),
    "hazy": (
        0.12,
        _preset((0.70, 0.76, 0.80), (0.88, 0.87, 0.83), (0.92, 0.91, 0.88), (0.2, 0.6),
                (1.00, 0.98, 0.93), 0.35, 110.0, 0.3),
    ),
    "sunset": (
        0.12,
        _preset((0.40, 0.44, 0.66), (0.97, 0.70, 0.46), (0.93, 0.68, 0.58), (0.1, 0.5),
                (1.01, 0.89, 0.77), 0.6, 260.0, 0.5),
    ),
    "storm": (
        0.06,
        _preset((0.36, 0.38, 0.43), (0.60, 0.61, 0.63), (0.42, 0.45, 0.50), (0.7, 0.95),
                (0.79, 0.82, 0.87), 0.05, 180.0, 0.0),
    ),
}  # fmt: skip

_GLOW_COLOUR = np.array([1.0, 0.96, 0.86], dtype=np.float32)


def sample_weather(rng: np.random.Generator) -> Weather:
    """Draws one weather: a preset, then a random tint and brightness."""
    names = list(PRESETS)
    name = names[rng.choice(len(names), p=[PRESETS[n][0] for n in names])]
    values = dict(PRESETS[name][1])
    # Vary daylight only between warm and cool; a green or purple cast would look wrong.
    tint = 1.0 + rng.uniform(-0.06, 0.06) * np.array([1.0, 0.1, -1.0])
    brightness = rng.uniform(0.88, 1.08)
    for key in ("zenith", "horizon", "cloud"):
        values[key] = tuple(np.clip(np.array(values[key]) * tint * brightness, 0.0, 1.0).tolist())
    light = np.array(values["light"]) * (1.0 + 0.5 * (tint - 1.0)) * (0.5 + 0.5 * brightness)
    values["light"] = tuple(light.tolist())
    values["cover"] = float(rng.uniform(*values["cover"]))
    offset = tuple(rng.random(2).tolist())
    return Weather(name=name, cloud_offset=offset, **values)


def paint_sky(
    weather: Weather, elevation: np.ndarray, azimuth: np.ndarray, sun: tuple[float, float]
) -> np.ndarray:
    """Colours of the sky.

    Args:
      weather: the weather.
      elevation: radians above the horizon, [n].
      azimuth: compass bearing in radians, [n].
      sun: bearing and elevation of the sun, radians.

    Returns:
      RGB float32 in [0, 1], [n, 3].
    """
    up = np.sin(np.clip(elevation, 0.0, np.pi / 2)).astype(np.float32)
    zenith = np.array(weather.zenith, np.float32)
    horizon = np.array(weather.horizon, np.float32)
    colour = horizon + (zenith - horizon) * (np.sqrt(up) * (1.3 - 0.3 * up))[:, None]
    if weather.glow > 0.0:
        cos_angle = np.cos(elevation) * np.cos(sun[1]) * np.cos(azimuth - sun[0])
        cos_angle = cos_angle + np.sin(elevation) * np.sin(sun[1])
        glow = weather.glow * np.clip(cos_angle, 0.0, 1.0) ** 12
        colour = colour + (_GLOW_COLOUR - colour) * glow[:, None].astype(np.float32)
    if weather.cover > 0.0:
        colour = _add_clouds(weather, colour, up, azimuth)
    return colour


def _add_clouds(weather, colour, up, azimuth):
    # Clouds lie on a plane overhead, so that they shrink towards the horizon like real ones.
    noise = periodic_noise(512, 1.7)
    size = noise.shape[0]
    reach = 60.0 / (up + 0.22)
    offset_x, offset_y = (o * size for o in weather.cloud_offset)
    x = (reach * np.sin(azimuth) + offset_x).astype(np.int32) % size
    y = (reach * np.cos(azimuth) + offset_y).astype(np.int32) % size
    # The noise is Gaussian: thresholds of +-1.5 standard deviations cover none or all of the sky.
    threshold = 1.5 * (1.0 - 2.0 * weather.cover)
    amount = np.clip((noise[y, x] - threshold) * 0.9 + 0.35, 0.0, 1.0)
    amount = amount * np.clip(up * 5.0, 0.0, 1.0) * 0.85
    return colour + (np.array(weather.cloud, np.float32) - colour) * amount[:, None]
