"""Weight files of published networks: finding, fetching and safely reading them."""
