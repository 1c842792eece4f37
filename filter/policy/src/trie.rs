//! Patterns in a tree, label by label: finding those that match a value does not visit those that do not.

use crate::index::{TextIndex, Texts, sorted};
use crate::pattern::{Glob, Label, Pattern, Separator};
use crate::work::{TooCostly, Work};

/// Patterns of one field, each with a number.
///
/// The labels of DNS-like names are walked from the last one, the more selective end. In a node, literal labels are
/// found by look-up, and globs by an anchor, a literal part that every match must have: its prefix, else its suffix, else
/// the first characters of its longest part between two stars. So ten thousand labels `node-17-*` or `*-17-*` in one place
/// cost as much as a few; those that share an anchor are tried one by one, and [`Work`] bounds that.
#[derive(Clone, Debug)]
pub(crate) struct Trie {
    separator: Separator,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: Texts,
    globs: Option<Box<Globs>>,
    /// Patterns that end here.
    patterns: Vec<u32>,
}

type NodeIndex = u32;

const ROOT: NodeIndex = 0;

impl Trie {
    pub(crate) fn new(separator: Separator) -> Self {
        Self { separator, nodes: vec![Node::default()] }
    }

    pub(crate) fn insert(&mut self, pattern: &Pattern, number: u32) {
        let mut node = ROOT;
        let count = pattern.labels().len();
        for position in 0..count {
            let forward = self.separator == Separator::Slash;
            node = self.child(node, &pattern.labels()[if forward { position } else { count - 1 - position }]);
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
    pub(crate) fn find(&self, value: &str, found: &mut Vec<u32>, work: &mut Work) -> Result<(), TooCostly> {
        if self.nodes.len() == 1 {
            return Ok(());
        }
        let labels: Vec<&str> = match self.separator {
            Separator::Dot => value.rsplit('.').collect(),
            Separator::Slash => value.split('/').collect(),
        };
        let mut open = vec![(ROOT, 0)];
        while let Some((index, depth)) = open.pop() {
            let node = &self.nodes[index as usize];
            let Some(label) = labels.get(depth) else {
                work.spend(node.patterns.len())?;
                found.extend(&node.patterns);
                continue;
            };
            work.spend(1 + label.len())?;
            if let Some(child) = node.literals.get(*label) {
                open.push((*child, depth + 1));
            }
            if let Some(globs) = &node.globs {
                globs.matching(label, work, |child| open.push((child, depth + 1)))?;
            }
        }
        Ok(())
    }
}

/// The globs of one node, by anchor.
#[derive(Clone, Debug, Default)]
struct Globs {
    children: Texts,
    by_prefix: Anchored,
    by_suffix: Anchored,
    by_infix: Anchored,
}

/// Globs by a literal part of theirs.
#[derive(Clone, Debug, Default)]
struct Anchored {
    globs: TextIndex<Vec<(Glob, NodeIndex)>>,
    /// Longest anchor, in bytes.
    longest: usize,
}

/// Longest anchor between two stars, in characters: every part of a label up to this length is looked up.
const INFIX: usize = 4;

impl Globs {
    fn child(&mut self, glob: &Glob, next: NodeIndex) -> NodeIndex {
        let child = *self.children.entry(glob.text().into()).or_insert(next);
        if child == next {
            let (prefix, suffix) = (glob.prefix(), glob.suffix());
            let infix = glob.infix();
            let infix = infix.char_indices().nth(INFIX).map_or(infix, |(end, _)| &infix[..end]);
            let (anchored, anchor) = match (prefix, suffix) {
                ("", "") => (&mut self.by_infix, infix),
                ("", suffix) => (&mut self.by_suffix, suffix),
                (prefix, _) => (&mut self.by_prefix, prefix),
            };
            anchored.longest = anchored.longest.max(anchor.len());
            anchored.globs.entry(anchor.into(), Vec::new).push((glob.clone(), next));
        }
        child
    }

    fn matching(
        &self,
        label: &str,
        work: &mut Work,
        mut matched: impl FnMut(NodeIndex),
    ) -> Result<(), TooCostly> {
        let ends = || (0..=label.len()).filter(|end| label.is_char_boundary(*end));
        for end in ends().take_while(|end| *end <= self.by_prefix.longest) {
            self.by_prefix.matching(&label[..end], label, work, &mut matched)?;
        }
        for start in ends().rev().take_while(|start| label.len() - start <= self.by_suffix.longest) {
            self.by_suffix.matching(&label[start..], label, work, &mut matched)?;
        }
        if self.by_infix.globs.is_empty() {
            return Ok(());
        }
        self.by_infix.matching("", label, work, &mut matched)?;
        let mut found = Vec::new();
        for start in ends() {
            for end in
                ends_within(label, start).take(INFIX).filter(|end| end - start <= self.by_infix.longest)
            {
                work.spend(1)?;
                found.extend(self.by_infix.globs.place(&label[start..end]));
            }
        }
        // A part that occurs twice stands for the same globs.
        for place in sorted(found) {
            self.by_infix.matching_at(place, label, work, &mut matched)?;
        }
        Ok(())
    }
}

/// The ends of the first, second, ... character after `start`.
fn ends_within(label: &str, start: usize) -> impl Iterator<Item = usize> {
    label[start..].char_indices().map(move |(at, character)| start + at + character.len_utf8())
}

impl Anchored {
    fn matching(
        &self,
        anchor: &str,
        label: &str,
        work: &mut Work,
        matched: &mut impl FnMut(NodeIndex),
    ) -> Result<(), TooCostly> {
        work.spend(1)?;
        let place = self.globs.place(anchor);
        place.map_or(Ok(()), |place| self.matching_at(place, label, work, matched))
    }

    /// The globs of the anchor at `place`.
    fn matching_at(
        &self,
        place: u32,
        label: &str,
        work: &mut Work,
        matched: &mut impl FnMut(NodeIndex),
    ) -> Result<(), TooCostly> {
        for (glob, child) in self.globs.at(place) {
            work.spend(glob.cost(label))?;
            if glob.matches(label) {
                matched(*child);
            }
        }
        Ok(())
    }
}
