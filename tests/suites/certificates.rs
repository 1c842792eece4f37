//! host/certificates.md, row by row: what the host and Envoy 1.40 admit and refuse, with one policy, as `peergate render envoy`
//! writes it.
//!
//! Public reports behind the rows: rustls/webpki#52 and briansmith/webpki#58, #99 (what a root says of itself), the end of DST
//! Root CA X3 in 2021 (expired roots and cross-signed ones), rustls/webpki#19 and smallstep/certificates#1018 (name constraints
//! that are not DNS names), spiffe/spire#1004 (many authorities of one name), golang/go#52319 (empty extensions).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use peergate_host::envoy::Envoy;
use peergate_host::pki::Leaf;
use peergate_tests::client::Client;
use peergate_tests::commands::{GET, openssl, peergate, run, s_client};
use peergate_tests::der::{CN, INTEGER, O, PRINTABLE, SEQUENCE, UTF8, subject, tlv};
use peergate_tests::envoy::{CURRENT, binary, skipped};
use peergate_tests::forge::{
    ANY_PURPOSE, CLIENT_AUTH, CRL_SIGN, DIGITAL_SIGNATURE, Draft, Holder, KEY_AGREEMENT, KEY_CERT_SIGN,
    KEY_ENCIPHERMENT, SERVER_AUTH, alternative_names, authority_key, authority_serial, basic_constraints,
    basic_constraints_value, constraints, constraints_value, critical, directory, dns_name, extension,
    generalized, ip, key_usage, key_usage_value, mail, name, pem, purposes, subject_key, uncritical, uri,
    utc,
};
use peergate_tests::host::{Host, Start};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use peergate_tests::{admin, filter, root, wait};
use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs::{self, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection};
use serde_json::{Value, json};
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

/// What is presented in a row.
struct Case {
    name: &'static str,
    with: Presented,
}

enum Presented {
    /// By rustls.
    Chain(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// By openssl, which has keys that rustls has not: files in the directory of the PKI.
    Files(Peer, &'static [&'static str]),
}

/// All rows, and the authorities that they need.
struct Cases {
    pki: Pki,
    root: Holder,
    authorities: Vec<CertificateDer<'static>>,
    all: Vec<Case>,
}

/// The name that the policy admits.
const NAME: &str = "c.mycluster.example";

fn policy() -> Value {
    json!({"authorized-peers": [
        {"name": "nodes", "required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.example"}]},
        {"name": "workloads", "required-credentials": [{"field": "SAN_URI", "must-match": "spiffe://*/*"}]},
        {"name": "named", "required-credentials": [{"field": "CN", "must-match": "named*"}]},
    ]})
}

impl Cases {
    fn new() -> Self {
        let root = Draft::authority("Root").with([subject_key(b"root")]).self_signed();
        let authorities = vec![root.certificate()];
        let mut cases = Self { pki: Pki::new(), root, authorities, all: Vec::new() };
        cases.usual();
        cases.usages();
        cases.roots();
        cases.intermediates();
        cases.constraints();
        cases.encodings();
        cases.numbers_and_dates();
        cases.keys();
        cases.sizes();
        cases
    }

    /// `chain` is presented, with the first one's key.
    fn add(&mut self, name: &'static str, chain: &[&Holder]) {
        let ders = chain.iter().map(|holder| holder.certificate()).collect();
        self.all.push(Case { name, with: Presented::Chain(ders, chain[0].private_key()) });
    }

    /// A leaf of the root.
    fn leaf(&mut self, name: &'static str, draft: Draft) {
        let leaf = draft.issue(&self.root);
        self.add(name, &[&leaf]);
    }

    /// A leaf below an intermediate of the root.
    fn below(&mut self, name: &'static str, intermediate: Draft, leaf: Draft) {
        let intermediate = intermediate.issue(&self.root);
        let leaf = leaf.issue(&intermediate);
        self.add(name, &[&leaf, &intermediate]);
    }

    fn trust(&mut self, holder: &Holder) {
        self.authorities.push(holder.certificate());
    }

    /// A leaf of another root, which is trusted.
    fn under(&mut self, name: &'static str, root: Draft, leaf: Draft) {
        let root = root.self_signed();
        self.trust(&root);
        let leaf = leaf.issue(&root);
        self.add(name, &[&leaf]);
    }

    fn usual(&mut self) {
        self.leaf("leaf of the root", peer());
        self.below("leaf of an intermediate", Draft::authority("Issuing"), peer());
        let root = self.root.clone();
        let (issuing, other) =
            (Draft::authority("Issuing").issue(&root), Draft::authority("Other").issue(&root));
        let leaf = peer().issue(&issuing);
        self.add("chain with the root", &[&leaf, &issuing, &root]);
        self.add("chain with leaf and root twice", &[&leaf, &leaf, &issuing, &root, &root]);
        self.add("chain with certificates that are not needed", &[&leaf, &other, &issuing, &other]);
        let deep = Draft::authority("Deep").issue(&issuing);
        let deep_leaf = peer().issue(&deep);
        self.add("chain in another order", &[&deep_leaf, &root, &issuing, &deep]);
        self.add("chain without its intermediate", &[&leaf]);
        let stranger = Draft::authority("Stranger").self_signed();
        let strange = peer().issue(&stranger);
        self.add("leaf of an unknown root", &[&strange]);
        self.add("chain with an unknown root", &[&strange, &stranger]);
        let impostor = Draft::authority("Root").self_signed();
        self.add("leaf of a root with a known name and another key", &[&peer().issue(&impostor)]);
    }

