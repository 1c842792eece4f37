#!/usr/bin/env bash
# Installs kubernetes-validate, which holds Kubernetes' own schemas, pinned, from PyPI into target/venv-kubernetes:
#   tests/install-kubernetes.sh
# What is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/venv-kubernetes
version=1.37.0
# sha256 of the wheel, which is the same for every platform.
hash=85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9
dependencies=(
    attrs==26.1.0 importlib_resources==7.1.0 jsonschema==4.26.0 jsonschema-specifications==2025.9.1 packaging==26.3
    PyYAML==6.0.3 referencing==0.37.0 rpds-py==2026.9.1 typing_extensions==4.16.0
)

fail() {
    echo "install-kubernetes: $1" >&2
    exit 1
}

installed() {
    "$venv/bin/kubernetes-validate" --version 2>/dev/null | grep -qF "$version"
}

pip_install() {
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: "$@" ||
        fail "pip could not install: $*"
}

if installed; then
    echo "install-kubernetes: kubernetes-validate $version is there"
    exit
fi
command -v python3 >/dev/null || fail "python3 is missing; install it: apt-get install python3 python3-venv"
echo "install-kubernetes: installing kubernetes-validate $version from PyPI into $venv"
rm -rf "$venv"
python3 -m venv "$venv" || fail "python3 cannot make an environment; install it: apt-get install python3-venv"
pip_install --require-hashes --requirement <(echo "kubernetes-validate==$version --hash=sha256:$hash")
pip_install "${dependencies[@]}"
installed || fail "$venv does not work: $("$venv/bin/kubernetes-validate" --version 2>&1 || true)"
