#!/usr/bin/env bash
# N processes of one `retroguide` command on the CPU of this machine, joined over loopback: a laptop
# does what a job does on N hosts. Joined processes prefix their lines with [process/N]. The first
# that fails ends the others, and its exit code is returned; Ctrl-C and SIGTERM end them too.
#
#     bash launch/local_cpu.sh NUM_PROCESSES COMMAND [FLAG ...]
#     bash launch/local_cpu.sh 2 train --config=city_smoke --workdir=runs/two
#
# RETROGUIDE names another program; JAX_NUM_CPU_DEVICES (1) is devices per process; GRACE_SECONDS
# (60) is how long a process may save after it was asked to stop. DRY_RUN=1 prints the commands.
set -euo pipefail

fail() {
  echo "local_cpu.sh: $*" >&2
  exit 2
}

[[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ ]] || fail "usage: local_cpu.sh NUM_PROCESSES COMMAND [FLAG ...]"
num_processes="$1"
shift

find_free_port() {
  local port
  while
    port="$((20000 + RANDOM % 10000))" # below the ephemeral port range
    (: <"/dev/tcp/127.0.0.1/${port}") 2>/dev/null
  do :; done
  echo "${port}"
}

pids=()
deadline=""
end_all() {
  # Once: training saves at the first SIGTERM and leaves without saving at the second.
  if [ -z "${deadline}" ] && [ "${#pids[@]}" -gt 0 ]; then
    deadline="$((SECONDS + ${GRACE_SECONDS:-60}))"
    kill -TERM "${pids[@]}" 2>/dev/null || true
  fi
}
trap end_all INT TERM

# If this script is killed, its processes must die too, or they would write in a later job's files.
guard=()
if command -v setpriv >/dev/null; then
  guard=(setpriv --pdeathsig KILL)
fi
port="$(find_free_port)"
set -m # separate process groups, so that Ctrl-C or a signal to this group does not reach them twice
for ((process = 0; process < num_processes; process++)); do
  command=(
    env JAX_PLATFORMS=cpu PYTHONUNBUFFERED=1 "JAX_COORDINATOR_ADDRESS=127.0.0.1:${port}"
    "JAX_NUM_PROCESSES=${num_processes}" "JAX_PROCESS_ID=${process}"
    "${guard[@]}" "${RETROGUIDE:-retroguide}" "$@"
  )
  if [ "${DRY_RUN:-0}" = 1 ]; then
    printf '+%s\n' "$(printf ' %q' "${command[@]}")"
  else
    "${command[@]}" </dev/null &
    pids[process]="$!"
  fi
done
set +m

status=0
while [ "${#pids[@]}" -gt 0 ]; do
  sleep 0.1 || true # Ctrl-C ends the sleep too
  if [ -n "${deadline}" ] && [ "${SECONDS}" -ge "${deadline}" ]; then
    # A process that waits for a vanished one never reaches its handler.
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  for process in "${!pids[@]}"; do
    if kill -0 "${pids[process]}" 2>/dev/null; then
      continue
    fi
    code=0
    wait "${pids[process]}" || code="$?"
    unset "pids[process]"
    if [ "${code}" -ne 0 ] && [ "${status}" -eq 0 ]; then
      status="${code}"
      echo "[${process}/${num_processes}] ended with exit code ${code}: ending the others" >&2
      end_all
    fi
  done
done
exit "${status}"
