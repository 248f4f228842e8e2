#!/usr/bin/env bash
# Asks the compilers of real GPUs what they make of every kernel in the variants that each GPU offers (none by cooperative
# matrices, and on RDNA none by subgroups), without a GPU: registers, spills, waves, the hottest
# loops; and Khronos' validator what it makes of the modules. Tables and assembly go to target/shader-stats (or SHADER_STATS);
# what should not be is an error.
#
#   tests/shader-stats.sh             all GPUs
#   tests/shader-stats.sh navi31      one: gfx1201, navi31, navi21, vega10 (AMD, by RADV), ga102 (NVIDIA, by NVK), m1 (Apple)
set -euo pipefail
cd "$(dirname "$0")/.."

export SHADER_STATS="${SHADER_STATS:-$PWD/target/shader-stats}"
gpus=("$@")
if [[ $# -eq 0 ]]; then gpus=(gfx1201 navi31 navi21 vega10 ga102 m1); fi

amd=$(tests/setup-mesa.sh amd)
nvidia=$(tests/setup-mesa.sh nvidia)
apple=$(tests/setup-mesa.sh apple)
program=$(cargo test --color never --locked -p distil-gpu-kernels --test compilers --no-run 2>&1 | tee /dev/stderr |
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
SPIRV_VAL=$(tests/setup-mesa.sh spirv-val)
export SPIRV_VAL
[[ -n $program ]] || { echo "shader-stats: cargo names no program" >&2; exit 1; }
# A process a part: two run where there are two cores.
parts=${SHADER_STATS_PARTS:-4}
export program amd nvidia apple parts
compile() { # GPU PART
    case $1 in
        ga102) command=(env NOUVEAU_CHIPSET=0x172 "$nvidia") ;;
        m1) command=("$apple") ;;
        *) command=(env "AMDGPU_GPU_ID=$1" RADV_DEBUG=nocache "$amd") ;;
    esac
    SHADER_STATS_GPU=$1 SHADER_STATS_PART=$2 SHADER_STATS_PARTS=$parts \
        "${command[@]}" "$program" --ignored --nocapture
}
export -f compile
for gpu in "${gpus[@]}"; do rm -rf "${SHADER_STATS:?}/$gpu"{,-*}{,.tsv}; done
failed=0
for gpu in "${gpus[@]}"; do for ((part = 0; part < parts; part++)); do echo "$gpu $part"; done; done |
    xargs -P "$(nproc)" -L1 bash -c 'compile "$0" "$1"' || failed=1
for gpu in "${gpus[@]}"; do
    awk 'FNR > 1 || NR == 1' "$SHADER_STATS/$gpu"-*.tsv >"$SHADER_STATS/$gpu.tsv"
done
exit $failed
