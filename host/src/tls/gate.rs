//! The filter's say in the TLS handshake.
//!
//! rustls verifies synchronously, inside the poll of the handshake, and tells its verifier neither address nor name.
//! The worker therefore lays the handshake down in a thread-local around each poll ([`polled`]).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::authentication::Authentication;
use crate::certificate_version::Holder;
use crate::chain::Fault;
use crate::wasm::{Connection, PeerCertificate, Tls, Verdict, Worker};

/// A handshake in progress: what the filter is told, what it said, and what was proven.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) id: u64,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) server_name: Option<String>,
    pub(super) alpn: Option<String>,
    pub(super) worker: Rc<Worker>,
    /// The leaf that passed the certificate step of this handshake.
    pub(super) verified: RefCell<Option<Vec<u8>>>,
    /// The leaf whose key the peer has, where only requests are judged.
    pub(super) proven: RefCell<Option<PeerCertificate>>,
    pub(super) judged: RefCell<Option<(Rc<Connection>, Verdict)>>,
    /// Why the chain or its key was not believed.
    pub(super) fault: RefCell<Option<Fault>>,
}

impl Handshake {
    /// Why it failed: `error`, unless it is about what `holder` presented.
    pub(super) fn cause(&self, error: io::Error, holder: Holder) -> io::Error {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        match self.fault.take().or_else(|| Fault::of_handshake(of_tls?, holder)) {
            Some(fault) => io::Error::new(error.kind(), fault),
            None => error,
        }
    }
}

/// Polls `future` with `handshake` as the one the gate judges.
pub(super) async fn polled<F: Future>(handshake: &Rc<Handshake>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _current = Current::enter(Rc::clone(handshake));
        future.as_mut().poll(context)
    })
    .await
}

/// Verifies certificates as `verifier` does, then asks the filter about peers; of other clients it keeps what they have
/// proven, for the requests that the filter is asked about.
///
/// The filter is asked in the *signature* step, after the peer proved that it has the key. In the certificate step
/// whoever holds a copy of a public certificate could probe the policy.
#[derive(Debug)]
pub(super) struct Gate {
    verifier: Arc<dyn ClientCertVerifier>,
    authentication: Authentication,
}

impl Gate {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>, authentication: Authentication) -> Self {
        Self { verifier, authentication }
    }

    /// Fails closed: no handshake laid down, another leaf than the verified one, and every verdict but "allow" refuse.
    fn possessed(&self, cert: &CertificateDer<'_>, version: &'static str) -> Result<(), Error> {
        let handshake = current().ok_or(REFUSED)?;
        if handshake.verified.borrow().as_deref() != Some(cert.as_ref()) {
            return Err(REFUSED);
        }
        match self.authentication {
            Authentication::Peer => ask_filter(&handshake, cert, version),
            Authentication::Trusted | Authentication::Pinned => {
                handshake.proven.replace(Some(PeerCertificate::from_der(cert)));
                Ok(())
            }
            // Nothing was asked of this client, so there is nothing to believe.
            Authentication::Nothing => Err(REFUSED),
        }
    }
}

impl ClientCertVerifier for Gate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        let handshake = current().ok_or(REFUSED)?;
        handshake.verified.replace(Some(end_entity.to_vec()));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.verifier.verify_tls12_signature(message, cert, signed)?;
        self.possessed(cert, "TLSv1.2")?;
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.verifier.verify_tls13_signature(message, cert, signed)?;
        self.possessed(cert, "TLSv1.3")?;
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

pub(super) fn ask_filter(
    handshake: &Handshake,
    cert: &CertificateDer<'_>,
    version: &'static str,
) -> Result<(), Error> {
    let tls = Tls {
        version,
        server_name: handshake.server_name.clone(),
        alpn: handshake.alpn.clone(),
        peer: Some(PeerCertificate::from_der(cert)),
        chain_verified: true,
    };
    let connection =
        Rc::new(Connection::new(handshake.id, handshake.source, handshake.destination, Some(tls)));
    let verdict = handshake.worker.judge_connection(&connection);
    let allow = verdict.allow;
    handshake.judged.replace(Some((connection, verdict)));
    if allow { Ok(()) } else { Err(REFUSED) }
}

/// The alert for `fault`, which is noted in the handshake so that the log tells it.
pub(super) fn refused(fault: Fault) -> Error {
    let alert = fault.alert();
    if let Some(handshake) = current() {
        handshake.fault.replace(Some(fault));
    }
    alert
}

/// rustls turns this one into the alert `access_denied` (RFC 8446 section 6.2).
pub(super) const REFUSED: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

thread_local! {
    static CURRENT: Cell<Option<Rc<Handshake>>> = const { Cell::new(None) };
}

/// The handshake laid down for the poll that runs now.
pub(super) fn current() -> Option<Rc<Handshake>> {
    CURRENT.with(|cell| {
        let handshake = cell.take();
        cell.set(handshake.clone());
        handshake
    })
}

/// Takes the handshake away again when the poll ends, also by a panic.
struct Current;

impl Current {
    fn enter(handshake: Rc<Handshake>) -> Self {
        CURRENT.set(Some(handshake));
        Self
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}
