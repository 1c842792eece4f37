//! Signatures on certificates and revocation lists that this worker has verified before.
//!
//! A signature that is good under a key is so for ever, whoever is trusted now. So after a change of authorities, what the
//! handshakes verified need not be computed again for each open connection: webpki looks for a path, for time,
//! constraints and revocation as ever, and where it comes to a signature, the same key, message and signature are looked up.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::LazyLock;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::{AlgorithmIdentifier, FipsStatus, InvalidSignature, SignatureVerificationAlgorithm};
use sha2::{Digest as _, Sha256};

use crate::proxy::limits;

/// Longer messages are not remembered: to recognise one takes nearly as long as to verify it.
const MESSAGE: usize = 64 * 1024;

/// Makes the verifiers of this provider remember. Signatures of handshakes are not meant: no two are the same.
pub(super) fn remember(provider: &mut CryptoProvider) {
    provider.signature_verification_algorithms.all = &REMEMBERING;
}

/// Lets `work` believe what was verified before on this thread. Handshakes verify always: from how long one takes, a client
/// could tell whose certificate was here.
pub(super) fn recalling<T>(work: impl FnOnce() -> T) -> T {
    let _recall = Recall::begin();
    work()
}

static REMEMBERING: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
    let all = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let remembering =
        all.iter().enumerate().map(|(number, algorithm)| Remembering { number, algorithm: *algorithm });
    let remembering: &'static [Remembering] = Vec::leak(remembering.collect());
    remembering.iter().map(|it| it as &'static dyn SignatureVerificationAlgorithm).collect()
});

/// An algorithm that remembers.
#[derive(Debug)]
struct Remembering {
    /// Which of all.
    number: usize,
    algorithm: &'static dyn SignatureVerificationAlgorithm,
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        if message.len() > MESSAGE {
            return self.algorithm.verify_signature(key, message, signature);
        }
        let proof = proof(self.number, key, message, signature);
        if RECALLS.get() && KNOWN.with_borrow_mut(|known| known.has(&proof)) {
            return Ok(());
        }
        self.algorithm.verify_signature(key, message, signature)?;
        KNOWN.with_borrow_mut(|known| known.insert(proof));
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips_status(&self) -> FipsStatus {
        self.algorithm.fips_status()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

/// SHA-256 of all that a signature's verification depends on.
type Proof = [u8; 32];

fn proof(algorithm: usize, key: &[u8], message: &[u8], signature: &[u8]) -> Proof {
    let mut hash = Sha256::new();
    // With lengths, so that no other division of the same bytes is the same.
    for length in [algorithm, key.len(), message.len()] {
        hash.update(length.to_le_bytes());
    }
    for part in [key, message, signature] {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Proofs, bounded: when the young half is full it becomes the old one, and what is not asked for again is dropped with
/// it. A forgotten one is computed again.
#[derive(Default)]
struct Known {
    young: HashSet<Proof>,
    old: HashSet<Proof>,
}

impl Known {
    fn has(&mut self, proof: &Proof) -> bool {
        if self.young.contains(proof) {
            return true;
        }
        let is_old = self.old.remove(proof);
        if is_old {
            self.insert(*proof);
        }
        is_old
    }

    fn insert(&mut self, proof: Proof) {
        if self.young.len() >= limits::CONNECTIONS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(proof);
    }
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
    static RECALLS: Cell<bool> = const { Cell::new(false) };
}

/// Ends the recall when dropped, also by a panic.
struct Recall;

impl Recall {
    fn begin() -> Self {
        RECALLS.set(true);
        Self
    }
}

impl Drop for Recall {
    fn drop(&mut self) {
        RECALLS.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_and_asked_for_stays() {
        let proof = |number: usize| proof(number, b"", b"", b"");
        let mut known = Known::default();
        for number in 0..limits::CONNECTIONS * 3 {
            known.insert(proof(number));
            assert!(known.has(&proof(0)) && known.has(&proof(number)), "{number}");
        }
        assert!(!known.has(&proof(1)));
        assert!(known.young.len() + known.old.len() <= 2 * limits::CONNECTIONS);
    }

    /// A signature that is bad shows what is looked up and what is verified.
    #[test]
    fn only_a_recall_looks_up_and_only_what_is_the_same() {
        let verify = |algorithm: usize, message: &[u8]| {
            REMEMBERING[algorithm].verify_signature(b"key", message, b"bad")
        };
        KNOWN.with_borrow_mut(|known| known.insert(proof(0, b"key", b"message", b"bad")));
        assert!(verify(0, b"message").is_err());
        recalling(|| {
            assert!(verify(0, b"message").is_ok());
            assert!(verify(1, b"message").is_err());
            assert!(verify(0, b"another").is_err());
            assert!(verify(0, b"another").is_err(), "what was refused is not remembered");
        });
        assert!(verify(0, b"message").is_err());
    }

    #[test]
    fn a_proof_is_of_all_parts_and_their_bounds() {
        let proofs = [
            proof(0, b"ab", b"cd", b"ef"),
            proof(1, b"ab", b"cd", b"ef"),
            proof(0, b"a", b"bcd", b"ef"),
            proof(0, b"ab", b"cde", b"f"),
            proof(0, b"abcd", b"", b"ef"),
            proof(0, b"ab", b"cd", b"eg"),
        ];
        assert_eq!(proofs.into_iter().collect::<HashSet<_>>().len(), proofs.len());
    }
}
