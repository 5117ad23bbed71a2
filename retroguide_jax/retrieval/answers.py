"""Retrieval results of each query, as a table and as JSON."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from retroguide_jax.metrics.nearest import Nearest
from retroguide_jax.retrieval.entries import Entry
from retroguide_jax.retrieval.index import Index
from retroguide_jax.text import align


class Answer(NamedTuple):
    """The entries nearest to one query.

    query: the query; its path is as it was given.
    found: K entries, the most similar first.
    similarities: of each, the cosine, -1..1.
    is_known: whether the index holds the query's id, so that the ids say which entry is right.
    """

    query: Entry
    found: list[Entry]
    similarities: list[float]
    is_known: bool


def make_answers(index: Index, queries: Sequence[Entry], nearest: Nearest) -> list[Answer]:
    """Looks up the entries that `searching.search` found for each of Q queries.

    Raises:
      UserError: an entry of the index is damaged.
    """
    known = index.entries.find_known(query.id for query in queries)
    return [
        Answer(
            query,
            [index.entries[row] for row in rows],
            similarities.tolist(),
            query.id in known,
        )
        for query, rows, similarities in zip(queries, *nearest, strict=True)
    ]


def show_id(entry: Entry) -> str:
    """An id on one line; unprintable characters, possible in others' indexes, are escaped."""
    return entry.id if entry.id.isprintable() else repr(entry.id)


def format_answers(answers: Sequence[Answer]) -> str:
    """Aligned columns: query, rank, similarity, id, coordinates."""
    lines = [("query", "rank", "similarity", "id", "coordinates")]
    for answer in answers:
        pairs = zip(answer.found, answer.similarities, strict=True)
        for rank, (entry, similarity) in enumerate(pairs, start=1):
            place = ", ".join(map(_format_number, entry.coordinates or ())) or "-"
            cells = (str(rank), f"{similarity:.4f}", show_id(entry), place)
            lines.append((show_id(answer.query), *cells))
    return align(lines)


def describe_answers(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Answers for JSON: path, position and coordinates of an entry are null where unknown.

    `is_right` is null where the index does not hold the query's id.
    """
    return [
        {
            "query": answer.query.id,
            "path": answer.query.path,
            "found": [
                {
                    "rank": rank,
                    "similarity": similarity,
                    "id": entry.id,
                    "path": entry.path,
                    "position": entry.position,
                    "coordinates": entry.coordinates,
                    "is_right": entry.id == answer.query.id if answer.is_known else None,
                }
                for rank, (entry, similarity) in enumerate(
                    zip(answer.found, answer.similarities, strict=True), start=1
                )
            ],
        }
        for answer in answers
    ]


def _format_number(value: float) -> str:
    """At most six decimals: in degrees a resolution of a tenth of a metre."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
