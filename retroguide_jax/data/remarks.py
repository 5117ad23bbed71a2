"""What should be known of images that were read: said once for all of them, with their names."""

import threading

from retroguide_jax.data.images import Picture
from retroguide_jax.text import join_few


class Remarks:
    """Collects, from any thread, what was done to samples, and which images hardly show a thing."""

    def __init__(self):
        self._names: dict[str, dict[str, None]] = {}  # an image may be read twice
        self._lock = threading.Lock()

    def add(self, name: str, picture: Picture) -> None:
        """Looks at one image."""
        flatness = picture.describe_flatness()
        with self._lock:
            for text in (*picture.conversions, *([flatness] if flatness else ())):
                self._names.setdefault(text, {})[name] = None

    def list_lines(self) -> list[str]:
        """One line per kind: "one colour: 3 images: a.png, b.png, c.png"."""
        with self._lock:
            return [f"{text}: {join_few(sorted(names))}" for text, names in self._names.items()]
