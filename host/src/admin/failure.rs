//! Words for handshakes that came to nothing. A fixed list: a client must not be able to make new series.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::chain::Fault;

/// The word for an error of a handshake.
pub fn failure(error: &io::Error) -> &'static str {
    let inner = error.get_ref();
    if let Some(fault) = inner.and_then(|inner| inner.downcast_ref::<Fault>()) {
        return fault.word();
    }
    let cause = inner.and_then(|inner| inner.downcast_ref::<Error>());
    match cause {
        Some(cause) => of_tls(cause),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "closed",
        None if error.kind() == io::ErrorKind::ConnectionReset => "closed",
        // Nothing else in a handshake is looked for.
        None if error.kind() == io::ErrorKind::NotFound => "unknown-name",
        None => "other",
    }
}

fn of_tls(cause: &Error) -> &'static str {
    match cause {
        Error::NoCertificatesPresented => "no-certificate",
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::InvalidCertRevocationList(_) => "unusable-crl",
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered | PeerIncompatible::Tls13RequiredForQuic,
        ) => "protocol-version",
        Error::PeerIncompatible(_) => "no-common-parameters",
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => "not-tls",
        Error::DecryptError | Error::PeerMisbehaved(_) => "misbehaved",
        _ => "other",
    }
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate-expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate-not-yet-valid"
        }
        CertificateError::Revoked => "certificate-revoked",
        CertificateError::UnknownIssuer => "unknown-authority",
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "revocation-unknown",
        _ => "bad-certificate",
    }
}

/// What the client did not like.
fn of_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "alert-unknown-ca",
        AlertDescription::CertificateExpired => "alert-certificate-expired",
        AlertDescription::BadCertificate => "alert-bad-certificate",
        _ => "alert-other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_word() {
        for (cause, word) in [
            (Error::NoCertificatesPresented, "no-certificate"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "unknown-authority"),
            (Error::InvalidCertificate(CertificateError::Revoked), "certificate-revoked"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "alert-unknown-ca"),
        ] {
            assert_eq!(failure(&io::Error::new(io::ErrorKind::InvalidData, cause)), word);
        }
        assert_eq!(failure(&io::ErrorKind::UnexpectedEof.into()), "closed");
        assert_eq!(failure(&io::Error::other("x")), "other");
    }
}
