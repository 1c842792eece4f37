//! How much of a VM's memory policies take that are as large as any. The embedded filter allocates alike on every machine,
//! so these are figures and no guesses; what they leave of 64 MiB is for requests.

use std::iter;

use super::super::{Filter, Worker};

const MIB: usize = 1 << 20;
const MANY: usize = 100_000;

/// Linear memory, in MiB, of a VM that has read `policy` for both of its roots.
#[track_caller]
fn taken(endpoint: &str, policy: &str) -> usize {
    let filter = Filter::embedded().expect("the embedded filter");
    let configuration = format!(r#"{{"endpoint": "{endpoint}", "policy": {policy}}}"#);
    let worker = Worker::start(&filter, &configuration).expect("a VM");
    let size = worker.with_present_vm(|vm| {
        let memory = vm.store.data().memory.expect("a memory");
        memory.data_size(&vm.store)
    });
    let (_, size) = size.expect("a VM");
    println!("{} MiB of text, {} MiB of memory", configuration.len() / MIB, size.div_ceil(MIB));
    size.div_ceil(MIB)
}

fn list(entry: impl Fn(usize) -> String, count: usize) -> String {
    (0..count).map(entry).collect::<Vec<_>>().join(",\n")
}

fn digest(number: usize) -> String {
    // Spread like digests are, so that an index is filled in no order.
    iter::successors(Some(number as u64), |it| {
        Some(it.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ 0x5851_f42d)
    })
    .skip(1)
    .take(4)
    .map(|part| format!("{part:016x}"))
    .collect()
}

fn token(number: usize) -> String {
    let fingerprint: Vec<_> = digest(number).as_bytes()[..32]
        .chunks(2)
        .map(|byte| String::from_utf8_lossy(byte).into_owned())
        .collect();
    format!(
        r#"{{"id": "token-{number}", "versions": [{{"fingerprint": "{}", "check-access-hash": "{}", "expiration": "2036-12-20T00:00:00Z"}}]}}"#,
        fingerprint.join(":"),
        digest(number + MANY),
    )
}

fn data_plane(clients: &str) -> String {
    format!(
        r#"{{"data-plane": {{"token-context": "Vespa Cloud tenant data plane:mytenant", "clients": [{clients}]}}}}"#
    )
}

#[test]
fn a_hundred_thousand_clients_with_a_token_each() {
    let client = |number| {
        format!(r#"{{"id": "client-{number}", "permissions": ["read"], "tokens": [{}]}}"#, token(number))
    };
    assert!(taken("token", &data_plane(&list(client, MANY))) <= 50);
}

#[test]
fn a_hundred_thousand_tokens_of_a_thousand_clients() {
    let client = |number| {
        let tokens = list(|it| token(number * 100 + it), 100);
        format!(r#"{{"id": "client-{number}", "permissions": ["read"], "tokens": [{tokens}]}}"#)
    };
    assert!(taken("token", &data_plane(&list(client, MANY / 100))) <= 41);
}

#[test]
fn a_hundred_thousand_pinned_certificates() {
    let client = |number| {
        let certificate = digest(number);
        format!(
            r#"{{"id": "client-{number}", "permissions": ["read"], "certificates": [{{"sha256": "{certificate}"}}]}}"#
        )
    };
    assert!(taken("mtls", &data_plane(&list(client, MANY))) <= 31);
}

#[test]
fn ten_thousand_rules() {
    let rule = |number| {
        format!(
            r#"{{"name": "tenant-{number}", "required-credentials": [
                {{"field": "CN", "must-match": "service-{number}"}}, {{"field": "SAN_DNS", "must-match": "*.tenant-{number}.example"}}]}}"#
        )
    };
    assert!(taken("peer", &format!(r#"{{"authorized-peers": [{}]}}"#, list(rule, 10_000))) <= 26);
}
