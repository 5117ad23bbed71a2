"""What the configs of photographed data sets share: resolutions, and a smoke variant."""

from ml_collections import ConfigDict
from retroguide_jax.configs import city_smoke, default


def get_config(name: str, variant: str, argument: str) -> ConfigDict:
    """256 x 256 aerials and 128 x 512 panoramas, SAIG-S and the full generator in bfloat16.

    Args:
      name: the data set.
      variant: its config_name.
      argument: "a2g", "g2a", "smoke", or a direction and smoke with a comma between.

    Raises:
      ValueError: another argument.
    """
    words = [word.strip() for word in argument.split(",") if word.strip()]
    directions = [word for word in words if word in ("a2g", "g2a")] or ["a2g"]
    if len(directions) > 1 or not set(words) <= {"a2g", "g2a", "smoke"}:
        raise ValueError(f"{argument!r}: say a2g or g2a, and smoke, with a comma between")
    if "smoke" in words:
        # Tiny networks and images: the code paths in seconds, for tests and for a new folder.
        config = city_smoke.get_config(directions[0])
        config.data.train_split, config.data.val_split = "train[8:]", "train[:8]"
    else:
        config = default.get_config(directions[0])
        config.dtype = "bfloat16"
        config.train.contrastive_warmup_steps = 2000
        config.data.train_split, config.data.val_split = "train[512:]", "train[:512]"
    config.data.name, config.data.config_name = name, variant
    return config