    fn usages(&mut self) {
        self.leaf("keyUsage with digitalSignature", peer().with([key_usage(DIGITAL_SIGNATURE)]));
        self.leaf("keyUsage with keyEncipherment only", peer().with([key_usage(KEY_ENCIPHERMENT)]));
        self.leaf("keyUsage with keyAgreement only", peer().with([key_usage(KEY_AGREEMENT)]));
        self.leaf("keyUsage without any bit", peer().with([key_usage(0)]));
        let quiet = uncritical(15, &key_usage_value(KEY_ENCIPHERMENT));
        self.leaf("keyUsage with keyEncipherment only, not critical", peer().with([quiet]));
        self.leaf("extKeyUsage clientAuth", peer().with([purposes(&[CLIENT_AUTH])]));
        self.leaf("extKeyUsage serverAuth", peer().with([purposes(&[SERVER_AUTH])]));
        self.leaf(
            "extKeyUsage serverAuth and clientAuth",
            peer().with([purposes(&[SERVER_AUTH, CLIENT_AUTH])]),
        );
        self.leaf("extKeyUsage any", peer().with([purposes(&[ANY_PURPOSE])]));
        let any = critical(37, &tlv(SEQUENCE, &tlv(6, ANY_PURPOSE)));
        self.leaf("extKeyUsage any, critical", peer().with([any]));
        let client = critical(37, &tlv(SEQUENCE, &tlv(6, CLIENT_AUTH)));
        self.leaf("extKeyUsage clientAuth, critical", peer().with([client]));
        self.leaf("extKeyUsage without any purpose", peer().with([purposes(&[])]));
        let server = Draft::authority("Issuing").with([purposes(&[SERVER_AUTH])]);
        self.below("intermediate for serverAuth only", server, peer().with([purposes(&[CLIENT_AUTH])]));
        let both = Draft::authority("Issuing").with([purposes(&[SERVER_AUTH, CLIENT_AUTH])]);
        self.below("intermediate for serverAuth and clientAuth", both, peer());
        let any = Draft::authority("Issuing").with([purposes(&[ANY_PURPOSE])]);
        self.below("intermediate for any purpose", any, peer());
        self.under(
            "root for serverAuth only",
            Draft::authority("EKU root").with([purposes(&[SERVER_AUTH])]),
            peer(),
        );
        self.leaf("leaf with CA:TRUE", peer().with([basic_constraints(true, None)]));
        self.leaf("leaf with CA:FALSE", peer().with([basic_constraints(false, None)]));
        self.leaf("leaf with CA:FALSE and a path length", peer().with([basic_constraints(false, Some(0))]));
        let called = |name_: &str| Draft { name: name(name_), ..peer() };
        let own = called("own 1").with([basic_constraints(true, None)]).self_signed();
        self.trust(&own);
        self.add("self-signed leaf with CA:TRUE among the authorities", &[&own]);
        let own = called("own 2").self_signed();
        self.trust(&own);
        self.add("self-signed leaf without CA:TRUE among the authorities", &[&own]);
        let own =
            called("own 3").with([key_usage(KEY_CERT_SIGN), basic_constraints(true, None)]).self_signed();
        self.trust(&own);
        self.add("self-signed leaf without digitalSignature among the authorities", &[&own]);
        let own = called("own 4").with([purposes(&[SERVER_AUTH])]).self_signed();
        self.trust(&own);
        self.add("self-signed leaf for serverAuth among the authorities", &[&own]);
        let own = called("own 5").valid("200101000000Z", "210101000000Z").self_signed();
        self.trust(&own);
        self.add("self-signed leaf among the authorities, expired", &[&own]);
        let elsewhere = Draft::authority("Elsewhere").self_signed();
        let leaf = called("own 6").issue(&elsewhere);
        self.trust(&leaf);
        self.add("leaf among the authorities without its issuer", &[&leaf]);
        let twin = called("own 6").key(leaf.key()).issue(&elsewhere);
        self.add("another certificate of a leaf among the authorities", &[&twin]);
        self.add("certificate signed by a leaf among the authorities", &[&peer().issue(&leaf)]);
        let leaf = called("own 7").with([basic_constraints(false, None)]).issue(&elsewhere);
        self.trust(&leaf);
        self.add("certificate signed by a leaf with CA:FALSE among the authorities", &[&peer().issue(&leaf)]);
        let own = called("own 8").self_signed();
        self.trust(&own);
        self.add("certificate signed by a self-signed leaf among the authorities", &[&peer().issue(&own)]);
    }

    fn roots(&mut self) {
        let leaf = peer;
        self.under("root of version 1", Draft { version: 1, ..Draft::new("Old root") }, leaf());
        self.under("root without basicConstraints", Draft::new("Bare root"), leaf());
        let not_ca = Draft::new("Root without CA").with([basic_constraints(false, None)]);
        self.under("root with CA:FALSE", not_ca, leaf());
        let mute = Draft::new("Mute root").with([basic_constraints(true, None), key_usage(CRL_SIGN)]);
        self.under("root without keyCertSign", mute, leaf());
        self.under(
            "root expired",
            Draft::authority("Expired root").valid("200101000000Z", "210101000000Z"),
            leaf(),
        );
        self.under(
            "root not yet valid",
            Draft::authority("Future root").valid("440101000000Z", "450101000000Z"),
            leaf(),
        );
        let short =
            Draft::authority("Short root").only([basic_constraints(true, Some(0)), key_usage(KEY_CERT_SIGN)]);
        let short = short.self_signed();
        self.trust(&short);
        self.add("root with path length 0, leaf below", &[&leaf().issue(&short)]);
        let between = Draft::authority("Between").issue(&short);
        self.add("root with path length 0, intermediate below", &[&leaf().issue(&between), &between]);
        let unknown = extension(&[0x2a, 3, 4, 5], true, &[5, 0]);
        self.under(
            "root with an unknown critical extension",
            Draft::authority("Odd root").with([unknown]),
            leaf(),
        );
        // The end of DST Root CA X3: an old root, expired, that signed the new one across.
        let old = Draft::authority("DST Root").valid("200101000000Z", "210101000000Z").self_signed();
        let new = Draft::authority("ISRG Root").self_signed();
        let across = Draft::authority("ISRG Root").key(new.key()).issue(&old);
        self.trust(&old);
        self.trust(&new);
        let below = leaf().issue(&new);
        self.add("root signed across by an expired root, both trusted", &[&below, &across]);
        // Only the expired one is trusted.
        let old = Draft::authority("Gone Root").valid("200101000000Z", "210101000000Z").self_signed();
        let new = Draft::authority("Lost Root").self_signed();
        let across = Draft::authority("Lost Root").key(new.key()).issue(&old);
        self.trust(&old);
        self.add(
            "root signed across by an expired root, the new one not trusted",
            &[&leaf().issue(&new), &across],
        );
        // Rollover: one name, two keys.
        for (case, which, ids) in [
            ("rollover: the old root of two of one name, with key identifiers", 0, true),
            ("rollover: the new root of two of one name, with key identifiers", 1, true),
        ] {
            let cn = if which == 0 { "Rolling root a" } else { "Rolling root b" };
            let draft = |id: &[u8]| Draft::authority(cn).with(ids.then(|| subject_key(id)));
            let roots = [draft(b"old").self_signed(), draft(b"new").self_signed()];
            roots.iter().for_each(|root| self.trust(root));
            let id: &[u8] = if which == 0 { b"old" } else { b"new" };
            self.add(case, &[&leaf().with([authority_key(id)]).issue(&roots[which])]);
        }
        let roots = [(); 2].map(|()| Draft::authority("Rolling root c").self_signed());
        roots.iter().for_each(|root| self.trust(root));
        self.add(
            "rollover: one of two roots of one name, without key identifiers",
            &[&leaf().issue(&roots[0])],
        );
        self.add(
            "rollover: the other of two roots of one name, without key identifiers",
            &[&leaf().issue(&roots[1])],
        );
        // A root renewed with its key: the expired certificate is still there.
        let old = Draft::authority("Renewed root").valid("200101000000Z", "210101000000Z").self_signed();
        let new = Draft::authority("Renewed root").key(old.key()).self_signed();
        self.trust(&new);
        self.trust(&old);
        self.add("root renewed with its key, the expired one still there", &[&leaf().issue(&new)]);
        // An intermediate as authority.
        let above = Draft::authority("Absent root").self_signed();
        let middle = Draft::authority("Trusted intermediate").issue(&above);
        self.trust(&middle);
        self.add("intermediate among the authorities without its root", &[&leaf().issue(&middle)]);
        let above = Draft::authority("Ended root").valid("200101000000Z", "210101000000Z").self_signed();
        let middle = Draft::authority("Lasting intermediate").issue(&above);
        self.trust(&middle);
        self.trust(&above);
        self.add("intermediate among the authorities with its expired root", &[&leaf().issue(&middle)]);
        let permitted = constraints(&[dns_name("elsewhere.example")], &[]);
        self.under(
            "root for other DNS names",
            Draft::authority("Constrained root").with([permitted]),
            leaf(),
        );
        let permitted = constraints(&[uri("example.org")], &[]);
        let root = Draft::authority("SPIFFE root").with([permitted]).self_signed();
        self.trust(&root);
        self.add(
            "root for URIs of a trust domain, SVID of it",
            &[&svid("spiffe://example.org/x").issue(&root)],
        );
        self.add(
            "root for URIs of a trust domain, SVID of another",
            &[&svid("spiffe://evil.example/x").issue(&root)],
        );
    }

