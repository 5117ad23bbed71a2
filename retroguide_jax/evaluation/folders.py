"""Folders of images of anyone's model beside the real ones, matched by name: what is scored."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from retroguide_jax.data import images, inspection, listing, masks
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation.resizing import Resize
from retroguide_jax.progress import make_bar

_BATCHES_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class FolderPairs:
    """Generated images with their references, and what else belongs to them.

    Attributes:
      ids: sorted; the path of an image inside its folder without its suffix, "city/0001".
      paths: for each role ("generated", "reference" and, where given, "source", "sky_mask") the
        files in the order of `ids`.
      size: (height, width) in pixels of what is scored.
      resize: how generated and reference images come to that size; None if they have it.
      source_size: (height, width) in pixels of "source".
    """

    ids: tuple[str, ...]
    paths: Mapping[str, tuple[Path, ...]]
    size: tuple[int, int]
    resize: Resize | None = None
    source_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def protocol(self) -> str:
        """How images are brought to one size, in words."""
        return self.resize.protocol if self.resize else "as stored"

    @property
    def has_source(self) -> bool:
        """Whether there are images of the other view."""
        return "source" in self.paths

    def read(self, batches: Iterable[Sequence[int]]) -> Iterator[dict[str, np.ndarray]]:
        """Decodes pairs by batches, while the next two batches are decoded by threads.

        Args:
          batches: of B positions in `ids` each, in any order.

        Yields:
          {"generated", "reference": uint8 [B, H, W, 3]} of `size` and, where given, "source": uint8
          [B, Hs, Ws, 3] of `source_size`, bicubic as in training, and "sky_mask": bool [B, H, W],
          true where the mask is above 127, nearest neighbour.

        Raises:
          UserError: images cannot be decoded. All such images of the folders are then looked for
            and listed, the first ten and how many there are.
        """
        batches = iter(batches)
        waiting: collections.deque[dict[str, list[Future]]] = collections.deque()
        pool = ThreadPoolExecutor()
        try:
            while True:
                for indices in itertools.islice(batches, 1 + _BATCHES_AHEAD - len(waiting)):
                    waiting.append(self._submit(pool, indices))
                if not waiting:
                    return
                columns = waiting.popleft()
                yield {
                    role: np.stack([future.result() for future in futures])
                    for role, futures in columns.items()
                }
        except images.UnreadableImageError:
            pool.shutdown(cancel_futures=True)
            self._list_unreadable()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, indices: Sequence[int]) -> dict[str, list[Future]]:
        return {
            role: [pool.submit(self._decode, role, paths[index]) for index in indices]
            for role, paths in self.paths.items()
        }

    def _decode(self, role: str, path: Path) -> np.ndarray:
        if role == "sky_mask":
            try:
                return masks.decode_mask(path.read_bytes(), self.size)
            except (OSError, images.UnreadableImageError) as error:
                reason = getattr(error, "reason", None) or images.describe_error(error)
                raise images.UnreadableImageError(str(path), reason) from None
        if role == "source":
            return images.decode_image(path, self.source_size)
        image = images.decode_image(path)
        return self.resize.apply(image) if self.resize else image

    def _list_unreadable(self) -> None:
        def check(role: str, path: Path) -> None:  # keeps no pixels
            self._decode(role, path)

        _run_all(
            [
                functools.partial(check, role, path)
                for role, paths in self.paths.items()
                for path in paths
            ]
        )


def match_folders(
    generated: Path,
    reference: Path,
    source: Path | None = None,
    sky_mask: Path | None = None,
    manifest: Path | None = None,
    *,
    resize: Resize | None = None,
    source_size: tuple[int, int] | None = None,
) -> FolderPairs:
    """Matches images of several folders by their names, and looks at the header of each file.

    Names are compared without suffix and with the sub-folders they lie in (`listing.list_images`).
    Every image of `generated` must have its reference and the reverse; `source` and `sky_mask` may
    hold more.

    Args:
      generated: folder of the images to score, PNG or JPEG.
      reference: folder of the real images.
      source: folder of the images of the other view that the generated ones were made from.
      sky_mask: folder of masks of the references, white where there is sky, as PNG.
      manifest: text file of ids, one a line; exactly these are evaluated.
      resize: brings generated and reference images to one size. Without it they must all have one.
      source_size: (height, width) in pixels to read sources at; without it they must have one size.

    Raises:
      UserError: a folder is missing or holds no images; see `listing.list_images` and
        `listing.read_manifest`; images without a counterpart, unreadable ones or such of another
        size are listed, the first ten and how many there are.
    """
    folders = {"generated": Path(generated), "reference": Path(reference)}
    for role, folder in (("source", source), ("sky_mask", sky_mask)):
        if folder is not None:
            folders[role] = Path(folder)
    found = {role: listing.list_images(folder) for role, folder in folders.items()}
    if manifest is None:
        ids = sorted(found["generated"].keys() | found["reference"].keys())
    else:
        ids = listing.read_manifest(manifest)
    _check_complete(ids, folders, found)
    paths = {role: tuple(names[name] for name in ids) for role, names in found.items()}
    sizes = _inspect(paths)
    if resize:
        size = (resize.height, resize.width)
        for stored in {*sizes["generated"], *sizes["reference"]}:
            resize.check(*stored)
    else:
        size = sizes["reference"][0]
        for role in (role for role in paths if role != "source"):
            remedy = "resize them, or say how they are to be resized: --resize=METHOD:HxW"
            _check_sizes(paths[role], sizes[role], size, remedy)
    if source is not None and source_size is None:
        source_size = sizes["source"][0]
        _check_sizes(paths["source"], sizes["source"], source_size, "resize the source images")
    return FolderPairs(tuple(ids), paths, size, resize, source_size)


def _check_complete(
    ids: Sequence[str], folders: Mapping[str, Path], found: Mapping[str, Mapping[str, Path]]
) -> None:
    lacking = []
    for role, paths in found.items():
        missing = [name for name in ids if name not in paths]
        if missing:
            lacking.append(f"{folders[role]} ({role}) lacks {listing.join_few(missing)}")
    if lacking:
        raise UserError(
            f"{'; '.join(lacking)}; names must agree but for the suffix: add or rename images, or "
            "list the ids to evaluate in a manifest"
        )


def _inspect(paths: Mapping[str, Sequence[Path]]) -> dict[str, list[tuple[int, int]]]:
    """(height, width) in pixels of every file."""
    flat = [path for column in paths.values() for path in column]
    facts = iter(_run_all([functools.partial(inspection.inspect_file, path) for path in flat]))
    return {
        role: [(fact.height, fact.width) for fact in itertools.islice(facts, len(column))]
        for role, column in paths.items()
    }


def _run_all(calls: Sequence[Callable]) -> list:
    """Results of calls on several threads.

    Raises:
      UserError: with all unreadable images, should there be any.
    """

    def attempt(call):
        try:
            return call()
        except images.UnreadableImageError as error:
            return error

    with ThreadPoolExecutor() as pool:
        bar = make_bar(pool.map(attempt, calls), desc="checking images", total=len(calls), delay=2)
        results = list(bar)
    problems = [result for result in results if isinstance(result, images.UnreadableImageError)]
    if problems:
        texts = [f"{problem.name} ({problem.reason})" for problem in problems]
        raise UserError(
            f"{listing.join_few(texts, 'unreadable images')}; give complete PNG or JPEG files"
        )
    return results


def _check_sizes(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], wanted: tuple[int, int], remedy: str
) -> None:
    texts = [
        f"{path} ({size[0]}x{size[1]})"
        for path, size in zip(paths, sizes, strict=True)
        if size != wanted
    ]
    if texts:
        what = f"images that are not {wanted[0]}x{wanted[1]} pixels (height x width)"
        raise UserError(f"{listing.join_few(texts, what)}; {remedy}")
