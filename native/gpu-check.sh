#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, in one go: builds the addon with CUDA, checks every kernel against float64, forward and
# backward, times it and prints the tables. What the build lacks is fetched by pip.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v nvidia-smi >/dev/null || { echo "no NVIDIA driver on this machine" >&2; exit 1; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

GROUP_ROBUST_CUDA=1 npm run --silent build

failed=0
for shape in tiny gemma-2b; do
  for dtype in float32 bfloat16; do
    printf '\n== %s, %s\n' "$shape" "$dtype"
    node bin/group-robust.js bench kernels --device cuda --shape "$shape" --dtype "$dtype" || failed=1
  done
done
exit "$failed"
