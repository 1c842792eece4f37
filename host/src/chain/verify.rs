//! Whether a chain leads to an authority.
//!
//! webpki looks for paths and verifies signatures, times, path lengths, purposes and revocation. Of each path that it finds
//! we ask what it does not: whether the authority at its end is valid and may sign, whether all certificates between
//! may, whether the leaf's key may sign a handshake, and whether the names are allowed. A path that we refuse is no end: webpki
//! goes on to the next, so an expired root that signed a newer one across does no harm.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use peergate_policy::UnixTime;
use rustls::DistinguishedName;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::authority::Authorities;
use super::certificate::Certificate;
use super::constraints::{Constraints, Violation, check_common_name};
use super::fault::Fault;
use super::plain::Shown;
use super::translation::{NO_CERT_SIGN, Refused, unsupported_key};
use crate::certificate_version::Holder;
use crate::revocation::{self, Gap, RevocationList};

/// What the holder of the leaf does in the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It connects to us.
    Client,
    /// We connect to it.
    Server,
}

impl Purpose {
    pub(super) fn holder(self) -> Holder {
        match self {
            Self::Client => Holder::Client,
            Self::Server => Holder::Server,
        }
    }

    /// In extKeyUsage: 1.3.6.1.5.5.7.3.2 and .1.
    pub(super) fn identifier(self) -> &'static [u8] {
        match self {
            Self::Client => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
            Self::Server => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }

    fn usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

/// Verifies chains by the authorities and revocation lists of a policy.
pub(crate) struct Chains {
    pub(crate) authorities: Authorities,
    pub(crate) lists: Vec<RevocationList>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Chains {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Chains").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

impl Chains {
    /// What clients are told, to choose a certificate by.
    pub(crate) fn hints(&self) -> Vec<DistinguishedName> {
        self.authorities.hints()
    }

    /// Whether the leaf, by way of the intermediates, leads to an authority that may vouch for it at `now`.
    ///
    /// # Errors
    /// Why not. Of several paths, why the first one that is complete does not serve.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Fault> {
        if let Some(index) = self.authorities.same(leaf).filter(|index| !self.authorities.has_issuer(*index))
        {
            return self.is_trusted_itself(index, leaf, purpose, now);
        }
        let refused = Refused { leaf, intermediates, purpose };
        // Before anything is read: nobody has vouched for it yet.
        if intermediates.len() > INTERMEDIATES {
            return Err(Fault::TooLong);
        }
        let shown = Shown::new(leaf, intermediates, &self.authorities);
        let end_entity = EndEntityCert::try_from(shown.leaf()).map_err(|error| refused.fault(error))?;
        let of_ours = RefCell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            self.check(path, &shown, purpose, now).map_err(|fault| {
                of_ours.borrow_mut().get_or_insert(fault);
                // The least of all, so that nothing is hidden by it.
                webpki::Error::UnknownIssuer
            })
        };
        let algorithms = shown.algorithms(self.provider.signature_verification_algorithms.all);
        let algorithms: Vec<_> =
            algorithms.iter().map(|it| it as &dyn SignatureVerificationAlgorithm).collect();
        let verified = end_entity.verify_for_usage(
            &algorithms,
            self.authorities.anchors(),
            shown.intermediates(),
            since_1970(now),
            purpose.usage(),
            None,
            Some(&check),
        );
        match (verified, of_ours.take()) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(fault)) => Err(fault),
            (Err(error), None) => Err(refused.fault(error)),
        }
    }

    /// Whether the leaf is for this name (RFC 9525).
    pub(crate) fn verify_name(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Fault> {
        let refused = Refused { leaf, intermediates: &[], purpose: Purpose::Server };
        let none = Authorities::default();
        let shown = Shown::new(leaf, &[], &none);
        let end_entity = EndEntityCert::try_from(shown.leaf()).map_err(|error| refused.fault(error))?;
        end_entity.verify_is_valid_for_subject_name(name).map_err(|error| refused.fault(error))
    }

    /// Why a signature in the handshake is not verified, if that is because of the key.
    pub(crate) fn unsupported_key(leaf: &CertificateDer<'_>, purpose: Purpose) -> Option<Fault> {
        unsupported_key(leaf).map(|key| Fault::UnsupportedKey { holder: purpose.holder(), key })
    }

    /// A leaf that is among the authorities, and whose issuer is not: it is believed because it is there.
    fn is_trusted_itself(
        &self,
        index: usize,
        leaf: &CertificateDer<'_>,
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Fault> {
        let certificate = Certificate::of(leaf).ok_or(Fault::Malformed(purpose.holder()))?;
        self.authorities.is_valid(index, now)?;
        if !certificate.may_sign() {
            return Err(Fault::KeyUsage(purpose.holder()));
        }
        // Its issuer, who could revoke it, is not known.
        if self.lists.is_empty() { Ok(()) } else { Err(Fault::RevocationUnknown(Gap::NoList)) }
    }

    /// What webpki does not ask of a path that it has verified.
    fn check(
        &self,
        path: &VerifiedPath<'_>,
        shown: &Shown<'_>,
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Fault> {
        let anchor = self.authorities.position(path.anchor()).ok_or(Fault::UnknownAuthority)?;
        self.authorities.vouches(anchor, now)?;
        let leaf = shown.presented(&path.end_entity().der()).ok_or(Fault::Malformed(purpose.holder()))?;
        if !leaf.may_sign() {
            return Err(Fault::KeyUsage(purpose.holder()));
        }
        let intermediates: Option<Vec<_>> =
            path.intermediate_certificates().map(|it| shown.presented(&it.der())).collect();
        let intermediates = intermediates.ok_or(Fault::Malformed(Holder::Authority))?;
        if intermediates.iter().any(|it| !it.may_sign_certificates()) {
            return Err(Fault::IssuerCannotSign { why: NO_CERT_SIGN });
        }
        let mut chain = std::iter::once((purpose.holder(), leaf))
            .chain(intermediates.iter().map(|it| (Holder::Authority, *it)));
        if let Some((holder, extension)) = chain.find_map(|(holder, it)| Some((holder, it.unsupported()?))) {
            return Err(Fault::CriticalExtension { holder, extension: extension.to_owned() });
        }
        let root = self.authorities.key_names(anchor);
        let issuers = intermediates.iter().map(|it| it.key_names()).chain([root]);
        let issued = std::iter::once(&leaf).chain(&intermediates);
        if issued.zip(issuers).any(|(issued, issuer)| !issued.names_key_of(issuer)) {
            return Err(Fault::OtherKey);
        }
        self.check_names(leaf, &intermediates, anchor).map_err(|violation| Fault::of_names(&violation))?;
        self.check_revocation(path, shown, anchor, now)
    }

    /// The leaf, the authorities between, and those in `ca-certificates` as far up as they are there.
    fn check_revocation(
        &self,
        path: &VerifiedPath<'_>,
        shown: &Shown<'_>,
        anchor: usize,
        now: UnixTime,
    ) -> Result<(), Fault> {
        let between = path.intermediate_certificates().map(|it| it.der());
        let presented = std::iter::once(path.end_entity().der()).chain(between);
        let presented: Option<Vec<&[u8]>> = presented.map(|der| shown.der(&der)).collect();
        let mut chain = presented.ok_or(Fault::RevocationUnknown(Gap::Unreadable))?;
        chain.extend(self.authorities.line(anchor).map(|index| self.authorities.der(index)));
        let algorithms = self.provider.signature_verification_algorithms.all;
        Ok(revocation::check(&self.lists, &chain, algorithms, now)?)
    }

    /// Names of each certificate, by the constraints of all above it (RFC 5280, 6.1.4 and 4.2.1.10).
    fn check_names(
        &self,
        leaf: &Certificate<'_>,
        intermediates: &[&Certificate<'_>],
        anchor: usize,
    ) -> Result<(), Violation> {
        let mut constrain = self.authorities.permit(anchor, leaf)?;
        for (index, issuer) in intermediates.iter().enumerate() {
            if !issuer.is_self_issued() {
                self.authorities.permit(anchor, issuer)?;
            }
            let Some(constraints) = &issuer.constraints else { continue };
            constrain = true;
            let below = intermediates[..index].iter().copied().filter(|it| !it.is_self_issued());
            std::iter::once(leaf).chain(below).try_for_each(|it| Constraints::check(constraints, it))?;
        }
        if constrain { check_common_name(leaf) } else { Ok(()) }
    }
}

/// Certificates that a peer may present beside its own. A path has six of them at most, so this leaves room for others.
const INTERMEDIATES: usize = 16;

/// Before 1970 nothing is valid, as at the end of time.
fn since_1970(now: UnixTime) -> rustls_pki_types::UnixTime {
    let seconds = u64::try_from(now.seconds()).unwrap_or(u64::MAX);
    rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
