import numpy as np

from retroguide_jax.evaluation.ranking import find_places


def make_columns(aerial_ids, positives=None, near=None):
    own = np.array(aerial_ids)
    return {
        "aerial_id": own,
        "positives": own if positives is None else np.array(positives),
        "semi_positives": np.full(len(own), "") if near is None else np.array(near),
    }


def list_rows(table):
    return [sorted(row[row >= 0].tolist()) for row in table]


def test_a_shared_tile_stands_in_the_gallery_once():
    columns = make_columns(["b", "a", "b", "c", "b"])
    places = find_places(columns, "aerial")
    ids = columns["aerial_id"][places.shown]
    assert ids.tolist() == ["b", "a", "c"]  # in the order of the pairs
    assert (ids[places.matches[:, 0]] == columns["aerial_id"]).all()
    assert places.matches.shape == (5, 1) and places.near.shape == (5, 0)


def test_all_ground_images_of_a_tile_are_right():
    places = find_places(make_columns(["b", "a", "b", "c", "b"]), "ground")
    np.testing.assert_array_equal(places.shown, np.arange(5))
    assert list_rows(places.matches) == [[0, 2, 4], [1], [0, 2, 4], [3], [0, 2, 4]]
    np.testing.assert_array_equal(places.matches[:, 0], np.arange(5))  # its own match first


def test_positives_within_metres_are_right_in_both_galleries():
    columns = make_columns(["a", "b", "c"], positives=["a\nb", "b\na", "c\nelsewhere"])
    assert list_rows(find_places(columns, "aerial").matches) == [[0, 1], [0, 1], [2]]
    assert list_rows(find_places(columns, "ground").matches) == [[0, 1], [0, 1], [2]]


def test_semi_positives_are_near_and_further_tiles_follow():
    columns = make_columns(["a", "b"], near=["b\nt1\nabsent", ""])
    places = find_places(columns, "aerial", np.array(["t0", "t1"]))
    assert list_rows(places.near) == [[1, 3], []]
    assert list_rows(places.matches) == [[0], [1]]
    assert list_rows(find_places(columns, "ground").near) == [[], [0]]


def test_some_queries_of_the_same_gallery():
    places = find_places(make_columns(["a", "b", "c"], near=["b", "", ""]), "aerial")
    some = places.take(np.array([2, 0]))
    assert some.matches[:, 0].tolist() == [2, 0] and some.near[:, 0].tolist() == [-1, 1]
    assert some.shown.tolist() == [0, 1, 2]
