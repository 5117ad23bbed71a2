"""Where caches lie on this machine."""

import os
from pathlib import Path


def get_caches() -> Path:
    """The folder of all programs' caches: $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def get_cache_folder() -> Path:
    """Ours: $XDG_CACHE_HOME/retroguide or ~/.cache/retroguide."""
    return get_caches() / "retroguide"
