#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, with or without a network: builds the addon with CUDA, runs the tests of kernels and models on the
# card, checks and times every kernel and whole training steps, those of TRL beside them where Python has it, and ends with one table.
# In the archive of `npm run bundle` Node is beside it; LibTorch is that of the Python on PATH, or fetched by pip.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x node/bin/node ] && PATH="$PWD/node/bin:$PATH"

command -v nvidia-smi >/dev/null || { echo "no NVIDIA driver on this machine" >&2; exit 1; }
card=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1)
results=build/gpu-check # stays, for a job that is stopped at its time limit
rm -rf "$results" && mkdir -p "$results"
failed=()
check() { # NAME COMMAND…
  local name=$1
  shift
  printf '\n== %s (%s s)\n' "$name" "$SECONDS"
  "$@" || failed+=("$name")
}

if [ -x node/bin/node ]; then build=(node bin/group-robust.js build); else build=(npm run --silent build); fi
check "build" env GROUP_ROBUST_CUDA=1 "${build[@]}"
check "doctor" node bin/group-robust.js doctor

check "tests on the card" node node_modules/vitest/vitest.mjs run test/native test/policy --exclude '**/{real-gemma,cuda-on-host}.test.ts'

for shape in tiny gemma-2b; do
  for dtype in float32 bfloat16; do
    check "kernels: $shape, $dtype" node bin/group-robust.js bench kernels --device cuda --shape "$shape" --dtype "$dtype"
  done
done

python=${PYTHON:-python3}
for pairs in 4 16 64 256; do
  check "a step of $pairs pairs" bash -c "node bin/group-robust.js bench train-step --device cuda --batch $pairs --json > $results/$pairs.json"
  for attention in sdpa flash_attention_2; do
    needs=trl
    [ "$attention" = sdpa ] || needs=trl,flash_attn
    "$python" -c "import $needs" 2>/dev/null || continue
    # The reference's scores are cached here, so they are computed before the steps there too.
    check "the same by TRL, $attention" bash -c "'$python' test/peers/trl_step.py --batch $pairs --precompute --attention $attention > $results/$pairs-$attention.json"
  done
done

printf '\n== %s (%s s)\n' "$card" "$SECONDS"
node - "$results" <<'JS'
const { readdirSync, readFileSync } = require('node:fs');
const folder = process.argv[2];
const rows = readdirSync(folder).flatMap((file) => {
  const text = readFileSync(`${folder}/${file}`, 'utf8').trim();
  if (!text.endsWith('}')) return []; // its check failed
  const { pairs_per_second, seconds_per_step, useful_gflops, peak_memory_bytes, synchronisations } = JSON.parse(text.split('\n').at(-1));
  const [pairs, peer] = file.replace('.json', '').split(/-(.*)/);
  const teraflops = useful_gflops === undefined ? undefined : +(useful_gflops / 1e3).toFixed(0);
  const row = { pairs: +pairs, program: peer ? `TRL, ${peer}` : 'this package', 's a step': +seconds_per_step.toFixed(3) };
  return [{ ...row, 'pairs/s': +pairs_per_second.toFixed(1), 'TFLOP/s': teraflops, 'peak GB': +(peak_memory_bytes / 1e9).toFixed(1), 'waits a step': synchronisations }];
});
console.table(rows.sort((a, b) => a.pairs - b.pairs));
JS
for what in "${failed[@]}"; do echo "FAILED: $what"; done
[ "${#failed[@]}" -eq 0 ]
