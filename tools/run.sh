#!/usr/bin/env bash
# Installs what is missing (Debian 12), builds Lanecast and starts it with a demo camera.
# Usage: tools/run.sh [settings of lanecast, such as --http-bind 127.0.0.1:8080]
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

need_rust
need_packages "${BUILD_PACKAGES[@]}" "${SLATE_PACKAGES[@]}"

say "building (some minutes the first time)"
cargo build --release --locked --quiet --bin lanecast
cargo build --release --locked --quiet --package lanecast-viewer

# Prints the guide when the server says where it listens; its other lines pass as they are.
guide() {
    local line url
    while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in
            *"listening on http://"*)
                url=http://${line#*listening on http://}
                url=${url%%[[:space:]]*}
                url=${url/0.0.0.0/127.0.0.1}
                url=${url/\[::\]/127.0.0.1}
                print_guide "${url%/}"
                ;;
        esac
    done
}

print_guide() {
    cat <<EOT

  Lanecast runs. Ctrl-C ends it.

  Open   $1/              the streams
         $1/swagger-ui    the API, to try out

  See the demo camera (a WSC-RTP session needs a client; this one hands its RTP to ffplay), in two more terminals:

      target/release/lanecast-viewer watch --url $1 --stream demo --forward 5600 --sdp-out demo.sdp
      ffplay -protocol_whitelist file,udp,rtp demo.sdp

  Add a camera of yours:

      curl -X POST $1/streams -H 'content-type: application/json' \\
          -d '{"source_id": 1, "rtsp_url": "rtsp://CAMERA/PATH", "username": "USER", "password": "PASSWORD"}'
      curl $1/streams/1

  and watch it with --stream 1 in place of --stream demo.

EOT
    command -v ffplay >/dev/null || printf '  ffplay is not installed: apt-get install ffmpeg\n\n'
}

# Ctrl-C reaches the server too, and SIGTERM is passed on; each ends a wait before the server has ended.
target/release/lanecast --demo "$@" > >(guide) 2>&1 &
server=$!
trap 'kill -TERM "$server" 2>/dev/null || true' TERM INT
status=0
while true; do
    if wait "$server"; then status=0; else status=$?; fi
    kill -0 "$server" 2>/dev/null || break
done
exit "$status"
