"""Reads all files of an ONNX program, which may keep its weights in other files ("external data").

By default, torch.onnx.export writes a file with the graph only. ONNX Runtime looks for the others
in the working directory of the process, so they are read here, from the folder of the graph.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from retroguide_jax.errors import UserError
from retroguide_jax.files import find_inside

_REMEDY = "or export with torch.onnx.export(..., external_data=False)"
# For each kind of message, the fields that can contain tensors, by number (onnx.proto).
_TENSOR, _ENTRY = "tensor", "entry"
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}


def read_external(path: Path, content: bytes) -> dict[str, bytes]:
    """Reads the files that an ONNX program keeps weights in.

    Args:
      path: path of the program.
      content: bytes of the program.

    Returns:
      {name in the program, relative to its folder: content}; {} if it has no external data.

    Raises:
      UserError: a file is missing, or its name leads out of the program's folder.
      ValueError: the program is not a protocol buffer.
    """
    files: dict[str, bytes] = {}
    for name in sorted(set(_list_locations(content))):
        place = find_inside(path.parent, name)
        if place is None:
            raise UserError(
                f"{path}: names weights outside of its folder ({name!r}), which are not read; "
                f"put them beside it, {_REMEDY}"
            )
        try:
            files[name] = place.read_bytes()
        except OSError as error:
            raise UserError(
                f"{path}: its weights {place} cannot be read ({error.strerror}); keep both files "
                f"together, {_REMEDY}"
            ) from None
    return files


def hash_files(content: bytes, external: dict[str, bytes]) -> str:
    """SHA-256 (hexadecimal) of a program and its external files; without any, the program's own."""
    digest = hashlib.sha256(content)
    for name, part in external.items():
        digest.update(f"\n{name} {hashlib.sha256(part).hexdigest()}".encode())
    return digest.hexdigest()


def _list_locations(content: bytes) -> Iterator[str]:
    """Yields the external file of each tensor of a program, including those inside functions."""
    waiting = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        if kind == _ENTRY:
            key, value = (bytes(_find(message, number)) for number in (1, 2))
            if key == b"location":
                yield value.decode()
            continue
        known = _FIELDS[kind]
        waiting += [(known[number], part) for number, part in _split(message) if number in known]


def _find(message: memoryview, wanted: int) -> memoryview:
    return next((part for number, part in _split(message) if number == wanted), memoryview(b""))


def _split(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields the fields of a protocol buffer that hold bytes: (number, content)."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, place = _read_varint(message, place)
        elif wire in (1, 5):  # fixed size: 8 and 4 bytes
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = _read_varint(message, place)
            if place + length > len(message):
                raise ValueError("a field ends behind the file")
            yield number, message[place : place + length]
            place += length
        else:
            raise ValueError(f"wire type {wire}")


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number does not end")
