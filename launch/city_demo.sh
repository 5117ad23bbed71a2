#!/usr/bin/env bash
# The main job, from nothing to numbers and pictures on two CPU cores: renders the procedural city,
# trains embedder and generator together, scores them by the two independent judges that come with
# the package, and writes the report page, which needs the extra `pages`.
#
#     bash launch/city_demo.sh [WORKDIR] [--config.FIELD=VALUE ...]
#
# Everything lands in WORKDIR (default runs/city); run it again to resume where it stopped. The
# overrides go to the training of the generator. DRY_RUN=1 prints the commands.
set -euo pipefail

if [[ "${1:-}" == -* ]]; then
  echo "usage: city_demo.sh [WORKDIR] [--config.FIELD=VALUE ...]" >&2
  exit 2
fi
workdir="${1:-runs/city}"
shift || true

# Beside the results, so that deleting the folder deletes everything.
export TFDS_DATA_DIR="${TFDS_DATA_DIR:-${workdir}/data}"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-${workdir}/compiled}"
# XLA allocates and frees its working memory every step; with huge pages the kernel pays nothing.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"

run() {
  echo "+ $*"
  if [ "${DRY_RUN:-0}" != 1 ]; then
    "$@"
  fi
}

run retroguide data build procedural_city --config_name=city_64
run retroguide train --config=city --workdir="${workdir}" "$@"
run retroguide evaluate --workdir="${workdir}" \
  --judge=pretrained:city_judge_saig --judge=pretrained:city_judge_convnext
run retroguide report --workdir="${workdir}"
