//! Certificate revocation lists (RFC 5280 section 5).

use peergate_policy::UnixTime;
use rustls_pki_types::CertificateRevocationListDer;
use x509_parser::oid_registry::{OID_X509_EXT_DELTA_CRL_INDICATOR, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT};
use x509_parser::prelude::{CertificateRevocationList, FromDer, ParsedExtension};
use x509_parser::time::ASN1Time;

use super::credentials::Fault;

/// A list that can be asked: current, complete, and of its own authority.
#[derive(Debug)]
pub(crate) struct RevocationList {
    pub(crate) der: CertificateRevocationListDer<'static>,
    /// From here on it says nothing more, and everybody it covers is refused.
    pub(crate) next_update: UnixTime,
    issuer: Vec<u8>,
    /// Which certificates of the authority it is about; none means all.
    scope: Option<Vec<u8>>,
}

impl RevocationList {
    /// # Errors
    /// The list is malformed, has ended at `now`, or is of a kind that would leave certificates unasked.
    pub(super) fn new(der: CertificateRevocationListDer<'static>, now: UnixTime) -> Result<Self, Fault> {
        let (_, list) =
            CertificateRevocationList::from_der(&der).map_err(|_| Fault::RevocationList(MALFORMED))?;
        let mut scope = None;
        for extension in list.extensions() {
            if extension.oid == OID_X509_EXT_DELTA_CRL_INDICATOR {
                return Err(Fault::RevocationList(DELTA));
            }
            if extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT {
                match extension.parsed_extension() {
                    ParsedExtension::IssuingDistributionPoint(point) if point.indirect_crl => {
                        return Err(Fault::RevocationList(INDIRECT));
                    }
                    ParsedExtension::IssuingDistributionPoint(point) if point.only_some_reasons.is_some() => {
                        return Err(Fault::RevocationList(SOME_REASONS));
                    }
                    _ => scope = Some(extension.value.to_vec()),
                }
            }
        }
        let next_update = list.next_update().ok_or(Fault::RevocationList(ENDLESS))?;
        let next_update = UnixTime::from_seconds(ASN1Time::timestamp(&next_update));
        if next_update <= now {
            return Err(Fault::StaleRevocationList { next_update });
        }
        let issuer = list.issuer().as_raw().to_vec();
        Ok(Self { next_update, issuer, scope, der })
    }

    /// Whether both are about the same certificates. Only one of them would be asked then.
    fn overlaps(&self, other: &Self) -> bool {
        self.issuer == other.issuer
            && (self.scope.is_none() || other.scope.is_none() || self.scope == other.scope)
    }
}

/// Adds the lists of a file.
///
/// # Errors
/// The first that cannot be used, or that says what another one says.
pub(super) fn append(
    known: &mut Vec<RevocationList>,
    found: Vec<CertificateRevocationListDer<'static>>,
    now: UnixTime,
) -> Result<(), Fault> {
    for der in found {
        let list = RevocationList::new(der, now)?;
        if known.iter().any(|it| it.overlaps(&list)) {
            return Err(Fault::TwoRevocationLists);
        }
        known.push(list);
    }
    Ok(())
}

const MALFORMED: &str = "it is malformed";
const DELTA: &str = "it is a delta list; name the complete one";
const INDIRECT: &str = "it is an indirect list; name the list of each authority";
const SOME_REASONS: &str = "it is for some reasons only; name a list for all";
const ENDLESS: &str = "it has no nextUpdate";
