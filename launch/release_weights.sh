#!/usr/bin/env bash
# Makes a finished run one of the models that are installed with the package, `pretrained:NAME`:
# rounds its averaged weights to half precision, scores the rounded weights, and writes them, with
# those scores on their card, to retroguide_jax/pretrained/NAME in place of what is there.
#
#     bash launch/release_weights.sh WORKDIR NAME [--judge=DIR or other flags of evaluate ...]
#
# The ledger of the evaluation stays in WORKDIR/packed/NAME. DRY_RUN=1 prints the commands.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: release_weights.sh WORKDIR NAME [flags of evaluate ...]" >&2
  exit 2
fi
workdir="$1"
name="$2"
shift 2

rounded="${workdir}/packed/${name}"
packaged="$(cd "$(dirname "$0")/.." && pwd)/retroguide_jax/pretrained/${name}"
flags=(--dtype=float16 --license=Apache-2.0)

run() {
  echo "+ $*"
  if [ "${DRY_RUN:-0}" != 1 ]; then
    "$@"
  fi
}

run rm -rf "${rounded}"
run retroguide weights export --workdir="${workdir}" "${flags[@]}" --output="${rounded}"
run retroguide evaluate --workdir="${rounded}" "$@"
run rm -rf "${packaged}"
run retroguide weights export --workdir="${rounded}" "${flags[@]}" --output="${packaged}"
