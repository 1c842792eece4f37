//! Patterns in a tree, label by label: finding those that match a value does not visit those that do not.

use std::collections::{BTreeMap, BTreeSet};

use crate::pattern::{Glob, Label, Pattern, Separator};

/// Patterns of one field, each with a number.
///
/// The labels of DNS-like names are walked from the last one, the more selective end. In a node, literal labels are
/// found by look-up; globs by their literal prefix (or suffix, where they have no prefix), so that ten thousand labels
/// `node-17-*` in one place cost as much as a few.
#[derive(Clone, Debug)]
pub(crate) struct Trie {
    separator: Separator,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: BTreeMap<Box<str>, NodeIndex>,
    globs: Option<Box<Globs>>,
    /// Patterns that end here.
    patterns: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Globs {
    by_prefix: BTreeMap<Box<str>, Vec<(Glob, NodeIndex)>>,
    by_suffix: BTreeMap<Box<str>, Vec<(Glob, NodeIndex)>>,
    /// Longest key of each, in bytes.
    longest_prefix: usize,
    longest_suffix: usize,
}

type NodeIndex = u32;

const ROOT: NodeIndex = 0;

impl Trie {
    pub(crate) fn new(separator: Separator) -> Self {
        Self { separator, nodes: vec![Node::default()] }
    }

    pub(crate) fn insert(&mut self, pattern: &Pattern, number: u32) {
        let mut node = ROOT;
        let forward = self.separator == Separator::Slash;
        let count = pattern.labels().len();
        for position in 0..count {
            let label = &pattern.labels()[if forward { position } else { count - 1 - position }];
            node = self.child(node, label);
        }
        self.nodes[node as usize].patterns.push(number);
    }

    fn child(&mut self, parent: NodeIndex, label: &Label) -> NodeIndex {
        let next = NodeIndex::try_from(self.nodes.len()).expect("the policy's size is bounded");
        let node = &mut self.nodes[parent as usize];
        let child = match label {
            Label::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
            Label::Glob(glob) => node.globs.get_or_insert_default().child(glob, next),
        };
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Adds to `found` the numbers of all patterns that match `value`.
    pub(crate) fn find(&self, value: &str, found: &mut BTreeSet<u32>) {
        if self.nodes.len() == 1 {
            return;
        }
        let labels: Vec<&str> = match self.separator {
            Separator::Dot => value.rsplit('.').collect(),
            Separator::Slash => value.split('/').collect(),
        };
        let mut open = vec![(ROOT, 0)];
        while let Some((index, depth)) = open.pop() {
            let node = &self.nodes[index as usize];
            let Some(label) = labels.get(depth) else {
                found.extend(&node.patterns);
                continue;
            };
            if let Some(child) = node.literals.get(*label) {
                open.push((*child, depth + 1));
            }
            if let Some(globs) = &node.globs {
                globs.matching(label, |child| open.push((child, depth + 1)));
            }
        }
    }
}

impl Globs {
    fn child(&mut self, glob: &Glob, next: NodeIndex) -> NodeIndex {
        let (prefix, suffix) = (glob.prefix(), glob.suffix());
        let same = if prefix.is_empty() {
            self.longest_suffix = self.longest_suffix.max(suffix.len());
            self.by_suffix.entry(suffix.into()).or_default()
        } else {
            self.longest_prefix = self.longest_prefix.max(prefix.len());
            self.by_prefix.entry(prefix.into()).or_default()
        };
        match same.iter().find(|(known, _)| known == glob) {
            Some((_, child)) => *child,
            None => {
                same.push((glob.clone(), next));
                next
            }
        }
    }

    fn matching(&self, label: &str, mut matched: impl FnMut(NodeIndex)) {
        let ends = (0..=label.len()).filter(|end| label.is_char_boundary(*end));
        let prefixes = ends.clone().take_while(|end| *end <= self.longest_prefix).map(|end| &label[..end]);
        let suffixes =
            ends.rev().take_while(|end| label.len() - end <= self.longest_suffix).map(|end| &label[end..]);
        let by_prefix = prefixes.filter_map(|prefix| self.by_prefix.get(prefix));
        let by_suffix = suffixes.filter_map(|suffix| self.by_suffix.get(suffix));
        for (glob, child) in by_prefix.chain(by_suffix).flatten() {
            if glob.matches(label) {
                matched(*child);
            }
        }
    }
}
