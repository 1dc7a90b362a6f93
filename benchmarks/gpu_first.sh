#!/usr/bin/env bash
# All that is to be learned of a GPU in its first 8 minutes: bash benchmarks/gpu_first.sh OUT [--rehearse]
# It takes PYTHON, or python3, with numba, numba-cuda, torch, cupy and pytest; no network. See gpu_first.py.
cd "$(dirname "$0")/.." || exit
exec "${PYTHON:-python3}" -m benchmarks.gpu_first "$@"
