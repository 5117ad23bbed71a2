"""Folders of generated images, of any model, and of real ones, matched by file name."""

import collections
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from retroguide_jax.data import images, inspection, listing, masks
from retroguide_jax.data.remarks import Remarks
from retroguide_jax.errors import UserError
from retroguide_jax.evaluation import naming
from retroguide_jax.evaluation.resizing import Resize
from retroguide_jax.progress import make_bar

_BATCHES_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class FolderPairs:
    """Generated images with their references and, where given, sources and sky masks.

    Attributes:
      ids: sorted; the path of an image inside its folder without its suffix, "city/0001".
      paths: for each role ("generated", "reference" and, where given, "source", "sky_mask",
        further samples "generated_1" ...) the files in the order of `ids`.
      size: (height, width) in pixels at which images are scored.
      resize: brings generated and reference images to that size; None if they have it.
      source_size: (height, width) in pixels of "source".
      num_samples: K generated images per place.
      formats: for each role the formats of its files, "JPEG" or "JPEG, PNG".
      notes: facts about the files that matter to a reader of the scores.
      remarks: collected as images are read: conversions, and images of hardly any content.
    """

    ids: tuple[str, ...]
    paths: Mapping[str, tuple[Path, ...]]
    size: tuple[int, int]
    resize: Resize | None = None
    source_size: tuple[int, int] | None = None
    num_samples: int = 1
    formats: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    remarks: Remarks = dataclasses.field(default_factory=Remarks, compare=False)

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
        """Decodes pairs in batches; threads decode the next two batches ahead.

        Args:
          batches: B positions in `ids` each, in any order.

        Yields:
          {"generated", "reference": uint8 [B, H, W, 3]} of `size`, further samples alike, and,
          where given, "source": uint8 [B, Hs, Ws, 3] of `source_size`, bicubic as in training, and
          "sky_mask": bool [B, H, W], true where the mask is above 127, nearest neighbour.

        Raises:
          UserError: images cannot be decoded. All folders are then searched for such images; the
            message gives the first ten and their number.
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
                content = path.read_bytes()
                return masks.decode_mask(content, self.size, formats=images.READABLE_FORMATS)
            except (OSError, images.UnreadableImageError) as error:
                reason = getattr(error, "reason", None) or images.describe_error(error)
                fix = getattr(error, "fix", "")
                raise images.UnreadableImageError(str(path), reason, fix=fix) from None
        is_source = role == "source"
        size = self.source_size if is_source else None
        picture = images.read_image(path, size, formats=images.READABLE_FORMATS)
        self.remarks.add(str(path), picture)
        return picture.pixels if is_source or not self.resize else self.resize.apply(picture.pixels)

    def _list_unreadable(self) -> None:
        def check(role: str, path: Path) -> None:  # returns no pixels, to save memory
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
    names: Mapping[str, str] | None = None,
    num_samples: int = 1,
) -> FolderPairs:
    """Matches images of several folders by their names, and reads the header of each file.

    Names are compared without suffix and with the sub-folders they lie in (`listing.list_images`).
    Every image of `generated` must have its reference and vice versa; `source` and `sky_mask` may
    hold more.

    Args:
      generated: folder of the images to score.
      reference: folder of the real images.
      source: folder of the images of the other view that the generated ones were made from.
      sky_mask: folder of masks of the references, white where there is sky, as PNG.
      manifest: text file of ids, one per line, with or without a suffix; exactly these are
        evaluated.
      resize: brings generated and reference images to one size. Without it all sizes must agree.
      source_size: (height, width) in pixels to read sources at; without it their sizes must agree.
      names: role -> pattern of the names to use, see `naming.parse_names`; other files are
        skipped, which a note reports.
      num_samples: K generated images per place, NAME_0.png to NAME_{K-1}.png.

    Raises:
      UserError: a folder is missing or holds no images; see `listing.list_images`,
        `listing.read_manifest`, `naming.select` and `naming.split_samples`; generated and
        reference images lie in one folder and only their names distinguish them; images lack a
        counterpart, are unreadable or of another size: the message gives the first ten and their
        number.
    """
    folders = {"generated": Path(generated), "reference": Path(reference)}
    for role, folder in (("source", source), ("sky_mask", sky_mask)):
        if folder is not None:
            folders[role] = Path(folder)
    found, notes = _list_folders(folders, names or {})
    if num_samples > 1:
        samples = naming.split_samples(found["generated"], num_samples, folders["generated"])
        for k, sample in enumerate(samples):
            role = f"generated_{k}" if k else "generated"
            found[role], folders[role] = sample, folders["generated"]
    if manifest is None:
        ids = sorted(found["generated"].keys() | found["reference"].keys())
    else:
        ids = _read_manifest(manifest, found["reference"])
    _check_complete(ids, folders, found)
    paths = {role: tuple(known[name] for name in ids) for role, known in found.items()}
    notes += _compare_places(paths, names or {})
    facts = _inspect(paths)
    sizes = {role: [(fact.height, fact.width) for fact in column] for role, column in facts.items()}
    formats = _describe_formats(paths, facts)
    if formats["generated"] != formats["reference"]:
        notes.append(
            f"generated images are stored as {formats['generated']}, reference images as "
            f"{formats['reference']}: what that does to one side is part of every score"
        )
    if resize:
        size = (resize.height, resize.width)
        resized = (column for role, column in sizes.items() if role not in ("source", "sky_mask"))
        for stored in set(itertools.chain.from_iterable(resized)):
            resize.check(*stored)
    else:
        size = sizes["reference"][0]
        for role in (role for role in paths if role != "source"):
            remedy = "resize them, or say how they are to be resized: --resize=METHOD:HxW"
            _check_sizes(paths[role], sizes[role], size, remedy)
    if source is not None and source_size is None:
        source_size = sizes["source"][0]
        _check_sizes(paths["source"], sizes["source"], source_size, "resize the source images")
    return FolderPairs(
        tuple(ids), paths, size, resize, source_size, num_samples, formats, tuple(notes)
    )


def _list_folders(
    folders: Mapping[str, Path], patterns: Mapping[str, str]
) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """{role: {id: path}}, and notes on how many images fit each pattern."""
    found, notes = {}, []
    for role, folder in folders.items():
        found[role] = listing.list_images(folder)
        if role in patterns:
            total = len(found[role])
            found[role] = naming.select(found[role], patterns[role], folder)
            notes.append(f"{len(found[role])} of {total} images in {folder} fit {patterns[role]}")
    return found, notes


def _read_manifest(path: Path, known: Mapping[str, Path]) -> list[str]:
    """The ids of a manifest, which may also name files with their suffixes."""
    names = listing.read_manifest(path)
    ids = [name if name in known else listing.make_id(name) for name in names]
    twice = [name for name, count in collections.Counter(ids).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {listing.join_few(twice, 'ids stand in it twice')}; keep one")
    return ids


def _compare_places(paths: Mapping[str, Sequence[Path]], patterns: Mapping[str, str]) -> list[str]:
    """A note where images are compared with themselves, which scores perfectly."""
    pairs = zip(paths["generated"], paths["reference"], strict=True)
    num_same = sum(os.path.realpath(path) == os.path.realpath(other) for path, other in pairs)
    if not num_same:
        return []
    endings = naming.find_endings([path.stem for path in paths["generated"]])
    if endings and not patterns:
        pairs = [(end, end.replace("fake", "real")) for end in endings if "fake" in end]
        known = [pair for pair in pairs if pair[1] in endings]
        fake, real = (known or [(endings[0], endings[-1])])[-1]
        raise UserError(
            f"generated and reference are the same {len(paths['generated'])} images, named "
            f"{', '.join('*' + ending for ending in endings)}; say which are which, such as "
            f"--names='generated=*{fake}' --names='reference=*{real}'"
        )
    return [f"{num_same} generated images are their own reference: both are the same file"]


def _check_complete(
    ids: Sequence[str], folders: Mapping[str, Path], found: Mapping[str, Mapping[str, Path]]
) -> None:
    lacking = []
    for role, paths in found.items():
        missing = [name for name in ids if name not in paths]
        if missing:
            lacking.append(f"{folders[role]} ({role}) lacks {listing.join_few(missing)}")
    if not lacking:
        return
    hint = naming.suggest(sorted(found["generated"]), sorted(found["reference"]))
    remedy = f"give {hint}" if hint else "add or rename images, or say which names belong together"
    raise UserError(
        f"{'; '.join(lacking)}; names must agree but for the suffix: {remedy}"
        f"{'' if hint else ' with --names, or which ids to evaluate with --manifest'}"
    )


def _inspect(paths: Mapping[str, Sequence[Path]]) -> dict[str, list[inspection.ImageFacts]]:
    inspect = functools.partial(inspection.inspect_file, formats=images.READABLE_FORMATS)
    flat = [path for column in paths.values() for path in column]
    facts = iter(_run_all([functools.partial(inspect, path) for path in flat]))
    return {role: list(itertools.islice(facts, len(column))) for role, column in paths.items()}


def _describe_formats(
    paths: Mapping[str, Sequence[Path]], facts: Mapping[str, Sequence[inspection.ImageFacts]]
) -> dict[str, str]:
    """Formats of the files of each role, and how pixels that are not opaque 8-bit are converted."""

    def read(role: str, path: Path) -> tuple[str, str]:
        picture = images.read_image(path, formats=images.READABLE_FORMATS)
        return role, ", ".join(picture.conversions)

    odd = [
        functools.partial(read, role, path)
        for role, column in facts.items()
        for path, fact in zip(paths[role], column, strict=True)
        if role != "sky_mask" and not fact.is_plain
    ]
    counts = collections.Counter(_run_all(odd))
    described = {}
    for role, column in facts.items():
        parts = [", ".join(sorted({fact.format for fact in column}))]
        parts += [
            f"{done} ({count} of {len(column)})"
            for (owner, done), count in sorted(counts.items())
            if owner == role and done
        ]
        described[role] = "; ".join(parts)
    return described


def _run_all(calls: Sequence[Callable]) -> list:
    """Runs calls on several threads and returns their results.

    Raises:
      UserError: images are unreadable; one message covers all of them.
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
        fixes = list(dict.fromkeys(problem.fix for problem in problems))[:3]
        raise UserError(f"{listing.join_few(texts, 'unreadable images')}; {'; or '.join(fixes)}")
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
