//! All rules of a policy, indexed so that a decision costs the same with ten rules and with ten thousand.

use std::net::IpAddr;

use crate::address::{masked, width};
use crate::identity::Digest;
use crate::index::{DigestIndex, Texts, sorted};
use crate::names::Names;
use crate::rule::{Credential, Field, Matcher, Rule};
use crate::trie::Trie;
use crate::work::{TooCostly, Work};

/// Number of a rule in policy order.
pub(crate) type RuleIndex = u32;

/// The entries of `authorized-peers` and an index over them.
///
/// Each rule is filed once, under its rarest credential. The index finds the rules whose filed credential holds; only
/// those are checked in full. Every rule that matches is among them, because all of its credentials hold.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// Under which of its credentials each rule is filed.
    filed: Vec<Option<usize>>,
    common_names: Trie,
    dns_names: Trie,
    uris: Trie,
    /// By network address and prefix length.
    addresses: DigestIndex<Vec<RuleIndex>>,
    /// The distinct prefix lengths in `addresses`, by address width.
    prefixes: Vec<(u8, u8)>,
    /// Rules without credentials (`vespa-java`), which match everybody.
    unconditional: Vec<RuleIndex>,
}

impl Rules {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let mut frequencies = Texts::new();
        for credential in rules.iter().flat_map(|rule| &rule.credentials) {
            *frequencies.entry(wanted(credential)).or_insert(0) += 1;
        }
        let rarest = |rule: &Rule| {
            let rank = |index: &usize| {
                let credential = &rule.credentials[*index];
                (frequencies.get(&wanted(credential)), wildness(credential))
            };
            (0..rule.credentials.len()).min_by_key(rank)
        };
        let filed: Vec<Option<usize>> = rules.iter().map(rarest).collect();
        let mut indexed = Self {
            rules,
            filed: Vec::new(),
            common_names: Trie::new(Field::CommonName.separator()),
            dns_names: Trie::new(Field::DnsName.separator()),
            uris: Trie::new(Field::Uri.separator()),
            addresses: DigestIndex::default(),
            prefixes: Vec::new(),
            unconditional: Vec::new(),
        };
        for (number, credential) in filed.iter().enumerate() {
            let credential = credential.map(|index| indexed.rules[number].credentials[index].clone());
            indexed.file(RuleIndex::try_from(number).expect("the number of rules is bounded"), credential);
        }
        indexed.filed = filed;
        indexed
    }

    fn file(&mut self, index: RuleIndex, credential: Option<Credential>) {
        let Some(credential) = credential else {
            self.unconditional.push(index);
            return;
        };
        match credential.matcher() {
            Matcher::Address(block) => {
                let (network, prefix) = block.parts();
                if !self.prefixes.contains(&(width(network), prefix)) {
                    self.prefixes.push((width(network), prefix));
                }
                self.addresses.entry(block_key(network, prefix), Vec::new).push(index);
            }
            Matcher::Text(pattern) => match credential.field() {
                Field::CommonName => self.common_names.insert(pattern, index),
                Field::DnsName | Field::Address => self.dns_names.insert(pattern, index),
                Field::Uri => self.uris.insert(pattern, index),
            },
        }
    }

    pub(crate) fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The numbers of the rules that match, in policy order.
    pub(crate) fn matching(&self, names: &Names<'_>) -> Result<Vec<RuleIndex>, TooCostly> {
        let mut work = Work::new();
        let mut candidates = self.unconditional.clone();
        for (field, trie) in [
            (Field::CommonName, &self.common_names),
            (Field::DnsName, &self.dns_names),
            (Field::Uri, &self.uris),
        ] {
            for value in names.texts(field) {
                trie.find(value, &mut candidates, &mut work)?;
            }
        }
        for address in names.addresses() {
            self.find_address(*address, &mut candidates);
        }
        let mut matching = Vec::new();
        for number in sorted(candidates) {
            let (rule, filed) = (&self.rules[number as usize], self.filed[number as usize]);
            // The index has found that the one it is filed under holds.
            let mut others = rule.credentials.iter().enumerate().filter(|(index, _)| Some(*index) != filed);
            let mut holds = true;
            while let (true, Some((_, credential))) = (holds, others.next()) {
                work.spend(names.size(credential.field()))?;
                holds = credential.holds(names);
            }
            if holds {
                matching.push(number);
            }
        }
        Ok(matching)
    }

    fn find_address(&self, address: IpAddr, found: &mut Vec<RuleIndex>) {
        for (_, prefix) in self.prefixes.iter().filter(|(bits, _)| *bits == width(address)) {
            let network = masked(address, *prefix);
            let rules = network.and_then(|network| self.addresses.find(&block_key(network, *prefix)));
            found.extend(rules.into_iter().flatten());
        }
    }
}

/// What a credential looks at and for, as one text.
fn wanted(credential: &Credential) -> Box<str> {
    [credential.field().as_str(), credential.must_match()].join("=").into()
}

/// A block as a key as wide as a digest, which it never meets.
fn block_key(network: IpAddr, prefix: u8) -> Digest {
    let mut key = [0; 32];
    let (width, octets) = match network {
        IpAddr::V4(v4) => (4, v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => (16, v6.octets()),
    };
    (key[0], key[1]) = (width, prefix);
    key[2..18].copy_from_slice(&octets);
    key
}

/// How little a credential narrows: fewer literal characters are wilder.
fn wildness(credential: &Credential) -> usize {
    let literal = credential.must_match().chars().filter(|c| !matches!(c, '*' | '?')).count();
    usize::MAX - literal
}