    fn intermediates(&mut self) {
        let bare = Draft::new("Issuing");
        self.below(
            "intermediate without keyCertSign",
            bare.clone().with([basic_constraints(true, None), key_usage(DIGITAL_SIGNATURE)]),
            peer(),
        );
        let quiet = uncritical(15, &key_usage_value(DIGITAL_SIGNATURE));
        self.below(
            "intermediate without keyCertSign, not critical",
            bare.clone().with([basic_constraints(true, None), quiet]),
            peer(),
        );
        self.below(
            "intermediate without keyUsage",
            bare.clone().with([basic_constraints(true, None)]),
            peer(),
        );
        self.below("intermediate without basicConstraints", bare.clone().with([subject_key(b"x")]), peer());
        self.below("intermediate with CA:FALSE", bare.clone().with([basic_constraints(false, None)]), peer());
        let quiet = uncritical(19, &basic_constraints_value(true, None));
        self.below("intermediate with basicConstraints not critical", bare.clone().with([quiet]), peer());
        self.below("intermediate of version 1", Draft { version: 1, ..bare.clone() }, peer());
        self.below(
            "intermediate expired",
            Draft::authority("Issuing").valid("200101000000Z", "210101000000Z"),
            peer(),
        );
        self.below(
            "intermediate not yet valid",
            Draft::authority("Issuing").valid("440101000000Z", "450101000000Z"),
            peer(),
        );
        let unknown = extension(&[0x2a, 3, 4, 5], true, &[5, 0]);
        self.below(
            "intermediate with an unknown critical extension",
            Draft::authority("Issuing").with([unknown]),
            peer(),
        );
        let other = Draft { name: name("other leaf"), ..peer() }.with([basic_constraints(false, None)]);
        let other = other.issue(&self.root);
        self.add("leaf signed by another leaf", &[&peer().issue(&other), &other]);
        // rustls/webpki looks for issuers by name; what was signed is the certificate with its constraints.
        let bound = Draft::authority("Bound");
        let real = bound.clone().with([constraints(&[uri("example.org")], &[])]).issue(&self.root);
        let copy = bound.key(real.key()).issue(&self.root).with_signature_of(&real);
        let leaf = svid("spiffe://evil.example/x").issue(&real);
        self.add(
            "intermediate without its constraints under its signature, the real one beside",
            &[&leaf, &copy, &real],
        );
        self.add("intermediate without its constraints under its signature", &[&leaf, &copy]);
        // Path lengths.
        let root = self.root.clone();
        let zero =
            Draft::authority("Zero").only([basic_constraints(true, Some(0)), key_usage(KEY_CERT_SIGN)]);
        let zero = zero.issue(&root);
        self.add("intermediate with path length 0, leaf below", &[&peer().issue(&zero), &zero]);
        let one = Draft::authority("Below zero").issue(&zero);
        self.add("intermediate with path length 0, intermediate below", &[&peer().issue(&one), &one, &zero]);
        let same = Draft { name: zero.name.clone(), ..Draft::authority("") }.issue(&zero);
        self.add(
            "intermediate with path length 0, the same name below",
            &[&peer().issue(&same), &same, &zero],
        );
        let negative = critical(19, &basic_constraints_value(true, Some(&[0xff])));
        self.below("intermediate with a negative path length", bare.clone().with([negative]), peer());
        let large = critical(19, &basic_constraints_value(true, Some(&[1, 0])));
        self.below("intermediate with path length 256", bare.with([large]), peer());
        for (count, case) in
            [(6, "six intermediates"), (7, "seven intermediates"), (12, "twelve intermediates")]
        {
            let mut chain = vec![root.clone()];
            for number in 1..=count {
                let next = Draft::authority(&format!("D{count}-{number}")).issue(&chain[0]);
                chain.insert(0, next);
            }
            chain.pop();
            let leaf = peer().issue(&chain[0]);
            self.add(case, &std::iter::once(&leaf).chain(&chain).collect::<Vec<_>>());
        }
        for (count, case) in
            [(16, "sixteen certificates beside the leaf"), (17, "seventeen certificates beside the leaf")]
        {
            let leaf = peer().issue(&root);
            let others: Vec<_> =
                (0..count).map(|number| Draft::authority(&format!("Other {number}")).issue(&root)).collect();
            self.add(case, &std::iter::once(&leaf).chain(&others).collect::<Vec<_>>());
        }
        // Two certificates of one intermediate: one expired, in either order.
        let good = Draft::authority("Twin").issue(&root);
        let ended =
            Draft::authority("Twin").key(good.key()).valid("200101000000Z", "210101000000Z").issue(&root);
        let leaf = peer().issue(&good);
        self.add("intermediate twice, the valid one first", &[&leaf, &good, &ended]);
        self.add("intermediate twice, the expired one first", &[&leaf, &ended, &good]);
        // Key identifiers.
        self.leaf("authorityKeyIdentifier of the root's key", peer().with([authority_key(b"root")]));
        self.leaf("authorityKeyIdentifier of another key", peer().with([authority_key(b"other")]));
        let serial = authority_serial(&root.name, &[0x5a, 1]);
        self.leaf("authorityKeyIdentifier with the root's issuer and serial", peer().with([serial]));
        let serial = authority_serial(&root.name, &[7]);
        self.leaf("authorityKeyIdentifier with another serial", peer().with([serial]));
    }

