//! IP addresses and CIDR blocks of SAN_IP credentials. Ours: Vespa has no SAN_IP.

use std::net::IpAddr;
use std::str::FromStr;

/// An address or a block of addresses, written in canonical text: RFC 5952 for IPv6, no bits set behind the prefix.
///
/// An IPv4-mapped IPv6 address is an IPv6 address: a certificate that carries 16 bytes never matches an IPv4 block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressBlock {
    network: IpAddr,
    prefix: u8,
}

/// The text is no address block, or not in canonical form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressBlockError {
    /// The canonical text of what was probably meant.
    pub canonical: Option<String>,
}

impl AddressBlock {
    /// Whether `address` is in this block.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == Some(self.network)
    }

    /// Network address and prefix length in bits.
    pub(crate) fn parts(&self) -> (IpAddr, u8) {
        (self.network, self.prefix)
    }
}

impl FromStr for AddressBlock {
    type Err = AddressBlockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = AddressBlockError { canonical: None };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| none.clone())?;
        let bits = width(address);
        let length = match prefix {
            Some(digits) => digits.parse().ok().filter(|length| *length <= bits).ok_or(none)?,
            None => bits,
        };
        let block = Self { network: masked(address, length).unwrap_or(address), prefix: length };
        let canonical = match prefix {
            Some(_) => format!("{}/{}", block.network, block.prefix),
            None => block.network.to_string(),
        };
        if canonical == text { Ok(block) } else { Err(AddressBlockError { canonical: Some(canonical) }) }
    }
}

pub(crate) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first `prefix` bits of `address`; `None` if it has fewer.
pub(crate) fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let host_bits = 32_u32.checked_sub(prefix.into())?;
            Some(IpAddr::from((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).to_be_bytes()))
        }
        IpAddr::V6(v6) => {
            let host_bits = 128_u32.checked_sub(prefix.into())?;
            Some(IpAddr::from((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).to_be_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_contain_their_addresses() {
        for (block, address, inside) in [
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::ffff:192.0.2.1", false),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::1", "::1", true),
        ] {
            let parsed: AddressBlock = block.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), inside, "{address} in {block}");
        }
    }

    #[test]
    fn only_canonical_text_is_taken() {
        for (text, canonical) in [
            ("10.0.0.1/8", Some("10.0.0.0/8")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("0:0:0:0:0:0:0:1", Some("::1")),
            ("10.0.0.0/08", Some("10.0.0.0/8")),
            ("10.0.0.0/+8", Some("10.0.0.0/8")),
            ("10.0.0.*", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("010.0.0.1", None),
            ("fe80::1%eth0", None),
            ("", None),
        ] {
            let error = text.parse::<AddressBlock>().unwrap_err();
            assert_eq!(error.canonical.as_deref(), canonical, "{text}");
        }
    }
}
