#!/usr/bin/env bash
# Installs Debian's Prometheus into target/prometheus, without root and without what it depends on:
#   tests/install-prometheus.sh
# The programs are then target/prometheus/prometheus and target/prometheus/promtool. What is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian's revision is left open: a security update replaces the one before.
upstream=2.42.0
version="$upstream+ds-*"
directory=target/prometheus

fail() {
    echo "install-prometheus: $1" >&2
    exit 1
}

installed() {
    [[ $("$directory/prometheus" --version 2>/dev/null) == *"version $upstream"* ]] &&
        [[ $("$directory/promtool" --version 2>/dev/null) == *"version $upstream"* ]]
}

if installed; then
    echo "install-prometheus: Prometheus $upstream is there"
    exit
fi
for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || fail "$tool is missing; put the programs of Prometheus $upstream into $directory"
done

partial=$PWD/$directory.partial
rm -rf "$directory" "$partial"
mkdir -p "$partial/lists/partial" "$partial/cache/archives/partial"
# Lists and cache of our own: those of the system are root's. Signatures are checked as always.
own=(-o "Dir::State::Lists=$partial/lists" -o "Dir::Cache=$partial/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1)
echo "install-prometheus: installing Debian's prometheus $version into $directory"
download() { (cd "$partial" && apt-get -qq "$@" -o APT::Sandbox::User= download "prometheus=$version"); }
# The system's lists may be missing, or name a package that was replaced.
download 2>/dev/null || { apt-get -qq "${own[@]}" update && download "${own[@]}"; } ||
    fail "apt-get has no prometheus=$version: see 'apt-cache policy prometheus', or put the programs into $directory"
dpkg-deb --extract "$partial"/prometheus_*.deb "$partial/files"
mkdir "$directory"
mv "$partial"/files/usr/bin/{prometheus,promtool} "$directory"
rm -rf "$partial"
installed || fail "$directory/prometheus does not start: $("$directory/prometheus" --version 2>&1 || true)"
echo "install-prometheus: Prometheus $upstream"
