//! Certificate revocation lists (RFC 5280 sections 5 and 6.3): which list speaks about which certificate, and what it says.
//!
//! webpki asks the first list whose issuer has the right name. Here every list that covers a certificate and is signed with
//! the key of the certificate's issuer counts, so the order of files, and of lists in a file, decides nothing.

mod fault;
mod list;
mod scope;
mod status;
mod subject;

pub use fault::ListFault;
pub(crate) use list::RevocationList;
pub use status::Gap;
pub(crate) use status::{Refusal, check};

#[cfg(test)]
mod tests;
