//! A distinguished name as RFC 2253 text, the form Envoy prints. For people: rules read the certificate itself.

use std::fmt::Write as _;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The last RDN first, joined by commas; attributes of one RDN joined by plus signs.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter().collect();
    let mut text = String::new();
    for rdn in rdns.iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        for (index, attribute) in rdn.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type().to_id_string();
    let Some(short) = short_name(&kind) else { return push_unnamed(text, &kind, attribute) };
    let Ok(value) = attribute.as_str() else { return push_unnamed(text, short, attribute) };
    text.push_str(short);
    text.push('=');
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        push_escaped(text, character, index == 0, index == last);
    }
}

/// RFC 2253 section 2.4: a value without a text form is a number sign and the hex of its encoding.
fn push_unnamed(text: &mut String, kind: &str, attribute: &AttributeTypeAndValue<'_>) {
    text.push_str(kind);
    text.push_str("=#");
    for byte in attribute.attr_value().data {
        let _ = write!(text, "{byte:02X}");
    }
}

fn push_escaped(text: &mut String, character: char, first: bool, last: bool) {
    match character {
        ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.extend(['\\', character]),
        ' ' if first || last => text.push_str("\\ "),
        '#' if first => text.push_str("\\#"),
        ' '..='~' => text.push(character),
        other => {
            let mut buffer = [0; 4];
            for byte in other.encode_utf8(&mut buffer).bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

/// The names OpenSSL prints.
fn short_name(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}
