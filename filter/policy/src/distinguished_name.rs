//! Distinguished names as text, the way Envoy writes them into `x-forwarded-client-cert`.

use crate::der::{Element, elements};

/// The text of a Name (its DER) by RFC 2253: `CN=c,OU=a\, b`. Byte for byte what BoringSSL's `X509_NAME_print_ex` with
/// `XN_FLAG_RFC2253` gives, which Envoy calls.
///
/// The text is printable ASCII, and every `"` and `\` in it is escaped by `\`: its holder cannot end a quoted string.
pub fn rfc2253(name: &[u8]) -> String {
    let names = match elements(name).as_deref() {
        Some([names]) => names.children(SEQUENCE).unwrap_or_default(),
        _ => Vec::new(),
    };
    let mut text = String::new();
    // Reversed, also within a relative name of several attributes.
    for relative in names.iter().rev() {
        let mut separator = ",";
        for attribute in relative.children(SET).unwrap_or_default().iter().rev() {
            if !text.is_empty() {
                text += separator;
            }
            separator = "+";
            push_attribute(&mut text, attribute.children(SEQUENCE).as_deref().unwrap_or_default());
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &[Element<'_>]) {
    let [kind, value] = attribute else { return };
    let name = short_name(kind.content);
    match name {
        Some(name) => *text += name,
        None => push_dotted(text, kind.content),
    }
    text.push('=');
    // The text of an attribute that is not known could mean anything, so its DER is shown.
    match name.and_then(|_| characters(value)) {
        Some(characters) => push_escaped(text, &characters),
        None => push_hex(text, value.raw),
    }
}

/// `None` of a type that is no string, and of bytes that are no characters of it.
fn characters(value: &Element<'_>) -> Option<Vec<char>> {
    let bytes = value.content;
    let wide = |size: usize| {
        let units =
            bytes.chunks(size).map(|unit| unit.iter().fold(0, |code, byte| code << 8 | u32::from(*byte)));
        units.map(char::from_u32).collect::<Option<Vec<_>>>().filter(|_| bytes.len().is_multiple_of(size))
    };
    match value.identifier {
        UTF8 => std::str::from_utf8(bytes).ok().map(|text| text.chars().collect()),
        // BoringSSL reads all of these as Latin-1.
        NUMERIC | PRINTABLE | TELETEX | IA5 | UTC_TIME | GENERALIZED_TIME | VISIBLE => {
            Some(bytes.iter().map(|byte| char::from(*byte)).collect())
        }
        BMP => wide(2),
        UNIVERSAL => wide(4),
        _ => None,
    }
}

fn push_escaped(text: &mut String, characters: &[char]) {
    for (index, character) in characters.iter().enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == characters.len());
        match character {
            '"' | '\\' | ',' | '+' | '<' | '>' | ';' => text.extend(['\\', *character]),
            ' ' if is_first || is_last => *text += "\\ ",
            '#' if is_first => *text += "\\#",
            ' '..='~' => text.push(*character),
            other => {
                for byte in other.encode_utf8(&mut [0; 4]).bytes() {
                    text.push('\\');
                    push_digits(text, byte);
                }
            }
        }
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    text.push('#');
    bytes.iter().for_each(|byte| push_digits(text, *byte));
}

fn push_digits(text: &mut String, byte: u8) {
    let digits = b"0123456789ABCDEF";
    text.extend([byte >> 4, byte & 15].map(|digit| char::from(digits[usize::from(digit)])));
}

/// The object identifier in numbers (ITU-T X.690, 8.19).
fn push_dotted(text: &mut String, oid: &[u8]) {
    let mut is_first = true;
    for arc in oid.split_inclusive(|byte| byte & 0x80 == 0) {
        let mut number =
            arc.iter().fold(0_u64, |number, byte| number.wrapping_shl(7) | u64::from(byte & 0x7f));
        if is_first {
            let root = (number / 40).min(2);
            *text += &root.to_string();
            number -= root * 40;
            is_first = false;
        }
        text.push('.');
        *text += &number.to_string();
    }
}

/// The name that BoringSSL has for an attribute type.
fn short_name(oid: &[u8]) -> Option<&'static str> {
    let (names, number) = match oid {
        // 2.5.4
        [0x55, 4, number] => (X520, number),
        // 1.2.840.113549.1.9
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, number] => (PKCS9, number),
        // 0.9.2342.19200300.100.1
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, number] => (PILOT, number),
        _ => return None,
    };
    names.split(',').nth(usize::from(*number)).filter(|name| !name.is_empty())
}

/// Attribute types of X.520, by the last number.
const X520: &str = ",,,CN,SN,serialNumber,C,L,ST,street,O,OU,title,description,searchGuide,businessCategory,\
postalAddress,postalCode,postOfficeBox,physicalDeliveryOfficeName,telephoneNumber,telexNumber,\
teletexTerminalIdentifier,facsimileTelephoneNumber,x121Address,internationaliSDNNumber,registeredAddress,\
destinationIndicator,preferredDeliveryMethod,presentationAddress,supportedApplicationContext,member,owner,\
roleOccupant,seeAlso,userPassword,userCertificate,cACertificate,authorityRevocationList,\
certificateRevocationList,crossCertificatePair,name,GN,initials,generationQualifier,x500UniqueIdentifier,\
dnQualifier,enhancedSearchGuide,protocolInformation,distinguishedName,uniqueMember,houseIdentifier,\
supportedAlgorithms,deltaRevocationList,dmdName,,,,,,,,,,,pseudonym,,,,,,,role";

