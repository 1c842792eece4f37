//! Kinds of lists that are refused, each with what would be right.

use peergate_policy::UnixTime;

use super::super::{ListFault, RevocationList};
use super::workshop::{List, Workshop};
use crate::clock::now;

fn fault(der: &[u8]) -> ListFault {
    RevocationList::new(der, now()).expect_err("no list that can be asked")
}

#[test]
fn lists_that_would_leave_certificates_unasked_are_refused() {
    let shop = Workshop::new();
    shop.authority("root", "root", "root", "AA", "");
    let by_root = List::by("root", &[]);
    let scoped = |scope| List { scope, ..by_root };
    let with = |extensions| List { extensions, ..by_root };
    for (list, words, remedy) in [
        (with("none"), "is of version 1", "`crlnumber = FILE`"),
        (with("deltaCRL=critical,ASN1:INTEGER:1"), "is a delta list", "deltaCRL"),
        (scoped("indirectCRL=TRUE"), "is an indirect list", "`indirectCRL`"),
        (scoped("onlysomereasons=keyCompromise"), "is for some reasons only", "`onlysomereasons`"),
        (scoped("onlyAA=TRUE"), "attribute certificates", "`onlyAA`"),
        (scoped("relativename=dn"), "relative to its issuer", "fullname = URI:"),
        (with("1.2.3.4=critical,ASN1:NULL"), "critical extension 1.2.3.4", "crl_extensions"),
        (List { revoked: &["01", "02,removeFromCRL"], ..by_root }, "entry 2 has removeFromCRL", "openssl ca"),
        (
            List { next_update: -1, this_update: -2, ..by_root },
            "is stale: its nextUpdate was 20",
            "current list",
        ),
        (List { this_update: 2, ..by_root }, "is not yet valid: its thisUpdate is 20", "clocks"),
    ] {
        shop.list("list", &list);
        let said = fault(&shop.list_der("list")).to_string();
        assert!(
            said.contains(words) && said.contains(remedy) && said.contains("openssl ca -gencrl"),
            "{said}"
        );
    }
}

/// The list of an authority, whose parts are put together by hand: OpenSSL makes none of these.
fn list(version: &[u8], next_update: &[u8], entries: &[u8], extensions: &[u8]) -> Vec<u8> {
    let parts = [version, ECDSA, NAME, THIS_UPDATE, next_update, entries, extensions].concat();
    tlv(0x30, &[&tlv(0x30, &parts)[..], ECDSA, &[0x03, 2, 0, 1]].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("a short element");
    let length = if length < 0x80 { vec![length] } else { vec![0x81, length] };
    [&[tag], &length[..], content].concat()
}

fn extension(last: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 1, 0xff] } else { &[] };
    tlv(0x30, &[&[0x06, 3, 0x55, 0x1d, last][..], critical, &tlv(0x04, value)].concat())
}

fn extensions(all: &[Vec<u8>]) -> Vec<u8> {
    tlv(0xa0, &tlv(0x30, &all.concat()))
}

/// Entries with the number 1, and these extensions each.
fn entries(all: &[&[u8]]) -> Vec<u8> {
    let entry = |extensions: &&[u8]| {
        let list = if extensions.is_empty() { Vec::new() } else { tlv(0x30, extensions) };
        tlv(0x30, &[&[0x02, 1, 1][..], THIS_UPDATE, &list].concat())
    };
    tlv(0x30, &all.iter().flat_map(entry).collect::<Vec<_>>())
}

