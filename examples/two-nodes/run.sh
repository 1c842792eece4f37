#!/usr/bin/env bash
# Two nodes, each with a host: requests of a program on node 1 reach a service on node 2 over mTLS, while the certificates
# and policies of both change ten times:
#   examples/two-nodes/run.sh
# Everything is made anew in target/examples/two-nodes each time. Ends with 1 if a request fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

peergate=$PWD/target/release/peergate
source=$PWD/examples/two-nodes
directory=target/examples/two-nodes
rotations=${ROTATIONS:-10}
connections=${CONNECTIONS:-200}
rate=${RATE:-2000}
processes=()

fail() {
    echo "run.sh: $1" >&2
    exit 1
}

stop() {
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
}

[ -x "$peergate" ] || fail "target/release/peergate is missing; build it: make build"
for tool in openssl curl python3; do
    command -v "$tool" >/dev/null || fail "$tool is missing; install it: apt-get install $tool"
done
trap stop EXIT
rm -rf "$directory"
mkdir -p "$directory"
chmod 700 "$directory"
cd "$directory"

# `openssl` says how it goes on standard error, of interest only when it fails.
quietly() {
    "$@" 2>openssl.log || { cat openssl.log >&2 && fail "$1 $2 failed"; }
}

# A certificate for node $1, under a new name, and the policy that names it, put into place by one rename.
rotate() {
    local node=$1 number=$2 files=$1-$2
    quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$files.key" -subj "/CN=$node" \
        -out "$files.csr"
    quietly openssl x509 -req -in "$files.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$files.pem" \
        -extfile <(echo "subjectAltName=DNS:$node.example")
    cat >"$node.json.new" <<EOF
{
  "files": {
    "ca-certificates": "$PWD/ca.pem",
    "certificates": "$PWD/$files.pem",
    "private-key": "$PWD/$files.key"
  },
  "authorized-peers": [
    {
      "name": "nodes",
      "description": "rotation $number",
      "required-credentials": [{ "field": "SAN_DNS", "must-match": "node?.example" }]
    }
  ]
}
EOF
    mv "$node.json.new" "$node.json"
}

# The address that the host says in a line of its log: `listening on ADDRESS ...`, `admin pages on http://ADDRESS`.
address() {
    for _ in $(seq 200); do
        sed -n "s,^$2 on \(http://\)\{0\,1\}\([^ ]*\).*$,\2,p" "$1" 2>/dev/null | grep . && return
        sleep 0.05
    done
    cat "$1" >&2
    fail "the host does not listen"
}

# Waits until node $1 is at generation $2: nobody told it, it watches its files.
generation() {
    for _ in $(seq 400); do
        [ "$(metric "$(address "$1.log" "admin pages")" peergate_reload_generation)" = "$2" ] && return
        sleep 0.05
    done
    cat "$1.log" >&2
    fail "$1 did not reload"
}

metric() {
    curl --silent --max-time 5 "http://$1/metrics" | sed -n "s/^$2 //p"
}

quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj "/CN=Example CA" \
    -out ca.pem -days 2 -addext keyUsage=critical,keyCertSign
for node in node1 node2; do rotate $node 0; done

python3 "$source/load.py" serve service.port &
processes+=($!)
for _ in $(seq 100); do [ -s service.port ] && break; sleep 0.05; done

sed "s/SERVICE/127.0.0.1:$(cat service.port)/" "$source/node2.json" >node2-host.json
"$peergate" run --config node2-host.json 2>node2.log &
processes+=($!)
inbound=$(address node2.log listening)
sed "s/NODE2/127.0.0.1:${inbound##*:}/" "$source/node1.json" >node1-host.json
"$peergate" run --config node1-host.json 2>node1.log &
processes+=($!)
outbound=$(address node1.log listening)

echo "node 1: a program's requests to $outbound leave as node1.example"
echo "node 2: $inbound admits node?.example and forwards to the service"
curl --silent --show-error --max-time 10 "http://$outbound/" || fail "no answer"

python3 "$source/load.py" load "$outbound" "$connections" "$rate" load.stop >load.txt &
load=$!
processes+=("$load")
sleep 1
for number in $(seq "$rotations"); do
    for node in node1 node2; do
        rotate $node "$number"
        generation $node $((number + 1))
    done
    sleep 0.5
done
touch load.stop
wait "$load" || { cat load.txt && fail "requests failed"; }
cat load.txt

for node in node1 node2; do
    admin=$(address $node.log "admin pages")
    echo "$node: generation $(metric "$admin" peergate_reload_generation), $(metric "$admin" peergate_reload_failures_total) refused reloads"
done
serial() { openssl x509 -noout -serial; }
# Without a certificate this is refused, after the server's own was shown.
served=$({ openssl s_client -connect "$inbound" </dev/null 2>/dev/null || true; } | serial)
[ "$served" = "$(serial <"node2-$rotations.pem")" ] || fail "node 2 serves an old certificate"
echo "node 2 serves the certificate of rotation $rotations"

# A program that goes to node 2 by itself has no certificate of a node.
if curl --silent --max-time 10 --cacert ca.pem --connect-to "node2.example:443:$inbound" https://node2.example/ >/dev/null; then
    fail "a client without a certificate got an answer"
fi
echo "a client without a certificate is refused"
