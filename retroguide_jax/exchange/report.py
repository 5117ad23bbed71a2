"""Reports on an import as text: each array with its source and conversion."""

from collections import Counter

from retroguide_jax.exchange.importing import WeightMapping


def summarise(mapping: WeightMapping) -> str:
    """A few lines: number of imported arrays per transform, remarks, and arrays not imported."""
    found = mapping.match
    counts = Counter(row.transform for row in found.rows)
    done = ", ".join(f"{count} {transform}" for transform, count in counts.items())
    files = ", ".join(mapping.origins)
    lines = [f"{len(found.rows)} arrays of {files} ({mapping.weight_layout}): {done}"]
    lines += [f"{row.source}: {row.remark}" for row in found.rows if row.remark]
    if found.kept:
        lines.append(f"{len(found.kept)} arrays are new, as --only has it")
    if found.leftover:
        lines.append(f"{len(found.leftover)} arrays of the file are dropped")
    if mapping.note:
        lines.append(f"note: {mapping.note}")
    return "\n".join(dict.fromkeys(lines))


def format_report(mapping: WeightMapping) -> str:
    """One line per array: the file's name and shape, ours, and the conversion."""
    found = mapping.match
    lines = [f"{path} sha256 {digest}" for path, digest in mapping.origins.items()]
    lines.append(f"layout {mapping.weight_layout}")
    for row in found.rows:
        what = f"{row.transform}; {row.remark}" if row.remark else row.transform
        theirs, ours = list(row.source_shape), list(row.shape)
        lines.append(f"{row.source} {theirs} -> {row.name} {ours} ({what})")
    lines += [f"missing: {name} ({reason})" for name, reason in found.missing.items()]
    lines += [f"initialised: {name}" for name in found.kept]
    lines += [f"left over: {name}" for name in found.leftover]
    if mapping.note:
        lines.append(f"note: {mapping.note}")
    return "\n".join(lines) + "\n"
