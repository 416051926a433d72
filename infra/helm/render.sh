#!/usr/bin/env bash
# Renders the chart as the checks see it. Run it after a change of the chart and commit what it writes.
# Needs `helm` (3.x) on the PATH, or in HELM.
set -euo pipefail
cd "$(dirname "$0")"
out="${1:-rendered}"
mkdir -p "$out"
helm="${HELM:-helm}"
"$helm" lint --quiet embedfleet --values embedfleet/ci/gpu-values.yaml
"$helm" template fleet embedfleet --namespace vectors --kube-version 1.31.0 \
  --set out=s3://vectors/index,redis.existingSecret=embedfleet-redis,token.existingSecret=embedfleet-token \
  > "$out/default.yaml"
"$helm" template fleet embedfleet --namespace vectors --kube-version 1.31.0 \
  --values embedfleet/ci/gpu-values.yaml > "$out/gpu.yaml"
