//! OpenSSL's answers beside ours (`crl_crldp_check` and `check_crl` of its `crypto/x509/x509_vfy.c`), in every order of lists.
//!
//! `-crl_check_all` also wants a list about the root itself, where ours wants none (RFC 5280, 6.1: a trust anchor is no part
//! of the path): an answer of it at the depth of the root counts only if it is that the root is revoked.

use rustls::crypto::aws_lc_rs;

use super::super::{Gap, Refusal, RevocationList, check};
use super::workshop::{List, Workshop};
use crate::clock::now;

/// Where a certificate says that its lists are. Each certificate's number is its place here, after 0x10.
const LEAVES: [(&str, &str); 11] = [
    ("plain", ""),
    ("a", "crlDistributionPoints=URI:http://crl.example/a\n"),
    ("b", "crlDistributionPoints=URI:http://crl.example/b\n"),
    ("both", "crlDistributionPoints=p\n[p]\nfullname=URI:http://crl.example/a,URI:http://crl.example/b\n"),
    (
        "either",
        "crlDistributionPoints=p,q\n[p]\nfullname=URI:http://crl.example/a\n[q]\nfullname=URI:http://crl.example/b\n",
    ),
    ("reasons", "crlDistributionPoints=p\n[p]\nfullname=URI:http://crl.example/a\nreasons=keyCompromise\n"),
    (
        "later",
        "crlDistributionPoints=p,q\n[p]\nfullname=URI:http://crl.example/a\nreasons=keyCompromise\n\
         [q]\nfullname=URI:http://crl.example/b\n",
    ),
    (
        "named",
        "crlDistributionPoints=p\n[p]\nfullname=URI:http://crl.example/a\nCRLissuer=dirName:d\n[d]\nCN=root\n",
    ),
    (
        "indirect",
        "crlDistributionPoints=p\n[p]\nfullname=URI:http://crl.example/a\nCRLissuer=dirName:d\n[d]\nCN=elsewhere\n",
    ),
    ("dns", "crlDistributionPoints=p\n[p]\nfullname=DNS:crl.example\n"),
    ("relative", "crlDistributionPoints=p\n[p]\nrelativename=d\n[d]\nCN=here\n"),
];

