//! What the lists say about a verified chain.

use std::fmt;

use peergate_policy::UnixTime;
use rustls_pki_types::SignatureVerificationAlgorithm;

use super::list::RevocationList;
use super::scope::Coverage;
use super::subject::Subject;

/// Why a chain is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A list has a certificate of it.
    Revoked,
    /// The only lists about a certificate of it have ended, the last of them at this time.
    Stale(UnixTime),
    /// Nobody can tell whether a certificate of it is revoked.
    Unknown(Gap),
}

/// What is missing to know a certificate's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// No list has its issuer's name.
    NoList,
    /// The lists of its issuer are about other certificates.
    OtherScope,
    /// The list about it is complete for some reasons of revocation only.
    SomeReasons,
    /// The lists with its issuer's name are signed with another key.
    OtherKey,
    /// Its issuer may not sign lists.
    NoCrlSign,
    /// The list about it begins later.
    NotYetValid,
    /// A certificate that cannot be read.
    Unreadable,
}

/// Asks `lists` about a chain: the leaf first, the authority's own certificate last. Each certificate is known to be issued by
/// the next.
///
/// Without lists nothing is asked. With lists, every certificate but the authority's own needs one that covers it, is signed
/// with its issuer's key, and is current at `now`. An authority is trusted as it stands (RFC 5280 section 6.1.1, d), unless it
/// has itself on its list.
///
/// # Errors
/// A certificate is revoked, or may be.
pub(crate) fn check(
    lists: &[RevocationList],
    chain: &[&[u8]],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<(), Refusal> {
    if lists.is_empty() {
        return Ok(());
    }
    let chain: Option<Vec<_>> = chain.iter().map(|der| Subject::of(der)).collect();
    let chain = chain.ok_or(Refusal::Unknown(Gap::Unreadable))?;
    let status = |subject, issuer| status(lists, subject, issuer, algorithms, now);
    for (index, pair) in chain.windows(2).enumerate() {
        status(&pair[0], &pair[1])?;
        // An authority of the same name that certified its own new key may list certificates of both.
        let above = chain[index + 2..].iter().filter(|it| it.name == pair[0].issuer);
        if above
            .flat_map(|it| asked(lists, &pair[0], it, algorithms))
            .flatten()
            .any(|list| list.has(&pair[0]))
        {
            return Err(Refusal::Revoked);
        }
    }
    match chain.last() {
        Some(root) if root.issuer == root.name && status(root, root) == Err(Refusal::Revoked) => {
            Err(Refusal::Revoked)
        }
        Some(_) => Ok(()),
        None => Err(Refusal::Unknown(Gap::Unreadable)),
    }
}

/// One certificate's status.
fn status(
    lists: &[RevocationList],
    subject: &Subject<'_>,
    issuer: &Subject<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<(), Refusal> {
    let asked = asked(lists, subject, issuer, algorithms).map_err(Refusal::Unknown)?;
    if asked.iter().any(|list| list.has(subject)) {
        return Err(Refusal::Revoked);
    }
    let whole: Vec<_> = asked.into_iter().filter(|list| list.coverage(subject) == Coverage::All).collect();
    if whole.iter().any(|list| list.is_current(now)) {
        return Ok(());
    }
    let ended = whole.iter().map(|list| list.next_update).filter(|end| *end <= now).max();
    Err(match ended {
        Some(end) => Refusal::Stale(end),
        None if whole.is_empty() => Refusal::Unknown(Gap::SomeReasons),
        None => Refusal::Unknown(Gap::NotYetValid),
    })
}

/// The lists that count for `subject`: of each scope the newest. Where two are equally new, both.
fn asked<'a>(
    lists: &'a [RevocationList],
    subject: &Subject<'_>,
    issuer: &Subject<'_>,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<Vec<&'a RevocationList>, Gap> {
    let some = |lists: Vec<&'a RevocationList>, gap| if lists.is_empty() { Err(gap) } else { Ok(lists) };
    let named = lists.iter().filter(|list| list.is_issued_by(&subject.issuer)).collect();
    let is_about = |list: &&RevocationList| list.coverage(subject) != Coverage::Nothing;
    let about = some(named, Gap::NoList)?.into_iter().filter(is_about).collect();
    let is_signed = |list: &&RevocationList| list.is_signed_by(issuer.key, algorithms);
    let signed = some(about, Gap::OtherScope)?.into_iter().filter(is_signed).collect();
    let signed = some(signed, Gap::OtherKey)?;
    if !issuer.signs_lists {
        return Err(Gap::NoCrlSign);
    }
    let is_replaced = |list: &RevocationList| {
        signed.iter().any(|other| other.scope == list.scope && other.this_update > list.this_update)
    };
    Ok(signed.iter().copied().filter(|list| !is_replaced(list)).collect())
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl Gap {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NoList => {
                "`files.crls` has no list of a certificate's issuer; each authority of the chain needs one"
            }
            Self::OtherScope => {
                "the lists of a certificate's issuer are for other certificates (issuingDistributionPoint); \
                 add the list that the certificate names, or one for all"
            }
            Self::SomeReasons => {
                "a certificate says that its lists are for some reasons of revocation only; issue it again without \
                 `reasons` in cRLDistributionPoints"
            }
            Self::OtherKey => {
                "the list with the name of a certificate's issuer is signed with another key; add the one of this key"
            }
            Self::NoCrlSign => {
                "an authority of the chain may not sign revocation lists: its keyUsage lacks cRLSign; issue it again"
            }
            Self::NotYetValid => "the list of a certificate's issuer is not yet valid; compare the clocks",
            Self::Unreadable => "a certificate of the chain has extensions that cannot be read",
        }
    }
}
