"""An index: a folder of embeddings that is searched without loading it into memory.

embeddings.npy  float32 [N, D], unit rows; opened as a memory map
entries.jsonl   N lines, the image that each row embeds
index.json      origin of the rows: view, weights, images
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from retroguide_jax.errors import UserError
from retroguide_jax.retrieval.entries import Entries, Entry
from retroguide_jax.text import one_line

FORMAT_VERSION = 1
_EMBEDDINGS, _ENTRIES, _ABOUT = "embeddings.npy", "entries.jsonl", "index.json"


@dataclasses.dataclass(frozen=True)
class About:
    """Where the embeddings of an index come from.

    Attributes:
      view: of the images, "aerial" or "ground".
      weights: `fingerprints.hash_weights` of the embedder.
      workdir, checkpoint, step: of the embedder: its work directory, "latest" or "best", and the
        training step.
      images: the folder that holds the images; None where they are from a data set.
      split: of the data set that the images are from; None where they lie in a folder.
      data_dir: folder of that data set; None for TFDS's default.
    """

    view: str
    weights: str
    workdir: str
    checkpoint: str
    step: int
    images: str | None = None
    split: str | None = None
    data_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Index:
    """An opened index of N images.

    Attributes:
      path: its folder.
      about: where its embeddings come from.
      embeddings: float32 [N, D], unit rows, a read-only memory map.
      entries: N entries, in the order of the rows.
    """

    path: Path
    about: About
    embeddings: np.ndarray
    entries: Entries

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Index":
        """Opens an index; reads its entries' line breaks, but not its embeddings.

        Raises:
          UserError: there is none, it is of another version, or its files do not fit together.
        """
        path = Path(path)
        about, shape = _read_about(path)
        try:
            # Unlike np.load, open_memmap reads only .npy and refuses pickles (object arrays).
            embeddings = np.lib.format.open_memmap(path / _EMBEDDINGS, mode="r")
            entries = Entries(path / _ENTRIES)
        except (OSError, ValueError) as error:
            raise _make_damage(path, one_line(error)) from None
        if embeddings.dtype != np.float32 or embeddings.shape != shape:
            found = f"{embeddings.dtype} {list(embeddings.shape)}"
            raise _make_damage(path, f"{_EMBEDDINGS} holds {found}, not float32 {list(shape)}")
        if len(entries) != len(embeddings):
            raise _make_damage(
                path, f"{_ENTRIES} has {len(entries)} whole lines for {len(embeddings)} embeddings"
            )
        return cls(path, about, embeddings, entries)


@contextlib.contextmanager
def write_index(
    path: str | os.PathLike, about: About
) -> Iterator[Callable[[Sequence[Entry], np.ndarray], None]]:
    """Yields append(entries, embeddings float32 [B, D]); on exit the index holds all appended rows.

    Rows are written as they arrive, to a temporary folder that is renamed to `path` when complete:
    a killed process leaves a hidden folder beside it, never an incomplete index.

    Args:
      path: of the folder, which must not exist, or be empty.
      about: where the embeddings come from.

    Raises:
      UserError: it exists, or cannot be written.
      ValueError: nothing was appended.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: is not empty; name a new folder")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    shape = (0, 0)
    try:
        beside.mkdir(parents=True)
        with (beside / _EMBEDDINGS).open("wb") as rows, (beside / _ENTRIES).open("wb") as lines:

            def append(entries: Sequence[Entry], embeddings: np.ndarray) -> None:
                nonlocal shape
                if not shape[0]:
                    _write_header(rows, embeddings.shape)
                rows.write(np.ascontiguousarray(embeddings, "<f4").data)
                lines.writelines(entry.to_line() for entry in entries)
                shape = (shape[0] + len(entries), embeddings.shape[1])

            yield append
            if not shape[0]:
                raise ValueError("nothing was appended")
            rows.seek(0)
            _write_header(rows, shape)
        facts = {"format": FORMAT_VERSION, "shape": shape, **dataclasses.asdict(about)}
        (beside / _ABOUT).write_text(json.dumps(facts, indent=2) + "\n")
        os.replace(beside, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose another place") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_header(file, shape: tuple[int, int]) -> None:
    # NumPy pads headers so that the number of rows can grow: the last is as long as the first.
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _read_about(path: Path) -> tuple[About, tuple[int, int]]:
    try:
        facts = json.loads((path / _ABOUT).read_bytes())
    except OSError:
        raise UserError(
            f"{path}: no index ({_ABOUT} cannot be read); make one with `retroguide retrieve index`"
        ) from None
    except ValueError:
        raise _make_damage(path, f"{_ABOUT} is no JSON") from None
    version = facts.pop("format", None) if isinstance(facts, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format {version}; this version reads format {FORMAT_VERSION}: make it again"
        )
    try:
        rows, dim = facts.pop("shape")
        about = About(**facts)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _make_damage(path, f"{_ABOUT} is incomplete") from None
    if about.view not in ("aerial", "ground") or (about.images is None) == (about.split is None):
        raise _make_damage(path, f"{_ABOUT} contradicts itself")
    return about, (rows, dim)


def _make_damage(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: is damaged: {reason}; make the index again")