const ALL: &[&str] = &["10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "1A"];
const A: &str = "fullname=URI:http://crl.example/a";
const B: &str = "fullname=URI:http://crl.example/b";

fn lists() -> Vec<(&'static str, List<'static>)> {
    let by_root = |revoked| List::by("root", revoked);
    vec![
        ("full", by_root(&[])),
        ("full-revoking", by_root(ALL)),
        ("old", List { this_update: -5, ..by_root(&[]) }),
        ("old-revoking", List { this_update: -5, ..by_root(ALL) }),
        ("a", by_root(&[]).scope(A)),
        ("a-revoking", by_root(ALL).scope(A)),
        ("b", by_root(&[]).scope(B)),
        ("b-revoking", by_root(ALL).scope(B)),
        ("old-a-revoking", List { this_update: -5, ..by_root(ALL).scope(A) }),
        ("both", by_root(&[]).scope("fullname=URI:http://crl.example/b,URI:http://crl.example/c")),
        ("users", by_root(&[]).scope("onlyuser=TRUE")),
        ("users-revoking", by_root(ALL).scope("onlyuser=TRUE")),
        ("authorities", by_root(&[]).scope("onlyCA=TRUE")),
        ("users-a", by_root(&[]).scope("onlyuser=TRUE\nfullname=URI:http://crl.example/a")),
        ("dns", by_root(&[]).scope("fullname=DNS:crl.example")),
        ("hold", by_root(&["10,certificateHold", "11,certificateHold"])),
        ("other", List::by("other", &[])),
        ("impostor", List::by("impostor", ALL)),
        ("revoked-root", by_root(&["AA"])),
        ("revoked-sub", by_root(&["77"])),
        ("old-key-revoking", by_root(&["22"])),
        ("sub", List::by("sub", &[])),
        ("sub-revoking", List::by("sub", &["20"])),
        ("mute", List::by("mute", &[])),
        ("printed", List::by("printed", &[])),
        ("printed-revoking", List::by("printed", ALL)),
        ("renewed", List::by("renewed", &[])),
        ("renewed-revoking", List::by("renewed", &["22"])),
    ]
}

fn workshop() -> Workshop {
    let shop = Workshop::new();
    shop.authority("root", "root", "root", "AA", "");
    // The same authority, its name as a PrintableString.
    std::fs::copy(shop.path("root.key"), shop.path("printed.key")).expect("a key");
    shop.print("printed");
    shop.authority("printed", "root", "printed", "AA", "");
    shop.authority("impostor", "root", "impostor", "AB", "");
    shop.authority("other", "other", "other", "AC", "");
    shop.authority("sub", "sub", "root", "77", "");
    // The same authority, certified with a distribution point.
    std::fs::copy(shop.path("sub.key"), shop.path("sub-a.key")).expect("a key");
    shop.authority("sub-a", "sub", "root", "78", "crlDistributionPoints=URI:http://crl.example/a\n");
    shop.authority("mute", "mute", "root", "79", "keyUsage=critical,keyCertSign\n");
    // A new key of the same name, certified by the old one.
    shop.authority("renewed", "root", "root", "7A", "");
    for (index, (name, points)) in LEAVES.iter().enumerate() {
        shop.certify(&format!("leaf-{name}"), name, "root", &format!("{:X}", 0x10 + index), points);
    }
    shop.certify("below-sub", "x", "sub", "20", "keyUsage=digitalSignature\n");
    shop.certify("below-mute", "x", "mute", "21", "keyUsage=digitalSignature\n");
    shop.certify("below-renewed", "x", "renewed", "22", "authorityKeyIdentifier=keyid\n");
    for (name, list) in lists() {
        shop.list(name, &list);
    }
    shop
}

/// Sets of lists of which OpenSSL asks one about a certificate that several are about: the newest, or else the first. We ask
/// all, since each scope has its own numbers (RFC 5280, 5.2.3), and refuse what one of them has.
const ASKED_ALL: &[&[&str]] = &[
    &["a", "b-revoking"],
    &["a-revoking", "b"],
    &["full", "a-revoking"],
    &["full-revoking", "a"],
    &["old-revoking", "a"],
    &["both", "a-revoking"],
    &["a", "b", "full-revoking"],
    &["renewed", "old-key-revoking"],
];

/// OpenSSL lets a list of an authority's old key speak for certificates of its new one. Who has the old key only should not
/// be able to vouch for them, so ours does not.
const OTHER_KEY: &[&[&str]] = &[&["full"]];

/// Lists beside each other, for leaves of the root.
const SETS: &[&[&str]] = &[
    &["printed"],
    &["old", "printed-revoking"],
    &["full"],
    &["full-revoking"],
    &["old", "full-revoking"],
    &["old-revoking", "full"],
    &["a"],
    &["a-revoking"],
    &["b"],
    &["a", "b"],
    &["a", "b-revoking"],
    &["a-revoking", "b"],
    &["old-a-revoking", "a"],
    &["full", "a-revoking"],
    &["full-revoking", "a"],
    &["old-revoking", "a"],
    &["both"],
    &["both", "a-revoking"],
    &["users"],
    &["users-revoking"],
    &["authorities"],
    &["users", "authorities"],
    &["users-revoking", "authorities"],
    &["users-a"],
    &["dns"],
    &["hold"],
    &["other"],
    &["other", "full"],
    &["impostor"],
    &["impostor", "full"],
    &["revoked-root"],
    &["a", "b", "full-revoking"],
];

/// Chains with authorities in between.
const CHAINS: &[(&[&str], &[&str])] = &[
    (&["below-sub", "sub", "root"], &["sub"]),
    (&["below-sub", "sub", "root"], &["full"]),
    (&["below-sub", "sub", "root"], &["full", "sub"]),
    (&["below-sub", "sub", "root"], &["full", "sub-revoking"]),
    (&["below-sub", "sub", "root"], &["revoked-sub", "sub"]),
    (&["below-sub", "sub", "root"], &["authorities", "sub"]),
    (&["below-sub", "sub", "root"], &["users", "sub"]),
    (&["below-sub", "sub", "root"], &["a", "sub"]),
    (&["below-sub", "sub-a", "root"], &["a", "sub"]),
    (&["below-sub", "sub-a", "root"], &["a", "full", "sub"]),
    (&["below-sub", "sub-a", "root"], &["b", "sub"]),
    (&["below-mute", "mute", "root"], &["full", "mute"]),
    (&["below-renewed", "renewed", "root"], &["full", "renewed"]),
    (&["below-renewed", "renewed", "root"], &["full", "renewed-revoking"]),
    (&["below-renewed", "renewed", "root"], &["renewed", "old-key-revoking"]),
    (&["below-renewed", "renewed", "root"], &["renewed"]),
    (&["below-renewed", "renewed", "root"], &["full"]),
];

fn ours(shop: &Workshop, chain: &[&str], lists: &[&str]) -> Result<(), Refusal> {
    let chain: Vec<_> = chain.iter().map(|name| shop.certificate(name)).collect();
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    let read =
        |name: &&str| RevocationList::new(&shop.list_der(name), now()).expect("a list that can be asked");
    let lists: Vec<_> = lists.iter().map(read).collect();
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    check(&lists, &chain, algorithms, now())
}

fn orders<'a>(lists: &[&'a str]) -> Vec<Vec<&'a str>> {
    if lists.len() < 2 {
        return vec![lists.to_vec()];
    }
    let with_first = |index: usize| {
        let mut rest = lists.to_vec();
        let first = rest.remove(index);
        orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
    };
    (0..lists.len()).flat_map(with_first).collect()
}

