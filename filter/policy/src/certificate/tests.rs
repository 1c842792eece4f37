use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use super::*;

/// A self-signed certificate as DER. What is hostile is patched into it: the parser does not check signatures.
fn der(common_name: impl Into<DnValue>, names: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = names;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(name).unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(Ia5String::try_from(name).unwrap())
}

fn patched(der: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let found = der.windows(from.len()).position(|window| window == from).expect("the text to patch");
    [&der[..found], to, &der[found + from.len()..]].concat()
}

/// The subject comes after the issuer, which is the same name in a self-signed certificate.
fn patched_everywhere(mut der: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    while der.windows(from.len()).any(|window| window == from) {
        der = patched(der, from, to);
    }
    der
}

fn refused(der: &[u8]) -> DenyReason {
    Certificate::from_der(der).expect_err("must be refused")
}

#[test]
fn names_are_kept_apart_by_kind() {
    let names = vec![
        dns("a.example"),
        uri("spiffe://td/a"),
        SanType::Rfc822Name(Ia5String::try_from("mail@example").unwrap()),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
        dns("b.example"),
        SanType::IpAddress("10.0.0.7".parse().unwrap()),
        SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "upn@example".into())),
    ];
    let certificate = Certificate::from_der(&der("cn.example", names)).unwrap();
    assert_eq!(
        certificate.identity,
        PeerIdentity {
            common_name: Some("cn.example".into()),
            dns_names: vec!["a.example".into(), "b.example".into()],
            uris: vec!["spiffe://td/a".into()],
            addresses: vec!["2001:db8::1".parse().unwrap(), "10.0.0.7".parse().unwrap()],
        }
    );
}

#[test]
fn the_digest_is_that_of_the_der() {
    let der = der("x", vec![]);
    assert_eq!(Certificate::from_der(&der).unwrap().digest, sha256(&der));
}

#[test]
fn pem_is_read_raw_and_url_encoded() {
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let expected = Certificate::from_der(certificate.der()).unwrap();
    let pem = certificate.pem();
    assert_eq!(Certificate::from_pem(pem.as_bytes()).unwrap(), expected);
    assert_eq!(Certificate::from_pem(pem.replace('\n', "\r\n").as_bytes()).unwrap(), expected);
    let encoded = pem
        .replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('/', "%2f")
        .replace('=', "%3D");
    assert_eq!(Certificate::from_pem(encoded.as_bytes()).unwrap(), expected);
    for broken in [
        "",
        "-",
        "-----BEGIN CERTIFICATE-----",
        &pem[..100],
        "%",
        "%4",
        "%zz",
        &pem.replace("CERTIFICATE", "X509 CRL"),
    ] {
        assert_eq!(
            Certificate::from_pem(broken.as_bytes()),
            Err(DenyReason::MalformedCertificate),
            "{broken}"
        );
    }
}

#[test]
fn the_last_common_name_counts_and_empty_ones_are_skipped() {
    let two = |first: &str, second: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, first);
        params.distinguished_name.push(DnType::OrganizationName, second);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        // id-at-organizationName (2.5.4.10) becomes a second id-at-commonName (2.5.4.3).
        patched_everywhere(der, &[0x55, 0x04, 0x0a], &[0x55, 0x04, 0x03])
    };
    let name = |der: Vec<u8>| Certificate::from_der(&der).unwrap().identity.common_name;
    assert_eq!(name(two("first", "second")).as_deref(), Some("second"));
    assert_eq!(name(two("first", "")).as_deref(), Some("first"));
    assert_eq!(name(two("", "")), None);
    assert_eq!(
        refused(&patched_everywhere(two("fi.st", "second"), b"fi.st", b"fi\0st")),
        DenyReason::MalformedName
    );
}

#[test]
fn a_common_name_inside_another_attribute_is_none() {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "x,CN=admin");
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(Certificate::from_der(&der).unwrap().identity.common_name, None);
}

#[test]
fn only_text_that_is_its_bytes_is_a_common_name() {
    for value in [
        DnValue::PrintableString(PrintableString::try_from("admin").unwrap()),
        DnValue::Ia5String(Ia5String::try_from("admin").unwrap()),
        DnValue::TeletexString(TeletexString::try_from("admin").unwrap()),
        DnValue::Utf8String("admin".into()),
    ] {
        assert_eq!(
            Certificate::from_der(&der(value, vec![])).unwrap().identity.common_name.as_deref(),
            Some("admin")
        );
    }
    for text in ["admin", "中"] {
        let bmp = DnValue::BmpString(BmpString::try_from(text).unwrap());
        assert_eq!(refused(&der(bmp, vec![])), DenyReason::MalformedName);
    }
    let latin1 = patched_everywhere(der("admXn", vec![]), b"admXn", b"adm\xedn");
    assert_eq!(refused(&latin1), DenyReason::MalformedName);
}

