"""The largest batch of a device that fits."""

from collections.abc import Callable

Measure = Callable[[int], tuple[bool, int | None]]
# Compiling takes minutes, and memory is nearly affine in the batch: a few tries suffice.
_TRIES = 5


def search_batch(
    measure: Measure, limit: int, unit: int, first: int
) -> tuple[int, dict[int, bool]]:
    """Extrapolates from two batches to the largest that fits, and confirms it.

    Args:
      measure: batch -> (fits, bytes it needs, None if unknown); asked once for a batch.
      limit: bytes that may be used.
      unit: batches are multiples of it.
      first: a batch to begin with.

    Returns:
      The largest batch that was seen to fit, 0 if none was, and {batch: fits} of all that were
      tried. Where the estimate was exact the next multiple was not tried.
    """
    tried: dict[int, tuple[bool, int | None]] = {}

    def try_batch(batch: int) -> None:
        if batch not in tried:
            tried[batch] = measure(batch)

    try_batch(first)
    try_batch(2 * first if tried[first][0] else max(unit, first // 2 // unit * unit))
    for _ in range(_TRIES):
        guess = _guess(tried, limit, unit)
        if guess in tried or guess < unit:
            break
        try_batch(guess)
    fitting = [batch for batch, (fits, _) in tried.items() if fits]
    return max(fitting, default=0), {batch: fits for batch, (fits, _) in sorted(tried.items())}


def _guess(tried: dict[int, tuple[bool, int | None]], limit: int, unit: int) -> int:
    """The next batch to try, between the largest that fits and the smallest that does not."""
    low = max((batch for batch, (fits, _) in tried.items() if fits), default=0)
    high = min((batch for batch, (fits, _) in tried.items() if not fits), default=0)
    known = sorted((batch, size) for batch, (_, size) in tried.items() if size is not None)
    guess = (low + high) // 2 if high else 2 * low
    if len(known) > 1:
        # The two nearest to the limit: memory is affine only piece by piece.
        (a, size_a), (b, size_b) = sorted(
            sorted(known, key=lambda point: abs(point[1] - limit))[:2]
        )
        if size_b > size_a:
            guess = a + int((limit - size_a) * (b - a) / (size_b - size_a))
    guess = guess // unit * unit
    guess = max(guess, low + unit) if high > low + unit else max(guess, low)
    # What did not fit contradicts the estimate: halve the gap.
    return (low + high) // 2 // unit * unit if high and guess >= high else guess
