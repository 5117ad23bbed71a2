"""Matches CVACT's panoramas and aerials, from its folders, file names and index file."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from retroguide_jax.errors import UserError

from ..common.listing import Listing, Pair, Problem, find_duplicates
from . import matfile

POSITIVE_METRES = 5.0
_PUBLISHED = {"train": 35532, "val": 8884}
_FOLDERS = ("", "ANU_data_small")
_TEST_FOLDER = "ANU_data_test"
_GROUND, _PLAIN, _CORRECTED = "streetview", "satview_polish", "satview_correct"
_ENDINGS = {_GROUND: "_grdView", _PLAIN: "_satView_polish", _CORRECTED: "_satView_polish"}
_TABLE_SOURCES = (
    "OriNet_CVACT/CVACT_orientations of the SAFA repository, script/OriNet_CVACT of DSM's, the top "
    "of L2LTR's, or OriCNN's"
)


def list_pairs(raw_dir: Path, is_corrected: bool) -> Listing:
    """Lists the pairs that ACT_data.mat names.

    Test pairs, which include those of val, are listed if some test pair outside val is on disk.
    Their positives are the aerials of all test pairs within 5 metres (the rule of OriCNN's
    RecallGeo.m), their own first.

    Args:
      raw_dir: the folder of `streetview` and the aerials, or its parent if it is called
        ANU_data_small. ACT_data.mat may be in either, ANU_data_test in or beside the former.
      is_corrected: take aerials from `satview_correct`, which has only some of them, instead of
        `satview_polish`, and leave out pairs without files.

    Returns:
      The listing; positions are UTM coordinates in metres.

    Raises:
      UserError: a folder or ACT_data.mat is absent, or that file cannot be used.
    """
    root = raw_dir.absolute()
    if not root.is_dir():
        raise UserError(f"raw_dir {raw_dir}: no such folder; check the path")
    aerial_folder = _CORRECTED if is_corrected else _PLAIN
    base = _find_images(root, aerial_folder)
    table_path = _find_table(root, base)
    table = matfile.read_table(table_path)
    more = dict.fromkeys((base / _TEST_FOLDER, base.parent / _TEST_FOLDER))
    folders = [base, *(folder for folder in more if folder != base and folder.is_dir())]
    # The corrected subset was published as PNG, the full set as JPEG: in a folder with both, prefer
    # the files of the selected release.
    suffixes = (".png", ".jpg") if is_corrected else (".jpg", ".png")
    ground, aerial = (_scan(folders, name, suffixes) for name in (_GROUND, aerial_folder))
    names = [_name_folder(folder, root) for folder in folders]
    folder_layout = f"{_GROUND} and {aerial_folder} in {' and '.join(names)}"
    wrong_origin = _check_origin(table, ground, table_path)
    if wrong_origin:
        # The split of each place is unknown, and no pairs are better than wrong ones.
        return Listing(str(root), folder_layout, [], [wrong_origin], expected=_PUBLISHED)
    splits = {split: _list_split(table, split, ground, aerial) for split in matfile.SETS}
    notes = []
    val_ids = {pair.id for pair in splits["val"]}
    if not any(_has_both_images(pair) for pair in splits["test"] if pair.id not in val_ids):
        num_tests = len(splits.pop("test"))
        notes.append(f"no split test: of its {num_tests} pairs none beyond val is there")
    problems = []
    for split, pairs in splits.items():
        absent = [pair for pair in pairs if not _has_both_images(pair)]
        splits[split] = [pair for pair in pairs if _has_both_images(pair)]
        if is_corrected:
            notes.append(f"{split}: {len(splits[split])} of {len(pairs)} pairs are in the subset")
        else:
            if split == "test":  # absent pairs of val are reported already
                absent = [pair for pair in absent if pair.id not in val_ids]
            problems += _describe_absent(absent, folders[-1] if split == "test" else base)
    pairs, duplicates = _remove_duplicates(splits)
    return Listing(
        location=str(root),
        folder_layout=folder_layout,
        pairs=pairs,
        problems=list(dict.fromkeys(problems + duplicates)),
        notes=notes,
        expected={} if is_corrected else _PUBLISHED,
    )


def _find_images(root: Path, aerial_folder: str) -> Path:
    candidates = [root / name for name in _FOLDERS]
    for folder in candidates:
        if (folder / _GROUND).is_dir() and (folder / aerial_folder).is_dir():
            return folder
    other = _PLAIN if aerial_folder == _CORRECTED else _CORRECTED
    hint = "give the folder that holds them"
    if any((folder / other).is_dir() for folder in candidates):
        names = "full or half" if other == _PLAIN else "corrected_full or corrected_half"
        hint = f"{other} is there: for its aerials say config_name {names}"
    raise UserError(
        f"{root}: the folders {_GROUND} and {aerial_folder} are not there, nor in "
        f"{_FOLDERS[1]}; {hint}"
    )


def _name_folder(folder: Path, root: Path) -> str:
    if folder == root:
        return "raw_dir"
    return str(folder.relative_to(root) if folder.is_relative_to(root) else Path("..", folder.name))


def _find_table(root: Path, base: Path) -> Path:
    places = dict.fromkeys((root, base))
    for folder in places:
        if (folder / matfile.NAME).is_file():
            return folder / matfile.NAME
    raise UserError(
        f"{matfile.NAME} is not in {' or '.join(map(str, places))}; public copies are in "
        f"{_TABLE_SOURCES}: put one there"
    )


def _scan(folders: Iterable[Path], name: str, suffixes: tuple[str, str]) -> dict[str, str]:
    """The files of one view by id; lists each folder once, because a look-up per id takes minutes.

    For each id, the first folder that has it is used, and in that the first suffix.
    """
    files: dict[str, str] = {}
    for folder in folders:
        path = folder / name
        if not path.is_dir():
            continue
        try:
            with os.scandir(path) as entries:
                listed = {entry.name: entry.path for entry in entries}
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; check its permissions") from error
        for suffix in suffixes:
            ending = _ENDINGS[name] + suffix
            for file_name in listed:
                if file_name.endswith(ending):
                    files.setdefault(file_name.removesuffix(ending), listed[file_name])
    return files


def _check_origin(table: matfile.Table, ground: Mapping[str, str], path: Path) -> Problem | None:
    """Returns a problem if indices count from 0; MATLAB and the published file count from 1."""
    fix = f"fetch the published {matfile.NAME}, or add 1 to every index of this one"
    for split, (variable, field) in matfile.SETS.items():
        if not table.indices[split].min():
            reason = f"{variable}.{field} has the index 0, so the file counts from 0, not from 1"
            return Problem(str(path), reason, "index", fix)
    # The appended False is the target of indices that are out of range in one of the counts.
    is_there = np.array([name in ground for name in table.ids] + [False])
    splits = ("train", "val")
    from_one, from_zero = (
        [int(is_there[table.indices[split] - origin].sum()) for split in splits]
        for origin in (1, 0)
    )
    # Compare per split: a folder of test images has few of train, whichever way they are counted.
    fits = all(zero >= one for zero, one in zip(from_zero, from_one, strict=True))
    if not fits or sum(from_zero) == sum(from_one):
        return None
    total = sum(len(table.indices[split]) for split in splits)
    reason = (
        f"{sum(from_zero)} of {total} panoramas of train and val are there if its indices count "
        f"from 0, but {sum(from_one)} if from 1 as they should"
    )
    return Problem(str(path), reason, "index", fix)


def _list_split(
    table: matfile.Table, split: str, ground: Mapping[str, str], aerial: Mapping[str, str]
) -> list[Pair]:
    """The pairs of a split; the path of an absent file is empty."""
    pairs = []
    for place in table.indices[split] - 1:
        name = table.ids[place]
        position = (float(table.utm[place, 0]), float(table.utm[place, 1]))
        files = aerial.get(name, ""), ground.get(name, "")
        pairs.append(Pair(name, *files, split, position=position))
    return pairs


def _has_both_images(pair: Pair) -> bool:
    return bool(pair.aerial and pair.ground)


def _describe_absent(pairs: Iterable[Pair], home: Path) -> list[Problem]:
    fix = "fetch the file, or leave its pair out with allow_bad"
    return [
        Problem(
            str(home / folder / f"{pair.id}{_ENDINGS[folder]}.jpg"),
            f"no such file, but {matfile.NAME} names it",
            "missing",
            fix,
        )
        for pair in pairs
        for folder, file in ((_GROUND, pair.ground), (_PLAIN, pair.aerial))
        if not file
    ]


def _remove_duplicates(splits: Mapping[str, list[Pair]]) -> tuple[list[Pair], list[Problem]]:
    """Makes ids unique in train and val, and in train and test (val is a subset of test)."""
    kept, problems = find_duplicates(splits["train"] + splits["val"])
    if "test" in splits:
        train = [pair for pair in kept if pair.split == "train"]
        both, more = find_duplicates(train + splits["test"])
        kept += add_positives(both[len(train) :])
        problems += more
    return kept, problems


def add_positives(pairs: list[Pair]) -> list[Pair]:
    """Sets each pair's positives to the ids of all pairs within 5 metres, its own first."""
    points = np.array([pair.position for pair in pairs])
    groups = cKDTree(points).query_ball_point(points, POSITIVE_METRES)
    return [
        dataclasses.replace(
            pair, positives=(pair.id, *(pairs[k].id for k in group if pairs[k] is not pair))
        )
        for pair, group in zip(pairs, groups, strict=True)
    ]
