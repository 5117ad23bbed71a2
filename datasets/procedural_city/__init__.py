"""procedural_city: aerial and panorama pairs rendered from a procedural city."""
