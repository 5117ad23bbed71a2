#!/usr/bin/env bash
# A Cloud TPU slice of one or many hosts, by gcloud; every step is done on all of its workers.
#
#     bash launch/tpu_vm.sh create NAME ACCELERATOR_TYPE
#     bash launch/tpu_vm.sh copy NAME
#     bash launch/tpu_vm.sh run NAME PROGRAM [ARG ...]
#     bash launch/tpu_vm.sh delete NAME
#
# `copy` brings the commit HEAD and installs it. `run` works in its folder, with its environment on
# PATH, and ends when all workers have:
#
#     export ZONE=us-west4-a
#     bash launch/tpu_vm.sh create pod v5litepod-64
#     bash launch/tpu_vm.sh copy pod
#     bash launch/tpu_vm.sh run pod retroguide train --config=cvusa --workdir=/shared/runs/cvusa
#     bash launch/tpu_vm.sh run pod pkill -TERM -x retroguide    # from elsewhere: save and leave
#
# ZONE is needed. VERSION is the slice's software (v2-alpha-tpuv5-lite, for v5e), SPOT=1 takes a
# preemptible slice. DRY_RUN=1 prints the commands.
set -euo pipefail

fail() {
  echo "tpu_vm.sh: $*" >&2
  exit 2
}

run() {
  printf '+%s\n' "$(printf ' %q' "$@")"
  if [ "${DRY_RUN:-0}" != 1 ]; then
    "$@"
  fi
}

run_on_all() {
  run gcloud compute tpus tpu-vm ssh "${name}" --zone="${ZONE}" --worker=all --command="$1"
}

usage="usage: tpu_vm.sh create|copy|run|delete NAME [ACCELERATOR_TYPE | PROGRAM ARG ...]"
[ "$#" -ge 2 ] || fail "${usage}"
[ -n "${ZONE:-}" ] || fail "set ZONE, such as: export ZONE=us-west4-a"
action="$1"
name="$2"
shift 2

case "${action}" in
  create)
    [ "$#" -eq 1 ] || fail "create needs an accelerator type, such as v5litepod-64"
    options=()
    if [ "${SPOT:-0}" = 1 ]; then
      options+=(--spot)
    fi
    run gcloud compute tpus tpu-vm create "${name}" --zone="${ZONE}" --accelerator-type="$1" \
      --version="${VERSION:-v2-alpha-tpuv5-lite}" ${options[@]+"${options[@]}"}
    ;;
  copy)
    [ "$#" -eq 0 ] || fail "${usage}"
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    archive="${root}/.cache/retroguide_jax.tar.gz"
    run mkdir -p "${root}/.cache"
    run git -C "${root}" archive --output="${archive}" HEAD
    run gcloud compute tpus tpu-vm scp "${archive}" "${name}:" --zone="${ZONE}" --worker=all
    run_on_all "mkdir -p retroguide_jax && tar -xzf retroguide_jax.tar.gz -C retroguide_jax"
    # The slices' own Python is older than 3.11; uv brings one.
    run_on_all "cd retroguide_jax && python3 -m pip install --user uv &&\
 python3 -m uv venv --allow-existing --python=3.12 .venv &&\
 python3 -m uv pip install --python=.venv/bin/python -e '.[tpu]'"
    ;;
  run)
    [ "$#" -ge 1 ] || fail "run needs a program, such as: retroguide train --config=..."
    # The quotes are for the workers, which know their own PATH.
    # shellcheck disable=SC2016
    run_on_all 'cd retroguide_jax && PATH="$PWD/.venv/bin:$PATH" exec'"$(printf ' %q' "$@")"
    ;;
  delete)
    [ "$#" -eq 0 ] || fail "${usage}"
    run gcloud compute tpus tpu-vm delete "${name}" --zone="${ZONE}"
    ;;
  *) fail "${usage}" ;;
esac
