//! Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Families of samples, written in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: &'static str,
    help: &'static str,
    /// By labels, as written.
    samples: BTreeMap<String, f64>,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// What only grows; `name` ends in `_total`. Equal labels are summed.
    pub(super) fn counter(&mut self, name: &str, help: &'static str, labels: Labels<'_>, value: u64) {
        self.add(name, ("counter", help), labels, value as f64);
    }

    /// What goes up and down. Equal labels are summed.
    pub(super) fn gauge(&mut self, name: &str, help: &'static str, labels: Labels<'_>, value: f64) {
        self.add(name, ("gauge", help), labels, value);
    }

    fn add(
        &mut self,
        name: &str,
        (kind, help): (&'static str, &'static str),
        labels: Labels<'_>,
        value: f64,
    ) {
        let family = self.families.entry(name.to_owned());
        let family = family.or_insert_with(|| Family { kind, help, samples: BTreeMap::new() });
        *family.samples.entry(written(labels)).or_default() += value;
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, Family { kind, help, samples }) in &self.families {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

fn written(labels: Labels<'_>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_grouped_summed_and_escaped() {
        let mut exposition = Exposition::default();
        exposition.counter("b_total", "B.", &[("path", "a\"b\\c\nd")], 1);
        exposition.gauge("a", "A.", &[], 0.5);
        exposition.counter("b_total", "B.", &[("path", "x"), ("more", "y")], 2);
        exposition.counter("b_total", "B.", &[("path", "x"), ("more", "y")], 3);
        assert_eq!(
            exposition.text(),
            "# HELP a A.\n# TYPE a gauge\na 0.5\n\
             # HELP b_total B.\n# TYPE b_total counter\n\
             b_total{path=\"a\\\"b\\\\c\\nd\"} 1\nb_total{path=\"x\",more=\"y\"} 5\n"
        );
    }
}
