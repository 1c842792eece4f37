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
    /// By labels, as written, and by position among those with the same labels.
    samples: BTreeMap<(String, usize), Sample>,
}

#[derive(Debug)]
struct Sample {
    suffix: &'static str,
    /// As written, `le` included.
    labels: String,
    value: f64,
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

    /// How often values were at most each of `bounds`, how many there were, and their sum. Equal labels are summed.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &'static str,
        labels: Labels<'_>,
        buckets: impl Iterator<Item = (u64, u64)>,
        (count, sum): (u64, u64),
    ) {
        let buckets = buckets.map(|(bound, count)| (bound.to_string(), count));
        let buckets = buckets
            .chain([("+Inf".to_owned(), count)])
            .map(|(bound, count)| ("_bucket", written(&[labels, &[("le", &bound)]].concat()), count));
        let totals = [("_sum", sum), ("_count", count)].map(|(suffix, it)| (suffix, written(labels), it));
        let family = self.family(name, ("histogram", help));
        for (position, (suffix, all_labels, value)) in buckets.chain(totals).enumerate() {
            family.add((written(labels), position), suffix, all_labels, value as f64);
        }
    }

    fn add(&mut self, name: &str, kind: (&'static str, &'static str), labels: Labels<'_>, value: f64) {
        let labels = written(labels);
        self.family(name, kind).add((labels.clone(), 0), "", labels, value);
    }

    fn family(&mut self, name: &str, (kind, help): (&'static str, &'static str)) -> &mut Family {
        let family = self.families.entry(name.to_owned());
        family.or_insert_with(|| Family { kind, help, samples: BTreeMap::new() })
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, Family { kind, help, samples }) in &self.families {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for Sample { suffix, labels, value } in samples.values() {
                let _ = writeln!(text, "{name}{suffix}{labels} {value}");
            }
        }
        text
    }
}

impl Family {
    fn add(&mut self, key: (String, usize), suffix: &'static str, labels: String, value: f64) {
        self.samples.entry(key).or_insert(Sample { suffix, labels, value: 0.0 }).value += value;
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
    fn a_histogram_has_its_buckets_in_order() {
        let mut exposition = Exposition::default();
        for _ in 0..2 {
            let buckets = [(5, 1), (10, 2)].into_iter();
            exposition.histogram("took_ns", "T.", &[("outcome", "allow")], buckets, (3, 40));
        }
        assert_eq!(
            exposition.text(),
            "# HELP took_ns T.\n# TYPE took_ns histogram\n\
             took_ns_bucket{outcome=\"allow\",le=\"5\"} 2\n\
             took_ns_bucket{outcome=\"allow\",le=\"10\"} 4\n\
             took_ns_bucket{outcome=\"allow\",le=\"+Inf\"} 6\n\
             took_ns_sum{outcome=\"allow\"} 80\ntook_ns_count{outcome=\"allow\"} 6\n"
        );
    }

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
