#!/usr/bin/env bash
# Builds target/live555/live555-server, for the end-to-end tests; does nothing where it is built already.
# Debian 12 has no live555: its source comes with a package of PyPI, named by its hash.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/../../../target/live555"
cd "$here/../../../target/live555"

if [ ! -d source ]; then
    rm -rf package && mkdir package
    cat >package/requirements.txt <<'EOF'
liblivemedia==1.0.5 --hash=sha256:564f65501ea5e823e5c53b1847ce3f41bd7b71ee2e9f3ba154a7e955817dfb48
EOF
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary liblivemedia \
        --dest package --requirement package/requirements.txt
    tar -xzf package/liblivemedia-1.0.5.tar.gz -C package
    mv package/liblivemedia-1.0.5 source
fi
make --silent -j"$(nproc)" -f "$here/Makefile" LIVE555=source live555-server