    fn constraints(&mut self) {
        let mut case = |name, permitted: &[Vec<u8>], excluded: &[Vec<u8>], leaf: Draft| {
            let issuing = Draft::authority("Constrained").with([constraints(permitted, excluded)]);
            self.below(name, issuing, leaf);
        };
        let dns = |name| [dns_name(name)];
        case("permitted DNS domain, inside", &dns("mycluster.example"), &[], peer());
        case("permitted DNS domain with a dot, inside", &dns(".mycluster.example"), &[], peer());
        case("permitted DNS domain, outside", &dns("other.example"), &[], peer());
        case("excluded DNS domain, inside", &[], &dns("mycluster.example"), peer());
        case("excluded DNS domain, outside", &[], &dns("other.example"), peer());
        case(
            "excluded DNS host, wildcard over it",
            &[],
            &dns("a.mycluster.example"),
            Draft::peer("*.mycluster.example"),
        );
        case(
            "permitted DNS domain, URI only",
            &dns("mycluster.example"),
            &[],
            svid("spiffe://example.org/x"),
        );
        let cn = |cn: &str, names: &[Vec<u8>]| {
            Draft { name: name(cn), ..Draft::new("") }.with([alternative_names(names)])
        };
        case(
            "permitted DNS domain, common name outside",
            &dns("mycluster.example"),
            &[],
            cn("not.of.it", &dns(NAME)),
        );
        case(
            "permitted DNS domain, common name only",
            &dns("mycluster.example"),
            &[],
            Draft::new("named.mycluster.example"),
        );
        case(
            "permitted DNS domain, common name only and no host",
            &dns("mycluster.example"),
            &[],
            Draft::new("named node"),
        );
        let spiffe = svid("spiffe://example.org/x");
        case("permitted URI host, SVID of it", &[uri("example.org")], &[], spiffe.clone());
        case(
            "permitted URI host, SVID of another",
            &[uri("example.org")],
            &[],
            svid("spiffe://evil.example/x"),
        );
        case(
            "permitted URI domain, SVID below",
            &[uri(".example.org")],
            &[],
            svid("spiffe://a.example.org/x"),
        );
        case("permitted URI domain, SVID of the domain itself", &[uri(".example.org")], &[], spiffe.clone());
        case("excluded URI host, SVID of it", &[], &[uri("example.org")], spiffe);
        case(
            "excluded URI host, SVID of another",
            &[],
            &[uri("example.org")],
            svid("spiffe://good.example/x"),
        );
        case(
            "permitted URI host, URI without a host",
            &[uri("example.org")],
            &[],
            Draft::new("c").with([alternative_names(&[dns_name(NAME), uri("urn:x")])]),
        );
        let odd = |id| Draft::new("c").with([alternative_names(&[dns_name(NAME), uri(id)])]);
        case(
            "permitted URI domain, it stands in the path",
            &[uri(".example.org")],
            &[],
            odd("spiffe://evil/x.example.org:1"),
        );
        case(
            "permitted URI host, it stands before an `@`",
            &[uri("example.org")],
            &[],
            odd("spiffe://example.org:1@evil/x"),
        );
        for (name, id) in [
            ("excluded URI host, a colon in the path", "spiffe://example.org/x:y"),
            ("excluded URI host, a query behind it", "spiffe://example.org?x"),
            ("excluded URI host, a dot behind it", "spiffe://example.org./x"),
            ("excluded URI host, a user before it", "spiffe://u@example.org/x"),
        ] {
            case(name, &[], &[uri("example.org")], odd(id));
        }
        case("permitted URI host, DNS name only", &[uri("example.org")], &[], peer());
        let with_mail = |address| Draft::new("c").with([alternative_names(&[dns_name(NAME), mail(address)])]);
        case("permitted mail host, no mail address", &[mail("example.org")], &[], peer());
        case(
            "permitted mail host, mail address of it",
            &[mail("example.org")],
            &[],
            with_mail("a@example.org"),
        );
        case(
            "permitted mail host, mail address of another",
            &[mail("example.org")],
            &[],
            with_mail("a@evil.example"),
        );
        case(
            "excluded mail address, that address",
            &[],
            &[mail("a@example.org")],
            with_mail("a@example.org"),
        );
        case(
            "permitted DNS, URI and mail, all kept",
            &[dns_name("mycluster.example"), uri("example.org"), mail("example.org")],
            &[],
            Draft::new("c").with([alternative_names(&[
                dns_name(NAME),
                uri("spiffe://example.org/x"),
                mail("a@example.org"),
            ])]),
        );
        let organisation = subject(&[&[(O, UTF8, b"Example")]]);
        let within = subject(&[&[(O, UTF8, b"Example")], &[(CN, UTF8, b"c")]]);
        let printable = subject(&[&[(O, PRINTABLE, b"EXAMPLE")], &[(CN, UTF8, b"c")]]);
        let named = |name: Vec<u8>| Draft { name, ..peer() };
        case(
            "permitted directory name, subject below",
            &[directory(&organisation)],
            &[],
            named(within.clone()),
        );
        case(
            "permitted directory name, subject below in another encoding",
            &[directory(&organisation)],
            &[],
            named(printable),
        );
        case("permitted directory name, subject elsewhere", &[directory(&organisation)], &[], peer());
        case("excluded directory name, subject below", &[], &[directory(&organisation)], named(within));
        case("excluded directory name, subject elsewhere", &[], &[directory(&organisation)], peer());
        let address =
            |bytes: [u8; 4]| Draft::new("c").with([alternative_names(&[dns_name(NAME), ip(&bytes)])]);
        let net = ip(&[10, 0, 0, 0, 255, 0, 0, 0]);
        case("permitted IP network, address in it", std::slice::from_ref(&net), &[], address([10, 1, 2, 3]));
        case(
            "permitted IP network, address outside",
            std::slice::from_ref(&net),
            &[],
            address([192, 0, 2, 1]),
        );
        case("permitted IP network, no address", std::slice::from_ref(&net), &[], peer());
        case("excluded all of IPv4, no address", &[], &[ip(&[0; 8])], peer());
        case("excluded all of IPv4, an address", &[], &[ip(&[0; 8])], address([192, 0, 2, 1]));
        let root = self.root.clone();
        let upper =
            Draft::authority("Upper").with([constraints(&[dns_name("other.example")], &[])]).issue(&root);
        let lower = Draft::authority("Lower").issue(&upper);
        self.add("permitted DNS domain two levels above, outside", &[&peer().issue(&lower), &lower, &upper]);
    }

