#!/usr/bin/env bash
# Renders the chart as the checks see it: `infra/helm/render.sh out/helm`. Needs `helm` (3.x) on the PATH, or in HELM.
set -euo pipefail
mkdir -p "$1"
out="$(cd "$1" && pwd)"
cd "$(dirname "$0")"
helm="${HELM:-helm}"
"$helm" lint --quiet embedfleet --values embedfleet/ci/gpu-values.yaml
"$helm" template fleet embedfleet --namespace vectors --kube-version 1.31.0 \
  --set out=s3://vectors/index,redis.existingSecret=embedfleet-redis,token.existingSecret=embedfleet-token \
  > "$out/default.yaml"
"$helm" template fleet embedfleet --namespace vectors --kube-version 1.31.0 \
  --values embedfleet/ci/gpu-values.yaml > "$out/gpu.yaml"
