"""Collects remarks on images that were read, to report each kind once with the images' names."""

import threading

from retroguide_jax.data.images import Picture
from retroguide_jax.text import join_few


class Remarks:
    """Collects conversions of samples and images without content; thread-safe."""

    def __init__(self):
        self._names: dict[str, dict[str, None]] = {}  # an image may be read twice
        self._lock = threading.Lock()

    def add(self, name: str, picture: Picture) -> None:
        """Records the conversions and the flatness of one image."""
        flatness = picture.describe_flatness()
        with self._lock:
            for text in (*picture.conversions, *([flatness] if flatness else ())):
                self._names.setdefault(text, {})[name] = None

    def list_lines(self) -> list[str]:
        """One line per kind: "one colour: 3 images: a.png, b.png, c.png"."""
        with self._lock:
            return [f"{text}: {join_few(sorted(names))}" for text, names in self._names.items()]