const V2: &[u8] = &[0x02, 1, 1];
const ECDSA: &[u8] = &[0x30, 0x0a, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const NAME: &[u8] = &[0x30, 0x0c, 0x31, 0x0a, 0x30, 8, 0x06, 3, 0x55, 4, 3, 0x0c, 1, b'r'];
const THIS_UPDATE: &[u8] = b"\x17\x0d260101000000Z";
const NEXT_UPDATE: &[u8] = b"\x17\x0d490101000000Z";

#[test]
fn lists_that_no_tool_makes_are_refused_too() {
    let good = list(V2, NEXT_UPDATE, &entries(&[&[], &extension(21, false, &[0x0a, 1, 1])]), &[]);
    assert!(RevocationList::new(&good, now()).is_ok());
    let with_entry = |extension: &[u8]| list(V2, NEXT_UPDATE, &entries(&[&[], extension]), &[]);
    let with = |all: &[Vec<u8>]| list(V2, NEXT_UPDATE, &[], &extensions(all));
    let point = |value: &[u8]| with(&[extension(28, true, &tlv(0x30, value))]);
    let malformed = ListFault::Malformed;
    for (der, expected) in [
        (list(V2, &[], &[], &[]), ListFault::Endless),
        (list(&[], NEXT_UPDATE, &[], &[]), ListFault::Version1),
        (list(&[0x02, 1, 0], NEXT_UPDATE, &[], &[]), ListFault::Version1),
        (list(&[0x02, 1, 2], NEXT_UPDATE, &[], &[]), malformed("version")),
        (list(&[], NEXT_UPDATE, &[], &extensions(&[extension(20, false, V2)])), malformed("version")),
        (with_entry(&extension(29, true, &[0x30, 0])), ListFault::IndirectEntry(2)),
        (with_entry(&extension(29, false, &[0x30, 0])), ListFault::IndirectEntry(2)),
        (with_entry(&extension(24, true, &[0x05, 0])), ListFault::CriticalEntry(2, "2.5.29.24".to_owned())),
        (
            with_entry(&extension(21, true, &[0x0a, 1, 1])),
            ListFault::CriticalEntry(2, "2.5.29.21".to_owned()),
        ),
        (with_entry(&extension(21, false, &[0x0a, 1, 8])), ListFault::RemovedEntry(2)),
        (with_entry(&extension(21, false, &[0x0a, 0])), ListFault::MalformedEntry(2)),
        (with_entry(&[0x05, 0]), ListFault::MalformedEntry(2)),
        (with(&[extension(20, true, V2)]), ListFault::Critical("2.5.29.20".to_owned())),
        (with(&[extension(27, false, V2)]), ListFault::Delta),
        (with(&[extension(20, false, V2), extension(20, false, V2)]), malformed("crlExtensions")),
        (point(&[]), malformed("issuingDistributionPoint")),
        (point(&[0x81, 1, 0xff, 0x82, 1, 0xff]), malformed("issuingDistributionPoint")),
        (point(&[0x81, 1, 0xff, 0x81, 1, 0xff]), malformed("issuingDistributionPoint")),
        (point(&[0x81, 1, 1]), malformed("issuingDistributionPoint")),
        (point(&[0x86, 1, 0xff]), malformed("issuingDistributionPoint")),
        (point(&[0xa0, 2, 0xa0, 0]), malformed("distribution point")),
        (point(&[0xa0, 2, 0xa1, 0]), ListFault::RelativePoint),
        (good[..good.len() - 1].to_vec(), malformed("DER")),
        ([&good[..], &[0]].concat(), malformed("DER")),
        (list(V2, NEXT_UPDATE, &[0x30, 2, 0x05, 0], &[]), ListFault::MalformedEntry(1)),
        (list(V2, NEXT_UPDATE, &[], &[0x05, 0]), malformed("DER")),
    ] {
        assert_eq!(fault(&der), expected);
    }
    let sha1: &[u8] = &[0x30, 9, 0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    let parts = [V2, sha1, NAME, THIS_UPDATE, NEXT_UPDATE].concat();
    let signed = tlv(0x30, &parts);
    let weak = tlv(0x30, &[&signed[..], sha1, &[0x03, 2, 0, 1]].concat());
    assert_eq!(fault(&weak), ListFault::Algorithm("1.2.840.10045.4.1".to_owned()));
    // What is signed names another algorithm than the signature.
    let other = tlv(0x30, &[&signed[..], ECDSA, &[0x03, 2, 0, 1]].concat());
    assert_eq!(fault(&other), malformed("DER"));
}

/// thisUpdate and nextUpdate as OpenSSL sees them: at nextUpdate itself the list is stale.
#[test]
fn a_list_is_current_from_its_first_second_to_the_one_before_its_end() {
    let der = list(V2, NEXT_UPDATE, &[], &[]);
    let (from, until) = ("2026-01-01T00:00:00Z", "2049-01-01T00:00:00Z");
    let [from, until] = [from, until].map(|time| time.parse::<UnixTime>().expect("a time").seconds());
    let read = |seconds| RevocationList::new(&der, UnixTime::from_seconds(seconds)).err();
    assert_eq!(read(from), None);
    assert_eq!(read(until - 1), None);
    assert_eq!(read(from - 1), Some(ListFault::NotYetValid(UnixTime::from_seconds(from))));
    assert_eq!(read(until), Some(ListFault::Stale(UnixTime::from_seconds(until))));
}
