#!/usr/bin/env bash
# Installs what the tests need and is missing (Debian 12), then runs every check and every test.
# Usage: tools/test.sh [arguments for the test runner, such as a test's name]
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

need_rust
need_packages "${BUILD_PACKAGES[@]}" "${SLATE_PACKAGES[@]}" \
    ffmpeg nginx libnginx-mod-rtmp python3-gi gir1.2-gst-rtsp-server-1.0 \
    gstreamer1.0-plugins-good gstreamer1.0-libav gstreamer1.0-tools \
    chromium chromium-driver python3-aiortc gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0 \
    vlc-bin vlc-plugin-base openssl glib-networking g++ python3-pip

if ! cargo nextest --version >/dev/null 2>&1; then
    say "installing cargo-nextest"
    cargo install cargo-nextest --locked --quiet || say "cargo-nextest cannot be had: falling back to cargo test"
fi

say "live555, whose RTSP server the tests meet"
tests/e2e/live555/build.sh || say "live555 cannot be built: its tests are skipped"

if command -v npm >/dev/null; then
    say "rtsp-streaming-server, which the tests meet"
    tests/e2e/rtsp_streaming_server/install.sh || say "rtsp-streaming-server cannot be had: its test is skipped"
else
    say "no npm: the test of rtsp-streaming-server is skipped"
fi

say "formatting"
cargo fmt --all --check

say "lints"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

# The server without FFmpeg and GStreamer: only the crates that know of them are built once more.
without=(--no-default-features -p lanecast -p lanecast-shard -p lanecast-transcode --locked)
say "lints without FFmpeg and GStreamer"
cargo clippy "${without[@]}" --all-targets --quiet -- -D warnings

# The end-to-end tests run these beside the server.
say "building"
cargo build --workspace --bins --locked --quiet

say "documentation tests"
cargo test --workspace --doc --locked --quiet 2>&1 | { grep -vE '^$|^running 0 tests|0 passed; 0 failed' || true; }

say "tests"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked "$@"
else
    RUST_TEST_THREADS=2 cargo test --workspace --lib --bins --tests --locked --no-fail-fast "$@"
fi

if [ $# -eq 0 ] && cargo nextest --version >/dev/null 2>&1; then
    say "tests without FFmpeg and GStreamer: what needs them is skipped, and of the others end to end all but a handful"
    cargo nextest run "${without[@]}" --filterset \
        'not binary(e2e) or test(/^built_without::|^pictures::(h264_over_tcp|websocket)|^reconnect::|^program::|^rest::/)'
fi