    fn encodings(&mut self) {
        let policies =
            critical(32, &tlv(SEQUENCE, &tlv(SEQUENCE, &tlv(6, &[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1]))));
        self.leaf("critical certificatePolicies", peer().with([policies]));
        let explicit = critical(36, &tlv(SEQUENCE, &tlv(0x80, &[0])));
        self.below(
            "intermediate that requires an explicit policy",
            Draft::authority("Issuing").with([explicit]),
            peer(),
        );
        self.leaf("unknown critical extension", peer().with([extension(&[0x2a, 3, 4, 5], true, &[5, 0])]));
        self.leaf("unknown extension", peer().with([extension(&[0x2a, 3, 4, 5], false, &[5, 0])]));
        self.leaf(
            "unknown extension twice",
            peer().with([
                extension(&[0x2a, 3, 4, 5], false, &[5, 0]),
                extension(&[0x2a, 3, 4, 5], false, &[5, 0]),
            ]),
        );
        self.leaf(
            "basicConstraints twice",
            peer().with([basic_constraints(false, None), basic_constraints(false, None)]),
        );
        self.leaf("keyUsage twice", peer().with([key_usage(DIGITAL_SIGNATURE), key_usage(KEY_ENCIPHERMENT)]));
        self.leaf("extKeyUsage twice", peer().with([purposes(&[CLIENT_AUTH]), purposes(&[SERVER_AUTH])]));
        self.leaf("subjectAltName twice", peer().with([alternative_names(&[dns_name("evil.example")])]));
        let policy = |last| tlv(SEQUENCE, &tlv(6, &[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, last]));
        let twice = [policy(1), policy(1)].concat();
        self.leaf(
            "certificatePolicies with one twice",
            peer().with([uncritical(32, &tlv(SEQUENCE, &twice))]),
        );
        self.leaf("certificatePolicies without any", peer().with([uncritical(32, &tlv(SEQUENCE, &[]))]));
        let any = Draft::authority("Issuing").with([critical(54, &tlv(INTEGER, &[0]))]);
        self.below("intermediate with a critical inhibitAnyPolicy", any, peer());
        self.leaf("critical subjectKeyIdentifier", peer().with([critical(14, &tlv(4, b"x"))]));
        let point = tlv(SEQUENCE, &tlv(SEQUENCE, &tlv(0xa0, &tlv(0xa0, &uri("http://a.example/crl")))));
        self.leaf("critical cRLDistributionPoints", peer().with([critical(31, &point)]));
        self.leaf("cRLDistributionPoints", peer().with([uncritical(31, &point)]));
        let odd = tlv(
            SEQUENCE,
            &[tlv(6, &[0x55, 0x1d, 15]), vec![1, 1, 1], tlv(4, &key_usage_value(DIGITAL_SIGNATURE))].concat(),
        );
        self.leaf("critical written as 01", peer().with([odd]));
        let plain = tlv(
            SEQUENCE,
            &[tlv(6, &[0x55, 0x1d, 15]), vec![1, 1, 0], tlv(4, &key_usage_value(DIGITAL_SIGNATURE))].concat(),
        );
        self.leaf("critical written as FALSE", peer().with([plain]));
        self.leaf("CA:FALSE written out", peer().with([critical(19, &tlv(SEQUENCE, &[1, 1, 0]))]));
        let odd = Draft::new("Issuing").with([critical(19, &tlv(SEQUENCE, &[1, 1, 1]))]);
        self.below("intermediate with CA written as 01", odd, peer());
        self.leaf("empty subjectAltName", Draft::new("named").with([alternative_names(&[])]));
        let quiet = uncritical(30, &constraints_value(&[dns_name("other.example")]));
        self.below(
            "permitted DNS domain, outside, not critical",
            Draft::authority("Issuing").with([quiet]),
            peer(),
        );
        self.below(
            "nameConstraints without any",
            Draft::authority("Issuing").with([critical(30, &tlv(SEQUENCE, &[]))]),
            peer(),
        );
        let minimum = [dns_name("mycluster.example"), tlv(0x80, &[0])].concat();
        let minimum = critical(30, &tlv(SEQUENCE, &tlv(0xa0, &tlv(SEQUENCE, &minimum))));
        self.below(
            "permitted DNS domain with a minimum, inside",
            Draft::authority("Issuing").with([minimum]),
            peer(),
        );
        self.leaf("leaf with nameConstraints", peer().with([constraints(&[dns_name("other.example")], &[])]));
        self.leaf("version 2", Draft { version: 2, ..Draft::new("named") });
        self.leaf(
            "authorityKeyIdentifier twice",
            peer().with([authority_key(b"root"), authority_key(b"root")]),
        );
        self.leaf("empty subject, subjectAltName not critical", Draft { name: subject(&[]), ..peer() });
        self.leaf("version 1", Draft { version: 1, ..Draft::new("named") });
        self.leaf("version 3 without extensions", Draft::new("named"));
        let unique = [tlv(0x81, &[0, 1]), tlv(0x82, &[0, 2])].concat();
        self.leaf("unique identifiers", Draft { unique_ids: unique, ..peer() });
        self.leaf("bytes after the certificate", Draft { after: vec![0], ..peer() });
        let printable = Draft { name: subject(&[&[(CN, PRINTABLE, b"Encoded")]]), ..Draft::authority("") };
        let issuing = printable.issue(&self.root);
        let other = Draft { issuer: Some(subject(&[&[(CN, UTF8, b"Encoded")]])), ..peer() };
        self.add(
            "issuer written as UTF8String, subject as PrintableString",
            &[&other.issue(&issuing), &issuing],
        );
        let other = Draft { issuer: Some(subject(&[&[(CN, UTF8, b"ENCODED")]])), ..peer() };
        self.add("issuer written in capitals", &[&other.issue(&issuing), &issuing]);
        let mut broken = peer().issue(&self.root);
        *broken.der.last_mut().expect("bytes") ^= 1;
        self.add("broken signature", &[&broken]);
    }

