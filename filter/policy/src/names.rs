//! A peer's names as the rules see them: which values a credential's field is compared to.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::compatibility::Compatibility;
use crate::identity::PeerIdentity;
use crate::rule::Field;

/// The values of every field, for one peer and one [`Compatibility`].
pub(crate) struct Names<'a> {
    common_names: Vec<Cow<'a, str>>,
    dns_names: Vec<Cow<'a, str>>,
    uris: Vec<Cow<'a, str>>,
    addresses: &'a [IpAddr],
}

impl<'a> Names<'a> {
    pub(crate) fn of(identity: &'a PeerIdentity, compatibility: Compatibility) -> Self {
        let mut common_names: Vec<_> =
            identity.common_name.iter().map(|name| Cow::Borrowed(&**name)).collect();
        if common_names.is_empty() && compatibility.absent_common_name_is_empty() {
            common_names.push(Cow::Borrowed(""));
        }
        let mut dns_names: Vec<_> = identity.dns_names.iter().map(|name| Cow::Borrowed(&**name)).collect();
        let mut uris: Vec<_> = identity.uris.iter().map(|uri| Cow::Borrowed(&**uri)).collect();
        if compatibility.pools_names() {
            dns_names.extend(identity.addresses.iter().map(|address| Cow::Owned(java_text(*address))));
            dns_names.append(&mut uris);
            uris.clone_from(&dns_names);
        }
        Self { common_names, dns_names, uris, addresses: &identity.addresses }
    }

    pub(crate) fn texts(&self, field: Field) -> &[Cow<'a, str>] {
        match field {
            Field::CommonName => &self.common_names,
            Field::DnsName => &self.dns_names,
            Field::Uri => &self.uris,
            Field::Address => &[],
        }
    }

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        self.addresses
    }

    /// How much there is to look at in `field`, in bytes.
    pub(crate) fn size(&self, field: Field) -> usize {
        match field {
            Field::Address => self.addresses.len(),
            _ => self.texts(field).iter().map(|text| 1 + text.len()).sum(),
        }
    }

    /// The values of `field` as text, for people.
    pub(crate) fn printed(&self, field: Field) -> Vec<String> {
        match field {
            Field::Address => self.addresses.iter().map(IpAddr::to_string).collect(),
            _ => self.texts(field).iter().map(|text| text.clone().into_owned()).collect(),
        }
    }
}

/// `InetAddress.getHostAddress()`: IPv6 in eight groups without `::`, and IPv4-mapped IPv6 as IPv4.
fn java_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:x}")).join(":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_prints_addresses_its_own_way() {
        for (address, text) in [
            ("2001:db8::1", "2001:db8:0:0:0:0:0:1"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("10.0.0.7", "10.0.0.7"),
        ] {
            assert_eq!(java_text(address.parse().unwrap()), text);
        }
    }
}
