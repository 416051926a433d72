#!/usr/bin/env bash
# Runs all GPU measurements on a bare CUDA machine in one go: environment, graphs of the full-size model with
# made-up weights, TensorRT engines, and the grid of batches in ONNX Runtime, TensorRT and PyTorch.
#
#   models/export/gpu/run.sh OUT_FOLDER          needs an NVIDIA driver, Python 3.11 or newer, 40 GB of disk
#   models/export/gpu/run.sh OUT_FOLDER --cpu    the same steps on a small model without a GPU, to test the script
#
# Results: OUT_FOLDER/grid.json.
set -euo pipefail

out=${1:?usage: run.sh OUT_FOLDER [--cpu]}
device=cuda model=large
if [ "${2:-}" = --cpu ]; then device=cpu model=tiny; fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ "$device" = cuda ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || { echo "error: no NVIDIA driver on this machine" >&2; exit 1; }
  extra=$here/requirements.txt
else
  extra=$here/requirements-cpu.txt
fi

python=${EMBEDFLEET_PYTHON:-}
if [ -z "$python" ]; then
  [ -x "$out/venv/bin/python" ] || python3 -m venv "$out/venv"
  python=$out/venv/bin/python
  "$python" -m pip install --quiet -r "$here/../requirements.txt" -r "$extra"
fi

# ONNX Runtime looks for TensorRT's libraries along the loader's path; pip puts them into a package.
if [ "$device" = cuda ]; then
  LD_LIBRARY_PATH=$("$python" -c 'import tensorrt_libs; print(tensorrt_libs.__path__[0])'):${LD_LIBRARY_PATH:-}
  export LD_LIBRARY_PATH
fi
export PYTHONPATH=$here/../..

"$python" -m export checkpoint "generated:$model" --out "$out/checkpoint"
graph=("$python" -m export graph "$out/checkpoint" --out "$out/model" --precision fp32,fp16)
if [ "$device" = cuda ]; then graph+=(--tensorrt); fi
"${graph[@]}"
"$python" -m export.gpu.grid --model "$out/model" --checkpoint "$out/checkpoint" --device "$device" --out "$out/grid.json"
