"""Which images a folder holds, by id, and lists of ids as text files."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import write_beside
from retroguide_jax.text import join_few

_SUFFIXES = (".png", ".jpg", ".jpeg")
_UNLISTABLE = "\n\r\0\ufeff"  # what a line of a text file cannot hold


def list_images(folder: str | os.PathLike) -> dict[str, Path]:
    """Finds the PNG and JPEG files of a folder and of its sub-folders.

    Hidden files and folders are left out. Links to folders are not followed; a link to a file is,
    if it leads to a place inside the folder.

    Returns:
      Paths by id: the path inside the folder without its suffix, parts joined by "/".

    Raises:
      UserError: there is no such folder, it cannot be listed or holds no images; a link leads out
        of it; two images differ in their suffix only; or a name cannot be a line of a manifest.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name a folder of PNG or JPEG files")
    real_root = os.path.realpath(root)
    found: dict[str, Path] = {}
    leaving, doubled, unlistable = [], [], []
    for path in _walk(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        if path.is_symlink() and not _is_inside(path, real_root):
            leaving.append(str(path))
        elif path.suffix.lower() in _SUFFIXES and path.is_file():
            if name in found:
                doubled.append(f"{found[name]} and {path.name}")
            if not is_listable(name):
                unlistable.append(repr(str(path)))
            found[name] = path
    for names, what, remedy in (
        (leaving, f"links that lead out of {root}", "copy what they lead to, or remove them"),
        (doubled, "images of one name", "keep one of each"),
        (unlistable, "names with line breaks or bytes that are not text", "rename them"),
    ):
        if names:
            raise UserError(f"{join_few(names, what)}; {remedy}")
    if not found:
        raise UserError(f"{root}: no PNG or JPEG files in it; name a folder of images")
    return found


def read_manifest(path: str | os.PathLike) -> list[str]:
    """Reads a text file of ids (UTF-8), one a line; empty lines are left out.

    Returns:
      The ids, sorted.

    Raises:
      UserError: it cannot be read, is not text, holds no id or one twice.
    """
    try:
        # Not splitlines: it would also split at characters that names may hold.
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: {reason}; give a text file of ids, one a line") from None
    ids = sorted(name for name in (line.removesuffix("\r") for line in lines) if name)
    if not ids:
        raise UserError(f"{path}: no ids in it; give one a line")
    twice = [name for name, after in zip(ids, ids[1:], strict=False) if name == after]
    if twice:
        raise UserError(
            f"{path}: {join_few(twice, 'ids that stand in it twice')}; keep one of each"
        )
    return ids


def write_manifest(path: str | os.PathLike, ids: Iterable[str]) -> None:
    """Writes ids, one a line, in the order given; a reader never sees half a file.

    Missing parent folders are made. `read_manifest` reads it back.

    Raises:
      UserError: an id cannot be a line, or the file cannot be written.
    """
    content = _join_lines(ids)
    with write_beside(path) as beside:
        beside.write_bytes(content)


def fingerprint_ids(ids: Iterable[str]) -> str:
    """sha256 (hexadecimal) of ids in the order given: that of the manifest that lists them so.

    Raises:
      UserError: an id cannot be a line.
    """
    return hashlib.sha256(_join_lines(ids)).hexdigest()


def is_listable(name: str) -> bool:
    """Whether a name can be a line of a manifest: no line breaks, no bytes that are not text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and not any(character in name for character in _UNLISTABLE)


def _join_lines(ids: Iterable[str]) -> bytes:
    ids = list(ids)
    for name in ids:
        if not is_listable(name):
            raise UserError(f"the id {name!r} cannot be a line of a text file; rename the image")
    return "".join(f"{name}\n" for name in ids).encode()


def _walk(root: Path) -> Iterable[Path]:
    """Files and links below a folder, sorted, no hidden ones."""

    def fail(error: OSError):
        raise UserError(f"{error.filename}: {error.strerror}; make the folder readable")

    for place, folders, files in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*files, *links]):
            if not name.startswith("."):
                yield Path(place, name)


def _is_inside(path: Path, real_root: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(real_root)