/// Those of PKCS#9 (RFC 2985).
const PKCS9: &str = ",emailAddress,unstructuredName,contentType,messageDigest,signingTime,countersignature,\
challengePassword,unstructuredAddress,extendedCertificateAttributes";

/// Those of RFC 4524 and its forerunner RFC 1274.
const PILOT: &str = ",UID,textEncodedORAddress,mail,info,favouriteDrink,roomNumber,photo,userClass,host,manager,\
documentIdentifier,documentTitle,documentVersion,documentAuthor,documentLocation,,,,,homeTelephoneNumber,\
secretary,otherMailbox,lastModifiedTime,lastModifiedBy,DC,aRecord,pilotAttributeType27,mXRecord,nSRecord,\
sOARecord,cNAMERecord,,,,,,associatedDomain,associatedName,homePostalAddress,personalTitle,\
mobileTelephoneNumber,pagerTelephoneNumber,friendlyCountryName,,organizationalStatus,janetMailbox,\
mailPreferenceOption,buildingName,dSAQuality,singleLevelQuality,subtreeMinimumQuality,\
subtreeMaximumQuality,personalSignature,dITRedirect,audio,documentPublisher";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Types of strings, and of times, which BoringSSL prints too.
const UTF8: u8 = 0x0c;
const NUMERIC: u8 = 0x12;
const PRINTABLE: u8 = 0x13;
const TELETEX: u8 = 0x14;
const IA5: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VISIBLE: u8 = 0x1a;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
    }

    type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

    fn name(relative: &[&[Attribute<'_>]]) -> Vec<u8> {
        let attribute =
            |(kind, tag, value): &Attribute<'_>| tlv(SEQUENCE, &[tlv(0x06, kind), tlv(*tag, value)].concat());
        let sets = relative.iter().map(|it| tlv(SET, &it.iter().flat_map(attribute).collect::<Vec<_>>()));
        tlv(SEQUENCE, &sets.flatten().collect::<Vec<_>>())
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const OU: &[u8] = &[0x55, 4, 11];

    /// What Envoy writes for these is compared by the suite `xfcc`.
    #[test]
    fn names_are_written_in_reverse_and_escaped() {
        for (relative, text) in [
            (&[][..], ""),
            (&[&[(CN, UTF8, &b"a"[..])][..], &[(OU, PRINTABLE, b"b")]], "OU=b,CN=a"),
            (&[&[(CN, UTF8, b"a"), (OU, UTF8, b"b")]], "OU=b+CN=a"),
            (&[&[(CN, UTF8, b" #a,\"\\;=+<> ")]], "CN=\\ #a\\,\\\"\\\\\\;=\\+\\<\\>\\ "),
            (&[&[(CN, UTF8, b"#a")]], "CN=\\#a"),
            (&[&[(CN, UTF8, b" ")]], "CN=\\ "),
            (&[&[(CN, UTF8, "å\n\u{7f}".as_bytes())]], "CN=\\C3\\A5\\0A\\7F"),
            (&[&[(CN, TELETEX, b"\xe5")]], "CN=\\C3\\A5"),
            (&[&[(CN, BMP, b"\0a\x20\xac")]], "CN=a\\E2\\82\\AC"),
            (&[&[(CN, UNIVERSAL, b"\0\x01\xf6\0")]], "CN=\\F0\\9F\\98\\80"),
            (&[&[(CN, BMP, b"\xd8\0")]], "CN=#1E02D800"),
            (&[&[(CN, UTF8, b"\xff")]], "CN=#0C01FF"),
            (&[&[(CN, 0x03, b"\0x")]], "CN=#03020078"),
            (&[&[(&[0x2a, 0x03, 0x04], UTF8, b"\"")]], "1.2.3.4=#0C0122"),
            (&[&[(&[0x88, 0x37, 0x81, 0x48], UTF8, b"")]], "2.999.200=#0C00"),
        ] {
            assert_eq!(rfc2253(&name(relative)), text);
        }
    }

    #[test]
    fn the_table_has_each_name_in_its_place() {
        for (number, name) in [
            (3, "CN"),
            (20, "telephoneNumber"),
            (46, "dnQualifier"),
            (54, "dmdName"),
            (65, "pseudonym"),
            (72, "role"),
        ] {
            assert_eq!(short_name(&[0x55, 4, number]), Some(name));
        }
        for number in [0, 2, 55, 64, 66, 71, 73, 255] {
            assert_eq!(short_name(&[0x55, 4, number]), None);
        }
        let pilot = |number| short_name(&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, number]);
        assert_eq!(
            [1, 25, 43, 44, 56, 57].map(pilot),
            [Some("UID"), Some("DC"), Some("friendlyCountryName"), None, Some("documentPublisher"), None,]
        );
    }
}