    fn numbers_and_dates(&mut self) {
        for (case, serial) in [
            ("serial number 0", vec![0]),
            ("serial number -5", vec![0xfb]),
            ("serial number of 20 bytes", vec![0x7f; 20]),
            ("serial number of 24 bytes", vec![0x7f; 24]),
            ("serial number with a leading zero too many", vec![0, 1]),
            ("serial number without bytes", vec![]),
        ] {
            self.leaf(case, Draft { serial, ..peer() });
        }
        let dated = |from, until| Draft { validity: [from, until], ..peer() };
        let start = || utc("200101000000Z");
        self.leaf("expired", dated(start(), utc("210101000000Z")));
        self.leaf("not yet valid", dated(utc("440101000000Z"), utc("450101000000Z")));
        self.leaf("valid until before it is valid", dated(utc("450101000000Z"), utc("200101000000Z")));
        self.leaf("valid until 9999", dated(start(), generalized("99991231235959Z")));
        self.leaf("valid until 2060", dated(start(), generalized("20600101000000Z")));
        self.leaf("valid from 1950", dated(utc("500101000001Z"), utc("450101000000Z")));
        self.leaf("valid until 2045 as GeneralizedTime", dated(start(), generalized("20450101000000Z")));
        self.leaf("a time without seconds", dated(start(), utc("4501010000Z")));
        self.leaf("a time with an offset", dated(start(), utc("450101000000+0100")));
    }

    fn keys(&mut self) {
        let generate = |algorithm| Rc::new(KeyPair::generate_for(algorithm).expect("a key"));
        let p384 = generate(&rcgen::PKCS_ECDSA_P384_SHA384);
        let p521 = generate(&rcgen::PKCS_ECDSA_P521_SHA512);
        let ed25519 = generate(&rcgen::PKCS_ED25519);
        self.leaf("key P-384", peer().key(Rc::clone(&p384)));
        self.leaf("key P-521", peer().key(Rc::clone(&p521)));
        self.leaf("key Ed25519", peer().key(Rc::clone(&ed25519)));
        self.below("signed by P-384 with SHA-384", Draft::authority("P-384").key(p384), peer());
        self.below("signed by P-521 with SHA-512", Draft::authority("P-521").key(p521), peer());
        self.below("signed by Ed25519", Draft::authority("Ed25519").key(ed25519), peer());
        fs::write(self.pki.file("root.der"), &self.root.der).expect("a file");
        let root_key = pem("PRIVATE KEY", self.root.private_key().secret_der());
        fs::write(self.pki.file("root.key"), root_key).expect("a file");
        self.openssl("x509 -inform DER -in root.der -out root.pem");
        fs::write(self.pki.file("leaf.cnf"), format!("subjectAltName=DNS:{NAME}")).expect("a file");
        for (case, generate, sign, arguments) in [
            ("key RSA 2048", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", "-sha256", &[][..]),
            ("key RSA 4096", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096", "-sha256", &[]),
            ("key RSA 1024", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "-sha256", WEAK),
            ("key RSA-PSS", "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "-sha256", &[]),
            ("key Ed448", "genpkey -algorithm ED448", "-sha256", &[]),
            ("key secp256k1", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "-sha256", &[]),
            (
                "key P-256, signed with SHA-512",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
                "-sha512",
                &[],
            ),
            (
                "key P-256, signed with SHA-1",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
                "-sha1",
                WEAK,
            ),
        ] {
            let file = case.replace([' ', ','], "-");
            self.openssl(&format!("{generate} -out {file}.key"));
            self.openssl(&format!("req -new -key {file}.key -subj /CN=c -out {file}.csr"));
            self.openssl(&format!(
                "x509 -req -in {file}.csr -CA root.pem -CAkey root.key -set_serial 7 -days 2 {sign} -extfile leaf.cnf -out {file}.pem"
            ));
            let peer = Peer {
                chain: self.pki.file(&format!("{file}.pem")),
                key: self.pki.file(&format!("{file}.key")),
                ..self.pki.peer(&Leaf::new())
            };
            self.all.push(Case { name: case, with: Presented::Files(peer, arguments) });
        }
    }

    fn sizes(&mut self) {
        let names: Vec<_> =
            (0..600).map(|number| dns_name(&format!("n{number}.mycluster.example"))).collect();
        self.leaf("600 names", Draft::new("c").with([alternative_names(&names)]));
        let padding = |size: usize| extension(&[0x2a, 3, 4, 6], false, &tlv(4, &vec![0; size]));
        self.leaf("certificate of 60 KB", peer().with([padding(60_000)]));
        self.leaf("certificate of 70 KB", peer().with([padding(70_000)]));
        let root = self.root.clone();
        let chain: Vec<_> = (0..3)
            .map(|number| Draft::authority(&format!("Large {number}")).with([padding(30_000)]).issue(&root))
            .collect();
        let leaf = peer().issue(&root);
        self.add("chain of 90 KB", &[&leaf, &chain[0], &chain[1], &chain[2]]);
    }

    fn openssl(&self, arguments: &str) {
        openssl(self.pki.directory(), arguments);
    }
}

/// openssl itself refuses weak keys and signatures otherwise.
const WEAK: &[&str] = &["-cipher", "DEFAULT@SECLEVEL=0"];

fn peer() -> Draft {
    Draft::peer(NAME)
}

fn svid(id: &str) -> Draft {
    Draft::new("c").with([alternative_names(&[uri(id)])])
}

/// What a row says.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    host: String,
    envoy: String,
    failure: String,
}

/// The table of the document, by the first column.
fn table() -> BTreeMap<String, Row> {
    let text = fs::read_to_string(root().join("host/certificates.md")).expect("the document");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| certificate |")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, host, envoy, failure, _] = cells[..] else { panic!("four columns: {line}") };
        let answer = envoy.trim_matches('*');
        assert_eq!(answer != envoy, answer != host, "bold is what differs: {line}");
        let row = Row { host: host.to_owned(), envoy: answer.to_owned(), failure: failure.replace('`', "") };
        assert!(rows.insert(name.to_owned(), row).is_none(), "twice: {name}");
    }
    rows
}

/// Both programs, with one policy.
struct Bench {
    cases: Cases,
    host: Host,
    envoy: Option<Envoy>,
    _upstream: Upstream,
}

impl Bench {
    fn new() -> Self {
        let cases = Cases::new();
        let bundle: String = cases.authorities.iter().map(|der| pem("CERTIFICATE", der)).collect();
        fs::write(cases.pki.file("authorities.pem"), bundle).expect("the authorities");
        let mut policy = cases.pki.with_files(&policy());
        policy["files"]["ca-certificates"] = json!(cases.pki.file("authorities.pem"));
        let path = cases.pki.file("policy.json");
        fs::write(&path, policy.to_string()).expect("the policy");
        let upstream = Upstream::http();
        let host = Start::endpoint("peer", &path, upstream.address).admin().start();
        let envoy =
            (!skipped("certificates in Envoy")).then(|| rendered(&cases.pki, &path, upstream.address));
        Self { cases, host, envoy, _upstream: upstream }
    }

