//! A certificate around names that came without one.

use peergate_policy::PeerIdentity;
use rcgen::date_time_ymd;
use rustls_pki_types::CertificateDer;

use super::{Credential, Leaf};

/// Wraps the names of an already decoded peer in a certificate of nobody, so that a filter which only reads
/// certificates can judge them. It never expires.
///
/// `None` when no certificate can carry the values, or when the engine would refuse the certificate whole
/// before it looked at a rule: an empty, NUL-containing or non-ASCII DNS name or URI, an empty or
/// NUL-containing CN. Other control characters fit an IA5String and pass.
pub fn throwaway(peer: &PeerIdentity) -> Option<CertificateDer<'static>> {
    if !fits_certificate(peer) {
        return None;
    }
    let never = date_time_ymd(9999, 12, 31); // RFC 5280, 4.1.2.5: no well-defined end
    let leaf = Leaf { names: peer.clone(), ..Leaf::new() }.valid(date_time_ymd(1970, 1, 1), never);
    Credential::self_signed(&leaf).ok().map(|credential| credential.leaf().clone())
}

/// Whether a certificate can carry these names and be judged by them.
pub fn fits_certificate(peer: &PeerIdentity) -> bool {
    let ia5 = |name: &String| !name.is_empty() && name.is_ascii() && !name.contains('\0');
    peer.common_name.as_ref().is_none_or(|cn| !cn.is_empty() && !cn.contains('\0'))
        && peer.dns_names.iter().all(ia5)
        && peer.uris.iter().all(ia5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> PeerIdentity {
        PeerIdentity { dns_names: vec![name.to_owned()], ..PeerIdentity::default() }
    }

    #[test]
    fn names_that_fit_are_carried_as_they_are() {
        let peer = PeerIdentity { common_name: Some("blåbær".to_owned()), ..dns("a\\*b\n") };
        let der = throwaway(&peer).expect("the names fit");
        for name in ["blåbær", "a\\*b\n"] {
            assert!(der.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn names_that_do_not_fit_make_no_certificate() {
        for name in ["", "é", "a\0b"] {
            assert_eq!(throwaway(&dns(name)), None, "DNS {name:?}");
            let uri = PeerIdentity { uris: vec![name.to_owned()], ..PeerIdentity::default() };
            assert_eq!(throwaway(&uri), None, "URI {name:?}");
        }
        for cn in ["", "a\0b"] {
            let peer = PeerIdentity { common_name: Some(cn.to_owned()), ..PeerIdentity::default() };
            assert_eq!(throwaway(&peer), None, "CN {cn:?}");
        }
    }
}
