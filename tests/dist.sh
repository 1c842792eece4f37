#!/usr/bin/env bash
# Runs the host out of its OCI image as a container would: a directory with what the image has and the mounted files, and a user
# who owns nothing else. Admits one client and refuses another. Usage: tests/dist.sh target/oci/host
set -euo pipefail

image=$1
user=65532
for tool in python3 curl tar; do
  command -v "$tool" > /dev/null || { echo "missing: $tool (apt-get install python3 curl tar)"; exit 1; }
done

work=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

layer=$(python3 - "$image" <<'PYTHON'
import json, pathlib, sys
image = pathlib.Path(sys.argv[1])
blob = lambda descriptor: image / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")
manifest = json.loads(blob(json.loads((image / "index.json").read_text())["manifests"][0]).read_text())
print(blob(manifest["layers"][0]))
PYTHON
)
root=$work/root
mkdir -p "$root/etc/tls"
tar -xzf "$layer" -C "$root"

pki=$work/pki
"$root/peergate" pki --out "$pki" > /dev/null
cp "$pki"/{ca,server}.pem "$pki/server.key" "$root/etc/tls/"
cat > "$root/etc/tls/policy.json" <<'JSON'
{
  "files": {"ca-certificates": "/etc/tls/ca.pem", "certificates": "/etc/tls/server.pem", "private-key": "/etc/tls/server.key"},
  "authorized-peers": [{"required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}]}]
}
JSON
# The service by its name: a static C library must find it without modules of its own.
echo "127.0.0.1 service" > "$root/etc/hosts"
chmod 755 "$work" "$root" "$root/etc" "$root/etc/tls"

mkdir "$work/service"
echo "the service" > "$work/service/index.html"
python3 -u -m http.server --bind 127.0.0.1 --directory "$work/service" 0 > "$work/service.log" 2>&1 &
pids+=($!)

# Prints the first match of a pattern in a file as soon as there is one.
awaited() {
  for _ in $(seq 1 300); do
    grep -oE "$1" "$2" | head -1 | grep . && return
    sleep 0.1
  done
  echo "waited in vain for $1 in:" >&2; cat "$2" >&2; return 1
}
upstream=$(awaited 'port [0-9]+' "$work/service.log")
upstream=service:${upstream#port }

if [ "$(id -u)" = 0 ]; then
  chown -R $user:$user "$root/etc/tls"
  enter=(chroot --userspec=$user:$user "$root")
else
  enter=(unshare --user --map-user=$user --map-group=$user --root="$root")
fi
env -i PATH="$PATH" "${enter[@]}" /peergate run --policy /etc/tls/policy.json --inbound 127.0.0.1:0 --upstream "$upstream" 2> "$work/host.log" &
host=$!
pids+=($host)
address=$(awaited '127\.0\.0\.1:[0-9]+' "$work/host.log")
[ "$(stat -c %u "/proc/$host")" = $user ] || [ "$(id -u)" != 0 ] || { echo "it runs as another user"; exit 1; }

ask() {
  curl --silent --show-error --max-time 20 --cacert "$pki/ca.pem" --cert "$pki/$1.pem" --key "$pki/$1.key" \
    --resolve "localhost:${address#*:}:127.0.0.1" "https://localhost:${address#*:}/" 2>&1 || true
}
admitted=$(ask node)
refused=$(ask stranger)
[ "$admitted" = "the service" ] || { echo "a node was not admitted: $admitted"; cat "$work/host.log"; exit 1; }
[[ $refused == *"access denied"* ]] || { echo "a stranger was not refused: $refused"; cat "$work/host.log"; exit 1; }

kill -TERM $host
wait $host || { echo "it did not end in peace"; cat "$work/host.log"; exit 1; }
echo "ran as user $user in a directory with nothing but the image: one admitted, one refused"
