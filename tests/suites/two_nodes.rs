//! `examples/two-nodes`: ten rotations under load, and no request fails.

use std::process::Command;

use peergate_tests::{commands::run, root};

#[test]
fn ten_rotations_under_load_fail_no_request() {
    // One process after the other, a minute in all; `run` ends what takes longer.
    let finished = run(&mut Command::new(root().join("examples/two-nodes/run.sh")), b"");
    let said = finished.output();
    assert_eq!(finished.code, Some(0), "{said}");
    for line in [
        " requests on 200 connections, ",
        " 0 failed, ",
        "node1: generation 11, 0 refused reloads",
        "node2: generation 11, 0 refused reloads",
        "node 2 serves the certificate of rotation 10",
        "a client without a certificate is refused",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}