    fn present(&self, case: &Case, address: SocketAddr) -> &'static str {
        let pki = &self.cases.pki;
        let status = match &case.with {
            Presented::Chain(chain, key) => {
                let asked = Client::connect_presenting(address, pki.ca(), chain.clone(), key)
                    .and_then(|mut client| client.get("/"));
                asked.ok().map(|answer| answer.status())
            }
            Presented::Files(peer, arguments) => s_client(pki, address, Some(peer), arguments, GET).status(),
        };
        if status == Some(200) { "admits" } else { "refuses" }
    }

    /// How often each failure of a handshake was counted.
    fn failures(&self) -> BTreeMap<String, f64> {
        let text = admin::get(self.host.admin(), "/metrics").text();
        let mut failures = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("peergate_handshake_failures_total{")) {
            let (_, rest) = line.split_once("failure=\"").expect("a failure");
            let (word, count) = rest.split_once("\"} ").expect("a count");
            failures.insert(word.to_owned(), count.parse().expect("a number"));
        }
        failures
    }

    fn host_row(&self, case: &Case) -> (&'static str, String) {
        let before = self.failures();
        let host = self.present(case, self.host.address);
        if host == "admits" {
            return (host, String::new());
        }
        let grown = || {
            let now = self.failures();
            let is_new = |(word, count): &(String, f64)| *count > before.get(word).copied().unwrap_or(0.0);
            now.into_iter().find(is_new).map(|(word, _)| word)
        };
        let mut word = None;
        wait::until(case.name, || {
            word = grown();
            word.is_some()
        });
        (host, word.unwrap_or_default())
    }
}

/// Envoy with what `peergate render envoy` writes.
fn rendered(pki: &Pki, policy: &Path, upstream: SocketAddr) -> Envoy {
    let mut render = peergate();
    render.args(["render", "envoy", "--inbound", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--policy"]);
    render.arg(policy).args(["--upstream", &upstream.to_string(), "--filter"]).arg(filter());
    let written = run(&mut render, b"");
    assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""));
    let config = pki.file("envoy.yaml");
    fs::write(&config, written.stdout).expect("the bootstrap");
    Envoy::start_file(&binary(CURRENT), &config, pki.directory(), &root())
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn host_and_envoy_do_what_the_table_says() {
    let bench = Bench::new();
    let table = table();
    let names: BTreeSet<_> = bench.cases.all.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), bench.cases.all.len(), "a row twice");
    let mut wrong = String::new();
    for case in &bench.cases.all {
        let (host, failure) = bench.host_row(case);
        let written = table.get(case.name);
        let envoy = match &bench.envoy {
            Some(envoy) => {
                let address = envoy.listener("inbound_0").expect("the listener");
                bench.present(case, address).to_owned()
            }
            // Without Envoy only the host is compared.
            None => written.map_or_else(String::new, |row| row.envoy.clone()),
        };
        let row = Row { host: host.to_owned(), envoy, failure };
        if written != Some(&row) {
            let failure = if row.failure.is_empty() { String::new() } else { format!("`{}`", row.failure) };
            wrong += &format!("| {} | {} | {} | {failure} |\n", case.name, row.host, row.envoy);
        }
    }
    let unknown: Vec<_> = table.keys().filter(|name| !names.contains(name.as_str())).collect();
    assert!(
        wrong.is_empty() && unknown.is_empty(),
        "rows as they are:\n{wrong}\nrows without a case: {unknown:?}"
    );
    let log = bench.host.log();
    for library in [
        "Other(",
        "OtherError",
        "UnknownIssuer",
        "Unsupported",
        "(UNIX)",
        "invalid peer certificate",
        "BadDer",
    ] {
        assert!(!log.contains(library), "{library}\n{log}");
    }
}

/// A policy with these authorities, in a file.
fn policy_with(pki: &Pki, authorities: &[&Holder]) -> PathBuf {
    let bundle: String = authorities.iter().map(|holder| pem("CERTIFICATE", &holder.der)).collect();
    fs::write(pki.file("authorities.pem"), bundle).expect("the authorities");
    let mut policy = pki.with_files(&policy());
    policy["files"]["ca-certificates"] = json!(pki.file("authorities.pem"));
    let path = pki.file("policy.json");
    fs::write(&path, policy.to_string()).expect("the policy");
    path
}

fn expired(cn: &str) -> Draft {
    Draft::authority(cn).valid("200101000000Z", "210101000000Z")
}

#[test]
fn authorities_that_vouch_for_nobody_are_named() {
    let pki = Pki::new();
    let mute = Draft::new("Mute").with([basic_constraints(true, None), key_usage(CRL_SIGN)]).self_signed();
    let leaf = Draft::new("Leaf").with([basic_constraints(false, None)]).self_signed();
    let (good, old) = (Draft::authority("Good").self_signed(), expired("Old").self_signed());
    let path = policy_with(&pki, &[&good, &old, &mute, &leaf]);
    let expected = [
        "authority-expired: certificate 2 of `",
        "(CN=Old) was valid until 2021-01-01T00:00:00Z",
        "authority-cannot-sign: certificate 3 of `",
        "(CN=Mute) has a keyUsage without keyCertSign",
        "authority-cannot-sign: certificate 4 of `",
        "(CN=Leaf) is no authority",
    ];
    let checked = run(peergate().args(["check", "--policy"]).arg(&path), b"");
    assert_eq!(checked.code, Some(0), "{}", checked.output());
    let upstream = Upstream::http();
    let host = Start::endpoint("peer", &path, upstream.address).start();
    for words in expected {
        assert!(checked.stderr.contains(words), "{words}\n{}", checked.stderr);
        wait::until(words, || host.log().contains(words));
    }
    assert!(!checked.stderr.contains("certificate 1 of"), "{}", checked.stderr);
    // Without another one nobody could be admitted.
    let path = policy_with(&pki, &[&old, &mute]);
    let mut check = peergate();
    check.args(["check", "--policy"]).arg(&path);
    for mut command in [check, Start::endpoint("peer", &path, upstream.address).command()] {
        let refused = run(&mut command, b"");
        assert_eq!(refused.code, Some(2), "{}", refused.output());
        for words in
            ["has no authority that vouches for anybody", "(CN=Old) was valid until", "(CN=Mute) has a"]
        {
            assert!(refused.stderr.contains(words), "{words}\n{}", refused.stderr);
        }
    }
}

