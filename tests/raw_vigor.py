"""A miniature VIGOR: four cities of noise, with lists in the published format."""

import numpy as np
from PIL import Image

CITIES = ("NewYork", "Seattle", "SanFrancisco", "Chicago")
METRES_PER_PIXEL = (0.113248, 0.100817, 0.118141, 0.111262)
FOLDERS = {
    "city_first": ("{city}/panorama", "{city}/satellite"),
    "view_first": ("ground/{city}", "satellite/{city}"),
}
# Of each label set: the end of its lists' names, and the folder it is published in.
LABELS = {
    "original": (".txt", "splits"),
    "corrected": ("__corrected.txt", "splits__corrected"),
}


def write_tree(
    root, num_per_city=12, layout="city_first", labels=("original", "corrected"), *,
    label_folder=None, tile_size=96,
):  # fmt: skip
    """Writes 4 cities of `num_per_city` panoramas (64 x 128) and square tiles.

    Some tiles have two panoramas, the last two of a city none. Two thirds of the panoramas are
    same_area train, the others test. Cameras lie within 18 metres of a tile's centre; each label
    set gives the same metres in pixels of its own scale.

    Args:
      layout: a key of `FOLDERS`.
      labels: keys of `LABELS`.
      label_folder: folder for the lists instead of each set's own folder.
      tile_size: pixels.
    """
    rng = np.random.default_rng(0)
    for number, (city, metres_per_pixel) in enumerate(zip(CITIES, METRES_PER_PIXEL, strict=True)):
        panoramas, tiles = (root / part.format(city=city) for part in FOLDERS[layout])
        owners = [i - i // 3 for i in range(num_per_city)]  # 0 1 2 2 3 4 4 5 6 6 ...
        num_tiles = owners[-1] + 3
        tile_names = [f"satellite_{40 + number}.{i:03d}_-7{number}.5.png" for i in range(num_tiles)]
        for name in tile_names:
            _write_noise(tiles / name, (tile_size, tile_size), rng)
        offsets = rng.uniform(-18, 18, (num_per_city, 2))
        rows = {key: [] for key in LABELS}
        for i, (owner, offset) in enumerate(zip(owners, offsets, strict=True)):
            name = f"pano-_{number}{i},{40 + number}.{i:03d}5,-7{number}.5001,.jpg"
            _write_noise(panoramas / name, (64, 128), rng)
            for key, scale in (("original", 0.114), ("corrected", metres_per_pixel)):
                words = [name]
                for k in range(4):  # each further tile lies 160 pixels further up
                    rows_down, columns_left = offset / scale + (160 * k, 0)
                    tile = tile_names[(owner + k) % len(tile_names)]
                    words += [tile, f"{rows_down:.4f}", f"{columns_left:.4f}"]
                rows[key].append(" ".join(words) + "\n")
        num_train = num_per_city * 2 // 3
        for key in labels:
            ending, folder = LABELS[key]
            lists = root / (label_folder or folder) / city
            lists.mkdir(parents=True, exist_ok=True)
            (lists / "satellite_list.txt").write_text("\n".join(tile_names) + "\n")
            for stem, part in (
                ("same_area_balanced_train", rows[key][:num_train]),
                ("same_area_balanced_test", rows[key][num_train:]),
                ("pano_label_balanced", rows[key]),
            ):
                (lists / f"{stem}{ending}").write_text("".join(part))
    return root


def _write_noise(path, size, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
