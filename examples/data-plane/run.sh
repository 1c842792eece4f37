#!/usr/bin/env bash
# Two endpoints in front of one service, five roles, and what each may do:
#   examples/data-plane/run.sh
# Certificates and tokens are made anew in target/examples/data-plane each time. Ends with 1 if an answer is not as expected.
set -euo pipefail
cd "$(dirname "$0")/../.."

peergate=$PWD/target/release/peergate
source=$PWD/examples/data-plane
directory=target/examples/data-plane
roles=(reader writer both unknown expired)
document=/document/v1/ns/music/docid/a%2Fb%20100%25
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

request() {
    quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "/CN=$1" "${@:2}"
}

make_certificates() {
    request ca -x509 -out ca.pem -days 2 -addext keyUsage=critical,keyCertSign
    request localhost -out server.csr
    mv localhost.key server.key
    quietly openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem \
        -extfile <(echo subjectAltName=DNS:localhost)
    # Clients are known by the certificate itself, so it needs no authority.
    for role in reader writer both unknown; do request "$role" -x509 -out "$role.pem" -days 2; done
    request expired -out expired.csr
    quietly openssl x509 -req -in expired.csr -signkey expired.key -days -1 -out expired.pem \
        -extfile <(echo basicConstraints=CA:FALSE)
}

make_token() {
    "$peergate" token new --policy policy.json --client "$1-by-token" --permissions "$2" --id "$1-token" --ttl "$3" \
        --out "$1.token"
}

make_tokens() {
    make_token reader read 30d
    make_token writer write 30d
    make_token both read,write 30d
    make_token expired read,write 1s
    # Known to a policy, but not to this one.
    cp policy.json other.json
    "$peergate" token new --policy other.json --client other --permissions read,write --id other --out unknown.token
    # curl reads the header from a file: an argument would show in the list of processes.
    for role in "${roles[@]}"; do
        (umask 077 && echo "Authorization: Bearer $(cat "$role.token")" >"$role.header")
    done
}

# Waits for a line in a file of a process just started, and prints what `sed` makes of it.
await() {
    local found
    for _ in $(seq 50); do
        found=$(sed -nE "$2" "$1")
        [ -n "$found" ] && echo "$found" && return
        sleep 0.1
    done
    fail "nothing listens: $(cat "$1")"
}

serve() {
    "$peergate" run --policy policy.json --endpoint "$1" --inbound 127.0.0.1:0 --upstream "127.0.0.1:$upstream" \
        2>"$1.log" &
    processes+=($!)
}

status() {
    local role=$1 endpoint=$2 method=$3 path=$4 credential=(--header "@$1.header") port=$token_port
    [ "$endpoint" = mtls ] && credential=(--cert "$role.pem" --key "$role.key") && port=$mtls_port
    curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 --path-as-is --cacert ca.pem \
        "${credential[@]}" --request "$method" --resolve "localhost:$port:127.0.0.1" "https://localhost:$port$path"
}

make_certificates
# The policy as it would be deployed, with the files of this directory.
sed "s|/etc/peergate/|$PWD/|" "$source/policy.json" >policy.json
make_tokens
python3 "$source/upstream.py" >upstream.port &
processes+=($!)
upstream=$(await upstream.port p)
serve mtls
serve token
mtls_port=$(await mtls.log 's/^listening on 127.0.0.1:([0-9]+) .*/\1/p')
token_port=$(await token.log 's/^listening on 127.0.0.1:([0-9]+) .*/\1/p')
# Until the token of a second has ended.
sleep 2

declare -A expected=([reader]="200 200 200 403 403" [writer]="403 403 403 200 200" [both]="200 200 200 200 200"
    [unknown]="403 403 403 403 403" [expired]="403 403 403 403 403")
wrong=0
for endpoint in mtls token; do
    printf '\n%-10s %-12s %-13s %-13s %-14s %s\n' "$endpoint" "GET search" "POST search" "GET document" "POST document" \
        "DELETE document"
    for role in "${roles[@]}"; do
        seen=()
        for operation in "GET /search/?yql=x" "POST /search/" "GET $document" "POST $document" "DELETE $document"; do
            # shellcheck disable=SC2086 # method and path are two words
            seen+=("$(status "$role" "$endpoint" $operation)")
        done
        printf '%-10s %-12s %-13s %-13s %-14s %s\n' "$role" "${seen[@]}"
        [ "${seen[*]}" = "${expected[$role]}" ] || wrong=1
    done
done
[ $wrong = 0 ] || fail "an answer is not as expected; see $directory/*.log"