#[test]
fn explain_verifies_the_chain() {
    let pki = Pki::new();
    let root = Draft::authority("Root").valid("200101000000Z", "350101000000Z").self_signed();
    let issuing = Draft::authority("Issuing").issue(&root);
    let leaf = peer().valid("200101000000Z", "400101000000Z").issue(&issuing);
    let path = policy_with(&pki, &[&root]);
    let explain = |chain: &[&Holder], more: &[&str]| {
        let text: String = chain.iter().map(|holder| pem("CERTIFICATE", &holder.der)).collect();
        fs::write(pki.file("chain.pem"), text).expect("the chain");
        let mut command = peergate();
        command.args(["explain", "--policy"]).arg(&path).arg("--cert").arg(pki.file("chain.pem")).args(more);
        let human = run(&mut command, b"");
        let machine = run(command.args(["--format", "json"]), b"");
        assert_eq!(human.code, machine.code);
        let json: Value =
            serde_json::from_str(&machine.stdout).unwrap_or_else(|_| panic!("{}", machine.output()));
        (human.code, human.stdout, json)
    };
    let (code, text, json) = explain(&[&leaf, &issuing], &[]);
    assert_eq!(
        (code, &json["decision"], &json["chain"]),
        (Some(0), &json!("allow"), &json!({"verified": true}))
    );
    assert!(text.contains("  chain: verified\n"), "{text}");
    for (chain, now, failure) in [
        (&[&leaf][..], "2026-01-01T00:00:00Z", "unknown-authority"),
        (&[&leaf, &issuing][..], "2041-01-01T00:00:00Z", "certificate-expired"),
        (&[&leaf, &issuing][..], "2036-01-01T00:00:00Z", "authority-expired"),
    ] {
        let (code, text, json) = explain(chain, &["--now", now]);
        assert_eq!((code, &json["decision"]), (Some(1), &json!("deny")), "{text}");
        assert_eq!(
            (&json["chain"]["verified"], &json["chain"]["failure"]),
            (&json!(false), &json!(failure)),
            "{text}"
        );
        assert!(text.contains(&format!("  chain: refused, {failure}: ")), "{text}");
    }
    fs::write(&path, policy().to_string()).expect("the policy");
    let (code, text, json) = explain(&[&leaf], &[]);
    assert_eq!((code, &json["chain"]["verified"]), (Some(0), &Value::Null), "{text}");
    assert!(text.contains("  chain: not verified: "), "{text}");
}

/// A server that presents this.
fn serve(chain: &[&Holder]) -> u16 {
    let key = any_supported_type(&chain[0].private_key()).expect("a key");
    let chain = chain.iter().map(|holder| holder.certificate()).collect();
    let pair = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(pair));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            // Refused handshakes are what is looked for.
            while connection.complete_io(&mut socket).is_ok_and(|(read, _)| read > 0) {}
        }
    });
    port
}

#[test]
fn servers_are_judged_by_the_same_rules() {
    let pki = Pki::new();
    let (root, old) = (Draft::authority("Root").self_signed(), expired("Old").self_signed());
    let bound = Draft::authority("Bound").with([constraints(&[uri("example.org")], &[])]).issue(&root);
    let path = policy_with(&pki, &[&root, &old]);
    let server = || Draft::peer("localhost");
    let strange =
        server().only([alternative_names(&[dns_name("localhost"), uri("spiffe://evil.example/x")])]);
    let (below_old, below_bound) = (server().issue(&old), strange.issue(&bound));
    let weak = server().with([key_usage(KEY_ENCIPHERMENT)]).issue(&root);
    let client = server().with([purposes(&[CLIENT_AUTH])]).issue(&root);
    let other = Draft::peer("other.example").issue(&root);
    for (chain, failure) in [
        (&[&below_old][..], "authority-expired: "),
        (&[&weak][..], "wrong-key-usage: the server's certificate"),
        (&[&client][..], "wrong-extended-key-usage: the server's certificate is not for serverAuth"),
        (&[&below_bound, &bound][..], "name-constraint: URI `spiffe://evil.example/x`"),
        (
            &[&other][..],
            "wrong-name: the server's certificate is not for `localhost`, but for `other.example`",
        ),
    ] {
        let config = pki.file("host.json");
        let upstream = format!("localhost:{}", serve(chain));
        let outbound = json!({"outbound": [{"address": "127.0.0.1:0", "upstream": {"address": upstream}, "policy": path}]});
        fs::write(&config, outbound.to_string()).expect("the configuration");
        let host = Start::config(&config).start();
        assert_eq!(admin::get(host.address, "/").status(), 502);
        wait::until(failure, || host.log().contains(failure));
    }
}

#[test]
fn an_authority_that_expires_ends_its_connections() {
    let pki = Pki::new();
    let end = OffsetDateTime::now_utc() + Duration::seconds(10);
    let format = format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
    let root =
        Draft::authority("Ending").valid("200101000000Z", &end.format(format).expect("a time")).self_signed();
    let path = policy_with(&pki, &[&root, &Draft::authority("Lasting").self_signed()]);
    let upstream = Upstream::http();
    let host = Start::endpoint("peer", &path, upstream.address).start();
    let leaf = peer().issue(&root);
    let present =
        || Client::connect_presenting(host.address, pki.ca(), vec![leaf.certificate()], &leaf.private_key());
    let mut client = present().expect("a connection");
    assert_eq!(client.get("/").expect("an answer").status(), 200);
    wait::until("the connection ends", || client.get("/").is_err());
    assert!(
        host.log().contains("chain-not-verified: authority-expired: certificate 1 of `"),
        "{}",
        host.log()
    );
    assert!(present().and_then(|mut client| client.get("/")).is_err());
}
