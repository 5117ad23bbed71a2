"""Weight files of other people's networks: where they are found, fetched from, and safely read."""
