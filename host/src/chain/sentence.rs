//! What is wrong with a chain, and what to do, in one sentence.

use std::fmt::{self, Formatter};

use super::fault::Fault;
use crate::certificate_version::Holder;
use crate::clean::Clean;

/// A fault without its word.
pub(super) struct Sentence<'a>(pub(super) &'a Fault);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if let Some(sentence) = fixed(self.0) {
            return formatter.write_str(sentence);
        }
        match self.0 {
            Fault::UnsupportedSignature(algorithm) => write!(
                formatter,
                "a certificate is signed by {algorithm}; sign it again by ECDSA or RSA with SHA-256, or by Ed25519"
            ),
            Fault::NameConstraint(text) => write!(formatter, "{}", Clean(text)),
            Fault::ListExpired { next_update } => write!(
                formatter,
                "the list in `files.crls` that covers it was due to be replaced at {next_update}; fetch the authority's current list"
            ),
            Fault::OtherName { expected, presented } => {
                write!(formatter, "the server's certificate is not for `{}`, ", Clean(expected))?;
                match &presented[..] {
                    [] => formatter.write_str("it has no DNS name or address; ")?,
                    names => write!(formatter, "but for `{}`; ", Clean(&names.join("`, `")))?,
                }
                formatter.write_str("connect by a name that it has, or issue it for this one")
            }
            other => of_authority(other, formatter),
        }
    }
}

fn fixed(fault: &Fault) -> Option<&'static str> {
    Some(match fault {
        Fault::NoCertificate => "no certificate was presented; present one and its key",
        Fault::UnknownAuthority => {
            "no authority in `files.ca-certificates` issued it; present all certificates between, or add the authority"
        }
        Fault::OtherKey => {
            "the authority of that name in `files.ca-certificates` has another key than authorityKeyIdentifier says; add the authority with that key"
        }
        Fault::BadSignature => {
            "a signature is not by the authority that it names; if the authority has a new key, add its new certificate"
        }
        Fault::TooLarge => {
            "the certificates are more than 64 KiB, the most that a handshake takes; present fewer, or smaller ones"
        }
        Fault::PathLength => {
            "there are more authorities between than basicConstraints of one above allows (pathlen); issue from a higher one"
        }
        Fault::TooLong => "there are more than six authorities between; issue from a higher one",
        Fault::TooCostly => {
            "there are too many ways to an authority; present the leaf and the authorities between, each once"
        }
        Fault::Revoked => "a revocation list has it; issue a new one",
        Fault::RevocationUnknown(gap) => gap.text(),
        _ => return None,
    })
}

/// Of one in `files.ca-certificates`, or between it and the leaf.
fn of_authority(fault: &Fault, formatter: &mut Formatter<'_>) -> fmt::Result {
    match fault {
        Fault::AuthorityExpired { authority, not_after } => write!(
            formatter,
            "{} was valid until {not_after}; put the authority's new certificate there",
            Clean(authority)
        ),
        Fault::AuthorityNotYetValid { authority, not_before } => write!(
            formatter,
            "{} is valid from {not_before} on; compare the clocks, or wait",
            Clean(authority)
        ),
        Fault::AuthorityCannotSign { authority, why } => {
            write!(formatter, "{} {why}; put the certificate of an authority there", Clean(authority))
        }
        Fault::IssuerCannotSign { why } => write!(
            formatter,
            "{} {why}; sign it again with basicConstraints=critical,CA:TRUE and keyUsage=critical,keyCertSign",
            Holder::Authority
        ),
        other => of_holder(other, formatter),
    }
}

/// Of the one whose certificate it is.
fn of_holder(fault: &Fault, formatter: &mut Formatter<'_>) -> fmt::Result {
    match fault {
        Fault::Expired { holder, not_after } => {
            write!(formatter, "{holder} was valid until {not_after}; renew it")
        }
        Fault::NotYetValid { holder, not_before } => {
            write!(formatter, "{holder} is valid from {not_before} on; compare the clocks, or wait")
        }
        Fault::NotProven(holder) => write!(
            formatter,
            "{holder} came without a signature by its key; use the key that the certificate was issued for"
        ),
        Fault::UnsupportedKey { holder, key } => write!(
            formatter,
            "{holder} has {key}; use ECDSA with P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits"
        ),
        Fault::KeyUsage(holder) => write!(
            formatter,
            "{holder} has a keyUsage without digitalSignature, which TLS needs; issue it with keyUsage=critical,digitalSignature"
        ),
        Fault::ExtendedKeyUsage { holder, purpose } => write!(
            formatter,
            "{holder} is not for {purpose}; issue it with extendedKeyUsage={purpose}, or without"
        ),
        Fault::CriticalExtension { holder, extension } => write!(
            formatter,
            "{holder} has the extension {extension}, which is not known and must be obeyed; issue it without"
        ),
        Fault::Version(version) => write!(formatter, "{version}"),
        Fault::Malformed(holder) => write!(
            formatter,
            "{holder} is not read: bytes that are no DER, or an extension that is broken or there twice; issue it again"
        ),
        // INVARIANT: all others have their sentences above.
        other => formatter.write_str(other.word()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use peergate_policy::UnixTime;

    use super::*;
    use crate::chain::constraints::Violation;
    use crate::revocation::Gap;

    #[test]
    fn each_fault_says_what_to_do() {
        let (holder, time) = (Holder::Client, UnixTime::from_seconds(0));
        let authority = || Arc::from("certificate 1 of `ca.pem` (CN=Root)");
        let names = || "a".to_owned();
        let faults = [
            Fault::NoCertificate,
            Fault::Expired { holder, not_after: time },
            Fault::NotYetValid { holder, not_before: time },
            Fault::AuthorityExpired { authority: authority(), not_after: time },
            Fault::AuthorityNotYetValid { authority: authority(), not_before: time },
            Fault::AuthorityCannotSign { authority: authority(), why: "is no authority" },
            Fault::IssuerCannotSign { why: "is no authority" },
            Fault::UnknownAuthority,
            Fault::OtherKey,
            Fault::BadSignature,
            Fault::NotProven(holder),
            Fault::TooLarge,
            Fault::UnsupportedSignature(names()),
            Fault::UnsupportedKey { holder, key: names() },
            Fault::KeyUsage(holder),
            Fault::ExtendedKeyUsage { holder, purpose: "clientAuth" },
            Fault::of_names(&Violation::NotPermitted(names())),
            Fault::of_names(&Violation::Excluded(names())),
            Fault::of_names(&Violation::Unreadable(names())),
            Fault::of_names(&Violation::Unsupported(names())),
            Fault::of_names(&Violation::CommonName(names())),
            Fault::of_names(&Violation::TooMany),
            Fault::CriticalExtension { holder, extension: names() },
            Fault::PathLength,
            Fault::TooLong,
            Fault::TooCostly,
            Fault::Malformed(holder),
            Fault::Revoked,
            Fault::RevocationUnknown(Gap::NoList),
            Fault::RevocationUnknown(Gap::OtherKey),
            Fault::ListExpired { next_update: time },
            Fault::OtherName { expected: names(), presented: Vec::new() },
        ];
        for fault in faults {
            let text = fault.to_string();
            let sentence =
                text.strip_prefix(&format!("{}: ", fault.word())).expect("the word, then a sentence");
            let (what, remedy) = sentence.split_once("; ").unwrap_or_else(|| panic!("no remedy: {text}"));
            assert!(what.len() > 5 && remedy.len() > 5 && !text.contains('\n'), "{text}");
        }
    }
}
