#!/bin/sh
# Runs one fuzz target, or all one after the other: tools/fuzz/run.sh [target|all] [seconds]
set -eu
cd "$(dirname "$0")/../.."
target=${1:-all}
seconds=${2:-60}
[ "$target" != all ] || target=$(cargo fuzz list --fuzz-dir tools/fuzz)
for name in $target; do
    case $name in
    depacketize_* | rtp_packet) seeds=dataplane/protocol/tests/data ;;
    sdp_offer) seeds=dataplane/webrtc/tests/data/offers ;;
    *) seeds=tools/fuzz/seeds/$name ;;
    esac
    [ -d "$seeds" ] || seeds=
    mkdir -p "tools/fuzz/corpus/$name"
    echo "== $name, $seconds s"
    # shellcheck disable=SC2086
    cargo +nightly fuzz run --fuzz-dir tools/fuzz "$name" "tools/fuzz/corpus/$name" $seeds \
        -- -max_total_time="$seconds" -max_len=16384 -timeout=5 -print_final_stats=1
done
