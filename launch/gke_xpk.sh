#!/usr/bin/env bash
# One `retroguide` command as a workload on the TPU slices of a GKE cluster that xpk made.
#
#     bash launch/gke_xpk.sh WORKLOAD COMMAND [FLAG ...]
#
#     export CLUSTER=pods ZONE=us-west4-a IMAGE=REGISTRY/retroguide_jax:1 STORAGE=runs
#     TPU_TYPE=v5litepod-256 NUM_SLICES=2 bash launch/gke_xpk.sh cvusa \
#       train --config=cvusa --config.mesh.slice=2 --workdir=/shared/runs/cvusa
#     TPU_TYPE=v5litepod-4 bash launch/gke_xpk.sh cvusa-eval \
#       evaluate --workdir=/shared/runs/cvusa --watch
#
# CLUSTER, ZONE, TPU_TYPE and IMAGE (see Dockerfile) are needed. STORAGE is the name of the shared
# directory in `xpk storage attach`, NUM_SLICES is 1 by default. A workload that is terminated,
# killed, cut off or stuck is restarted up to MAX_RESTARTS (100) times and resumes from its last
# checkpoint; one that fails by a user's mistake (exit code 1) is not. DRY_RUN=1 prints the command.
set -euo pipefail

fail() {
  echo "gke_xpk.sh: $*" >&2
  exit 2
}

[ "$#" -ge 2 ] || fail "usage: gke_xpk.sh WORKLOAD COMMAND [FLAG ...]"
for variable in CLUSTER ZONE TPU_TYPE IMAGE; do
  [ -n "${!variable:-}" ] || fail "set ${variable}; the head of this file says what it is"
done
workload="$1"
shift

options=()
if [ -n "${STORAGE:-}" ]; then
  options+=(--storage="${STORAGE}")
fi
# exec: xpk signals the shell that runs this script, and a shell would not pass the signal on.
command=(
  xpk workload create --cluster="${CLUSTER}" --zone="${ZONE}" --workload="${workload}"
  --tpu-type="${TPU_TYPE}" --num-slices="${NUM_SLICES:-1}" --docker-image="${IMAGE}"
  --max-restarts="${MAX_RESTARTS:-100}" --termination-grace-period-seconds=300
  ${options[@]+"${options[@]}"} --command="exec retroguide$(printf ' %q' "$@")"
)
printf '+%s\n' "$(printf ' %q' "${command[@]}")"
if [ "${DRY_RUN:-0}" != 1 ]; then
  "${command[@]}"
fi
