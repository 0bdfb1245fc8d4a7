# shellcheck shell=bash disable=SC2034
# Sourced by run.sh and test.sh: says what it does, installs what is missing, is silent about what is there.

say() { printf '== %s\n' "$*"; }

fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# What building takes. SQLite and liburing are built from source, the build script of glommio calls git; then the headers
# of FFmpeg, which libclang reads, and of GStreamer.
BUILD_PACKAGES=(ca-certificates pkg-config gcc make libc6-dev git
    libavcodec-dev libavformat-dev libavutil-dev libclang-dev
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev)

# What the server makes the offline picture with: rsvgdec, x264enc, x265enc.
SLATE_PACKAGES=(gstreamer1.0-plugins-base gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly)

# Debian packages: those given that are not installed, in one go.
need_packages() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    command -v apt-get >/dev/null || fail "needs ${missing[*]}; this is no Debian, so install them by hand"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "needs ${missing[*]}: run it as root, or install sudo"
        as_root=(sudo)
    fi
    # A package that brings a service starts it: nobody asked for a web server on this machine.
    local had_nginx=yes
    [ -x /usr/sbin/nginx ] || had_nginx=no
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update \
        && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "the packages could not be installed"
    fi
    rm -f "$log"
    if [ "$had_nginx" = no ] && [ -x /usr/sbin/nginx ] && [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl disable --quiet --now nginx || true
    fi
}

# The Rust toolchain is not ours to install: it must be there.
need_rust() {
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    command -v cargo >/dev/null || fail "needs Rust $(rust_version) or later with cargo: install rustup, then run this again"
    local have
    have=$(rustc --version | awk '{print $2}')
    printf '%s\n%s\n' "$(rust_version)" "$have" | sort -V -C \
        || fail "needs Rust $(rust_version) or later, this is $have: run rustup update"
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml; }
