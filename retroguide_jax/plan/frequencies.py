"""How often the loops and the conditional parts of a training step run."""

import re
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from retroguide_jax.plan.hlo import Instruction, Module

# The parts of a step that are conditional, told by the networks whose operations they hold. The
# generator's update holds all three and the embedder's only itself, hence the order.
_PARTS = (
    ("gan", r"\bGenerator\b"),
    ("penalty", r"\bDiscriminator\b"),
    ("embedder", r"\bEmbedder\b"),
)


def list_frequencies(config: ConfigDict) -> dict[str, float]:
    """Share of the steps at which each conditional part runs, on average over the schedule.

    `penalty` is relative to `gan`, which it is a part of.
    """
    train = config.train
    warmup = train.contrastive_warmup_steps if config.mode == "joint" else 0
    rest = train.num_steps - warmup
    return {
        "embedder": (warmup + -(-rest // train.contrastive_every)) / train.num_steps,
        "gan": rest / train.num_steps,
        "penalty": 1.0 / config.losses.penalty_every,
    }


def name_part(module: Module, branch: str) -> str | None:
    """Which conditional part of the step a branch holds; None for any other branch."""
    names = set(_op_names(module, branch, set()))
    return next(
        (part for part, pattern in _PARTS if any(re.search(pattern, name) for name in names)), None
    )


def _op_names(module: Module, computation: str, seen: set[str]) -> Iterator[str]:
    if computation in seen:
        return
    seen.add(computation)
    for line in module.computations[computation].values():
        yield line.op_name
        for called in line.called():
            yield from _op_names(module, called, seen)


def count_trips(module: Module, computation: str, loop: Instruction) -> int | None:
    """How often a loop's body runs; None where the program's text does not tell."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    lines = module.computations[computation]
    condition = module.computations[(loop.attribute("condition") or "").lstrip("%")]
    body = module.computations[(loop.attribute("body") or "").lstrip("%")]
    compare = _find_compare(module, condition)
    if compare is None or "direction=LT" not in compare.attributes:
        return None
    index, limit = (condition.get(name) for name in compare.operands)
    position = index.attribute("index") if index is not None else None
    stop = _constant(condition, limit)
    if position is None or stop is None:
        return None
    start, step = 0, 1
    initial = lines.get(loop.operands[0])
    if initial is not None and initial.opcode == "tuple":
        start = _constant(lines, lines.get(initial.operands[int(position)])) or 0
    result = next(line for line in body.values() if line.is_root)
    if result.opcode == "tuple":
        update = body.get(result.operands[int(position)])
        terms = [_constant(body, body.get(name)) for name in (update.operands if update else ())]
        step = next((term for term in terms if term), 1)
    return max(0, -(-(stop - start) // step))


def _find_compare(module: Module, condition: dict[str, Instruction]) -> Instruction | None:
    root = next(line for line in condition.values() if line.is_root)
    return root if root.opcode == "compare" else None


def _constant(lines: dict[str, Instruction], line: Instruction | None) -> int | None:
    """The value of an integer constant, through copies of it."""
    while line is not None and line.opcode in ("copy", "bitcast", "convert"):
        line = lines.get(line.operands[0])
    if line is None or line.opcode != "constant":
        return None
    return int(line.arguments) if re.fullmatch(r"-?\d+", line.arguments) else None


def weigh_branches(
    module: Module, frequencies: dict[str, float], sizes: Callable[[str], float]
) -> Callable[[Instruction], dict[str, float]]:
    """Makes the function that gives a conditional's branches the shares of their runs.

    Args:
      module: the program.
      frequencies: from `list_frequencies`.
      sizes: seconds of a branch: the longest is the part, the others leave it out. A conditional
        that is no part of the step is taken to run its longest branch always.
    """

    def weigh(line: Instruction) -> dict[str, float]:
        branches = [name for name in line.called() if name in module.computations]
        longest = max(branches, key=sizes)
        share = frequencies.get(name_part(module, longest) or "", 1.0)
        others = [name for name in branches if name != longest]
        return {longest: share} | {name: (1.0 - share) / len(others) for name in others}

    return weigh
