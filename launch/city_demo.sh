#!/usr/bin/env bash
# The main job, from nothing to numbers and pictures on two CPU cores: renders the procedural city,
# trains a judge (an independent embedder), then embedder and generator together, scores them, and
# writes the report page, which needs the extra `pages`.
#
#     bash launch/city_demo.sh [WORKDIR] [--config.FIELD=VALUE ...]
#
# Everything lands in WORKDIR (default runs/city); run it again to resume where it stopped. The
# overrides go to the training of the generator. DRY_RUN=1 prints the commands.
set -euo pipefail

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
run retroguide train --config=city_retrieval --workdir="${workdir}/judge"
run retroguide train --config=city --workdir="${workdir}" "$@"
run retroguide evaluate --workdir="${workdir}" --judge="${workdir}/judge"
run retroguide report --workdir="${workdir}"
