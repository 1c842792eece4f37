//! What is found in the text of a file: members that Envoy drops, documents that it does not read, templates.

use super::node::Place;
use super::{Report, Rule};

/// Checks the text of a file.
pub(super) fn check(report: &mut Report<'_>) {
    let file = report.file;
    for (line, text) in (1..).zip(file.text.lines()).filter(|(_, text)| !text.trim_start().starts_with('#')) {
        check_line(line, text, report);
    }
    for document in &file.documents {
        document.walk(&mut |node| {
            for (key, value) in node.repeated() {
                let key = key.escape_debug();
                let message = format!(
                    "`{key}` is here as snake_case and as camelCase, and Envoy takes one of them; remove one"
                );
                report.add(value.place, Rule::FieldRepeated, message);
            }
        });
        if !document.is_map() && !document.is_list() {
            report.add(
                document.place,
                Rule::NotLookedAt,
                "this is a text, not resources; give YAML or JSON that Envoy or Kubernetes reads",
            );
        }
    }
    if let Some(place) = file.unread {
        report.add(
            place,
            Rule::Documents,
            "Envoy reads the first document of a file, and no other; give each a file of its own",
        );
    }
    for (place, error) in &file.broken {
        let message = format!("this text cannot be read as YAML or JSON: {}", error.escape_debug());
        report.add(*place, Rule::NotLookedAt, message);
    }
}

fn check_line(line: u32, text: &str, report: &mut Report<'_>) {
    let at = |index: usize| {
        let column = u32::try_from(text[..index].chars().count() + 1).unwrap_or(u32::MAX);
        Place { line, column }
    };
    let tag = ["!ignore", "!<!ignore>"].iter().find_map(|tag| text.find(tag));
    if let Some(index) = tag.or(text.starts_with("%TAG").then_some(0)) {
        report.add(
            at(index),
            Rule::FieldIgnored,
            "Envoy drops what has the tag `!ignore`; remove the tag, or what has it",
        );
    }
    if let Some(index) = template(text) {
        report.add(
            at(index),
            Rule::Template,
            "a template, not what Envoy or Kubernetes gets; give its output (`helm template`)",
        );
    }
}

/// Where Go's templates begin, which Helm fills in.
fn template(line: &str) -> Option<usize> {
    let words =
        ["include", "template", "define", "if", "else", "end", "range", "with", "toYaml", "quote", "printf"];
    let starts = |text: &str| {
        let text = text.trim_start_matches('-').trim_start();
        let word = text.split(|it: char| !it.is_alphanumeric()).next().unwrap_or_default();
        text.starts_with(['.', '$']) || words.contains(&word)
    };
    line.match_indices("{{")
        .find(|(at, _)| starts(&line[at + 2..]) && line[*at..].contains("}}"))
        .map(|it| it.0)
}

/// Says that there is no filter, or that there is something of it which is not known.
pub(super) fn check_absence(report: &mut Report<'_>) {
    let words = ["peergate", "authorized-peers"];
    let traces = report.files.iter().find_map(|file| {
        let lines = (1..).zip(file.text.lines()).filter(|(_, text)| !text.trim_start().starts_with('#'));
        let mut hits = lines.filter_map(|(line, text)| {
            let at = words.iter().find_map(|word| text.find(word))?;
            let column = u32::try_from(text[..at].chars().count() + 1).unwrap_or(u32::MAX);
            Some(Place { line, column })
        });
        Some((file, hits.next()?))
    });
    match traces {
        Some((file, place)) => report.of(file).add(
            place,
            Rule::NoFilter,
            "peergate is named here, and in these files no filter of it is found; give the listener that has it, or the \
             `/config_dump` of the Envoy",
        ),
        None => report.add(
            Place { line: 1, column: 1 },
            Rule::NoFilter,
            "there is no filter of peergate here, so nobody is refused; name the files that have it",
        ),
    }
}