/// OpenSSL's answer about everything below the root, and about the root if it is revoked.
fn theirs(shop: &Workshop, chain: &[&str], lists: &[&str]) -> Result<(), String> {
    let root = format!(" at {} depth", chain.len() - 1);
    match shop.verify(chain, lists, "-crl_check_all") {
        Err(said) if said.contains(&root) && !said.contains("certificate revoked") => {
            // It stops at the first error, which is at the leaf if there is one there.
            assert!(!said.contains(" at 0 depth"), "{said}");
            Ok(())
        }
        answer => answer,
    }
}

#[test]
fn the_answers_are_those_of_openssl_in_every_order() {
    let shop = workshop();
    let names: Vec<String> = LEAVES.iter().map(|(name, _)| format!("leaf-{name}")).collect();
    let leaves =
        names.iter().flat_map(|leaf| SETS.iter().map(move |set| (vec![leaf.as_str(), "root"], *set)));
    let chains = CHAINS.iter().map(|(chain, set)| (chain.to_vec(), *set));
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for (chain, set) in leaves.chain(chains) {
        let answers: Vec<_> = orders(set)
            .iter()
            .map(|order| (ours(&shop, &chain, order), theirs(&shop, &chain, order)))
            .collect();
        cases += 1;
        let (ours, _) = &answers[0];
        if answers.iter().any(|(it, _)| it != ours) {
            wrong.push(format!("{chain:?} {set:?}: the order decides: {answers:?}"));
        }
        let may_refuse = match ours {
            Err(Refusal::Revoked) => ASKED_ALL.contains(&set),
            Err(Refusal::Unknown(Gap::OtherKey)) => OTHER_KEY.contains(&set),
            _ => false,
        };
        for (_, theirs) in &answers {
            if ours.is_ok() != theirs.is_ok() && !may_refuse {
                wrong.push(format!("{chain:?} {set:?}: {ours:?}, OpenSSL {theirs:?}"));
            }
        }
    }
    assert!(cases >= 60, "{cases}");
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
}