#[test]
fn nul_in_any_name_refuses_the_certificate() {
    let cn = patched_everywhere(der("admin_.evil.example", vec![]), b"admin_.evil", b"admin\0.evil");
    assert_eq!(refused(&cn), DenyReason::MalformedName);
    for san in [dns("a.example_evil"), uri("spiffe://a.example_evil")] {
        let good = der("x", vec![dns("fine.example"), san]);
        assert!(Certificate::from_der(&good).is_ok());
        assert_eq!(refused(&patched(good, b"a.example_", b"a.example\0")), DenyReason::MalformedName);
    }
}

#[test]
fn empty_and_undecodable_names_refuse_the_certificate() {
    assert_eq!(refused(&der("x", vec![dns("fine.example"), dns("")])), DenyReason::MalformedName);
    assert_eq!(refused(&der("x", vec![uri("")])), DenyReason::MalformedName);
    let latin1 = patched(der("x", vec![dns("caf_.example")]), b"caf_", b"caf\xe9");
    assert_eq!(refused(&latin1), DenyReason::MalformedName);
    let utf8 = patched(der("x", vec![dns("caf__.example")]), b"caf__", "café".as_bytes());
    assert_eq!(refused(&utf8), DenyReason::MalformedName);
    let short_address = patched(
        der("x", vec![SanType::IpAddress("9.8.7.6".parse().unwrap()), dns("x")]),
        &[0x87, 4, 9, 8, 7, 6, 0x82, 1, b'x'],
        &[0x87, 3, 9, 8, 7, 0x82, 2, b'x', b'y'],
    );
    assert_eq!(refused(&short_address), DenyReason::MalformedName);
}

#[test]
fn constructed_strings_refuse_the_certificate() {
    // CN `2C 05 | 0C 03 "sys"` is `sys` to some readers, and its raw content to others.
    let cn = patched_everywhere(der("\u{1}\u{1}sys", vec![]), b"\x0c\x05\x01\x01sys", b"\x2c\x05\x0c\x03sys");
    assert_eq!(refused(&cn), DenyReason::MalformedCertificate);
    for (tag, san) in [(0x82, dns("a.example")), (0x86, uri("a.example"))] {
        let good = der("x", vec![san]);
        let text = b"\x09a.example";
        let constructed = patched(good, &[&[tag], &text[..]].concat(), &[&[tag | 0x20], &text[..]].concat());
        assert_eq!(refused(&constructed), DenyReason::MalformedCertificate, "{tag:x}");
    }
    let nested =
        patched(der("x", vec![dns("ab.example")]), b"\x82\x0aab.example", b"\xa2\x0a\x16\x08.example");
    assert_eq!(refused(&nested), DenyReason::MalformedName);
}

#[test]
fn a_broken_name_of_another_kind_refuses_the_certificate() {
    let mut params = CertificateParams::default();
    // SEQUENCE { dNSName "a", directoryName { SEQUENCE of 9 bytes, of which there are 2 } }
    let names = vec![0x30, 9, 0x82, 1, b'a', 0xa4, 4, 0x30, 9, 1, 1];
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(refused(&der), DenyReason::MalformedCertificate);
}

#[test]
fn a_second_alternative_name_extension_is_refused() {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    // SEQUENCE { dNSName "b" }
    params
        .custom_extensions
        .push(CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 3, 0x82, 1, b'b']));
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(refused(&der), DenyReason::MalformedCertificate);
}

#[test]
fn what_is_not_one_whole_certificate_is_refused() {
    let good = der("x", vec![dns("a.example")]);
    assert_eq!(refused(&[]), DenyReason::MalformedCertificate);
    assert_eq!(refused(&[good.clone(), vec![0]].concat()), DenyReason::MalformedCertificate);
    assert_eq!(refused(&vec![0x30; limits::CERTIFICATE_BYTES + 1]), DenyReason::MalformedCertificate);
    for end in 0..good.len() {
        assert_eq!(refused(&good[..end]), DenyReason::MalformedCertificate, "cut at {end}");
    }
}

