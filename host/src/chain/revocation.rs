//! The one place where revocation lists are asked.

use std::fmt;

use rustls_pki_types::CertificateRevocationListDer;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder,
};

/// The lists of `files.crls`.
#[derive(Default)]
pub(crate) struct RevocationLists(Vec<CertRevocationList<'static>>);

impl fmt::Debug for RevocationLists {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("RevocationLists").field(&self.0.len()).finish()
    }
}

impl RevocationLists {
    /// # Errors
    /// The first that webpki cannot ask.
    pub(crate) fn new<'a>(
        lists: impl IntoIterator<Item = &'a CertificateRevocationListDer<'a>>,
    ) -> Result<Self, webpki::Error> {
        let owned = lists.into_iter().map(|der| OwnedCertRevocationList::from_der(der).map(Into::into));
        owned.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> Vec<&CertRevocationList<'static>> {
        self.0.iter().collect()
    }

    /// Every certificate of the chain is looked up; with lists, what no current list covers is refused.
    pub(super) fn asked<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
        // An error means that there are none.
        let options = RevocationOptionsBuilder::new(lists).ok()?;
        Some(options.with_expiration_policy(ExpirationPolicy::Enforce).build())
    }
}
