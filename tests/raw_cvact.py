"""A miniature CVACT: noise in the published folders, and a real ACT_data.mat."""

import numpy as np
import scipy.io
from PIL import Image

FIELDS = {"trainSet": "trainInd", "valSet": "valInd", "valSetAll": "valInd"}


def write_tree(
    root, num_train=32, num_val=8, num_test=0, *, folder="", test_folder="", suffix=".jpg",
    aerial_folder="satview_polish", idiom="struct", origin=1,
):  # fmt: skip
    """Writes panoramas of 96 x 192, aerials of 96 x 96 and ACT_data.mat.

    The places of all splits are interleaved, and two more belong to none. Consecutive places are 4
    metres apart on a line.

    Args:
      num_test: test pairs beyond those of val.
      folder: of `streetview` and the aerials, below `root`.
      test_folder: as `folder`, for the test pairs beyond val.
      suffix: of all images.
      idiom: see `write_mat`.
      origin: of the indices in the file.
    """
    rng = np.random.default_rng(0)
    num_places = num_train + num_val + num_test + 2
    places = rng.permutation(num_places)
    train, val = places[:num_train], places[num_train:][:num_val]
    more = places[num_train + num_val :][:num_test]
    for k in range(num_places):
        if k in places[-2:]:
            continue
        home = root / (test_folder if k in more else folder)
        for path, size in (
            (home / "streetview" / f"{name_place(k)}_grdView{suffix}", (96, 192)),
            (home / aerial_folder / f"{name_place(k)}_satView_polish{suffix}", (96, 96)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
    sets = {"trainSet": train, "valSet": val, "valSetAll": np.concatenate([val, more])}
    indices = {name: members + origin for name, members in sets.items()}
    write_mat(root / "ACT_data.mat", num_places, indices, idiom)
    return root


def name_place(k):
    """The id of a place; as with Street View's ids, some begin with a dash."""
    return f"{'-_a'[k % 3]}Pano{k:03d}xQ"


def place_metres(num_places):
    """UTM of all places, 4 metres apart on a line to the north."""
    along = 4.0 * np.arange(num_places)
    return np.stack([np.full(num_places, 693000.5), 6090000.25 + along], axis=1)


def write_mat(path, num_places, indices, idiom="struct", **replaced):
    """Writes ACT_data.mat.

    Args:
      indices: of each set of `FIELDS`.
      idiom: "struct" as published, where the indices are the second field; "cell" for cells without
        names that have them second; "array" for sets that are the indices themselves.
      **replaced: variables to write instead; None leaves one out.
    """
    ids = np.empty((num_places, 1), object)
    ids[:, 0] = [name_place(k) for k in range(num_places)]
    content = {"panoIds": ids, "utm": place_metres(num_places)}
    for name, members in indices.items():
        column = np.asarray(members)[:, None].astype(float)  # MATLAB's numbers
        cells = np.empty((2, 1), object)
        cells[0, 0], cells[1, 0] = np.array([[7.0]]), column
        content[name] = {
            "struct": {"trainingRatio": 7.0, FIELDS[name]: column},
            "cell": cells,
            "array": column,
        }[idiom]
    content |= replaced
    scipy.io.savemat(path, {k: v for k, v in content.items() if v is not None})
