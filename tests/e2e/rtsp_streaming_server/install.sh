#!/usr/bin/env bash
# Installs the npm package rtsp-streaming-server below target/, for the end-to-end tests; does nothing where it is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/../../../target/rtsp-streaming-server"
cd "$here/../../../target/rtsp-streaming-server"
[ -d node_modules/rtsp-streaming-server ] && exit
cp "$here/package.json" "$here/package-lock.json" .
npm ci --silent --no-audit --no-fund --ignore-scripts