#[test]
fn no_single_wrong_byte_panics() {
    let good = der(
        "cn.example",
        vec![dns("a.example"), uri("spiffe://td/x"), SanType::IpAddress([10, 0, 0, 7].into())],
    );
    for position in 0..good.len() {
        for byte in [0x00, 0x01, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut broken = good.clone();
            broken[position] = byte;
            let _ = Certificate::from_der(&broken);
        }
    }
}

#[test]
fn ten_thousand_names_are_read_and_more_are_refused() {
    let many = |count: usize| {
        let names = (0..count).map(|index| dns(&format!("{index}.x"))).collect();
        Certificate::from_der(&der("x", names)).map(|certificate| certificate.identity.dns_names.len())
    };
    assert_eq!(many(600), Ok(600));
    assert_eq!(many(limits::NAMES), Ok(limits::NAMES));
    assert_eq!(many(limits::NAMES + 1), Err(DenyReason::MalformedCertificate));
}

#[test]
fn validity_includes_both_ends() {
    let validity =
        Validity { not_before: UnixTime::from_seconds(100), not_after: UnixTime::from_seconds(200) };
    for (now, answer) in [
        (99, Err(DenyReason::NotYetValid)),
        (100, Ok(())),
        (200, Ok(())),
        (201, Err(DenyReason::Expired)),
        (i64::MIN, Err(DenyReason::NotYetValid)),
        (i64::MAX, Err(DenyReason::Expired)),
    ] {
        assert_eq!(validity.check(UnixTime::from_seconds(now)), answer, "{now}");
    }
}

/// Subject, times and alternative names.
type Found = (Vec<u8>, i64, i64, Option<Vec<u8>>);

/// What a whole parser reads.
fn by_a_whole_parser(der: &[u8]) -> Option<Found> {
    use x509_parser::asn1_rs::oid;
    use x509_parser::certificate::X509CertificateParser;
    use x509_parser::nom::Parser as _;
    let (rest, certificate) =
        X509CertificateParser::new().with_deep_parse_extensions(false).parse(der).ok()?;
    let names = certificate.get_extension_unique(&oid!(2.5.29.17)).ok()?;
    let validity = certificate.validity();
    rest.is_empty().then(|| {
        (
            certificate.subject().as_raw().to_vec(),
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
            names.map(|extension| extension.value.to_vec()),
        )
    })
}

/// An independent parser is the oracle: what is read here, it reads too, and finds the same; also in each certificate that
/// differs from a good one in a byte.
#[test]
fn nothing_is_read_that_a_whole_parser_refuses_or_reads_differently() {
    let mut all = vec![der("x", vec![]), der("cn.example", vec![dns("a.example"), uri("spiffe://td/a")])];
    let mut params = CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.not_after = rcgen::date_time_ymd(2050, 1, 1);
    all.push(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec());
    let mut read = 0;
    for good in all {
        assert!(Certificate::from_der(&good).is_ok());
        for place in 0..good.len() {
            for value in [good[place], good[place] ^ 1, good[place] ^ 0x20, good[place] ^ 0x80, 0, 0xff] {
                let mut changed = good.clone();
                changed[place] = value;
                let Ok(fields) = fields(&changed) else { continue };
                read += 1;
                let expected = by_a_whole_parser(&changed);
                let found = (
                    fields.subject.as_raw().to_vec(),
                    fields.validity.not_before.seconds(),
                    fields.validity.not_after.seconds(),
                    fields.alternative_names.map(<[u8]>::to_vec),
                );
                assert_eq!(expected, Some(found), "byte {place} is {value:#x}: {changed:x?}");
            }
        }
    }
    assert!(read > 1_000, "{read}");
}

#[test]
fn a_certificate_known_as_a_whole_needs_no_names() {
    let bad_names = patched(der("x", vec![dns("a.example")]), b"a.example", b"a\xff\0xampl\xe9");
    let bad_common_name = der(DnValue::BmpString(BmpString::try_from("x").unwrap()), vec![]);
    for der in [bad_names, bad_common_name] {
        assert_eq!(refused(&der), DenyReason::MalformedName);
        let certificate = Certificate::unnamed_from_der(&der).expect("all but the names is sound");
        assert_eq!(certificate.digest, sha256(&der));
        assert_eq!(certificate.identity, PeerIdentity::default());
        let with_good_names = Certificate::from_der(&self::der("x", vec![])).unwrap();
        assert_eq!(certificate.validity, with_good_names.validity);
        let longer = [&der[..], &[0]].concat();
        for broken in [&der[..der.len() - 1], &longer, b""] {
            assert_eq!(Certificate::unnamed_from_der(broken), Err(DenyReason::MalformedCertificate));
        }
    }
}
