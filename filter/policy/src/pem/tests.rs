use super::*;

/// DER of nothing: a SEQUENCE with bytes that give the base64 every character.
fn der(seed: u8) -> Vec<u8> {
    let content: Vec<u8> = (0..190u8).map(|byte| byte.wrapping_mul(37).wrapping_add(seed)).collect();
    [&[0x30, 0x81, 190][..], &content].concat()
}

fn section(label: &str, seed: u8) -> String {
    let base64 = BASE64.encode(&der(seed));
    let lines = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII"));
    let body: Vec<&str> = lines.collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"))
}

fn certificate(seed: u8) -> String {
    section("CERTIFICATE", seed)
}

/// The seeds of the certificates that are read.
fn read_certificates(text: &[u8]) -> Result<Vec<u8>, PemError> {
    let found = read(text, Wanted::Certificates)?;
    found.iter().map(|section| section.der().map(|der| der[3])).collect()
}

fn refused(text: impl AsRef<[u8]>, wanted: Wanted) -> String {
    let text = text.as_ref();
    match read(text, wanted) {
        Ok(found) => panic!("must be refused: {found:?}\n{}", String::from_utf8_lossy(text)),
        Err(error) => error.in_file(std::path::Path::new("FILE")),
    }
}

/// openssl/openssl#6281 (byte order mark), zenhack/simp_le#149, linkerd/linkerd#1772, debops/debops#1424 (glued).
#[test]
fn what_has_one_meaning_is_read() {
    let (one, two) = (certificate(1), certificate(2));
    let trimmed = one.trim_end();
    let spaces = |text: &str| text.replace('\n', "  \t\n");
    for (what, text) in [
        ("plain", format!("{one}{two}")),
        ("a byte order mark", format!("\u{feff}{one}{two}")),
        ("a byte order mark before each", format!("\u{feff}{one}\u{feff}{two}")),
        ("a byte order mark where files were glued", format!("\u{feff}{trimmed}\u{feff}{two}")),
        ("CR LF", format!("{one}{two}").replace('\n', "\r\n")),
        ("CR", format!("{one}{two}").replace('\n', "\r")),
        ("mixed line ends", format!("{}{two}", one.replace('\n', "\r\n"))),
        ("CR CR LF", format!("{one}{two}").replace('\n', "\r\r\n")),
        ("glued without a line end", format!("{trimmed}{two}")),
        ("glued by a space", format!("{trimmed} {two}")),
        ("no line end at the end", format!("{one}{}", two.trim_end())),
        ("white space at line ends", spaces(&format!("{one}{two}"))),
        ("empty lines", format!("\n\n{one}\n\n{two}\n\n").replace("-----\n", "-----\n\n")),
        ("one line each", format!("{}\n{}", trimmed.replace('\n', ""), two.replace('\n', " "))),
        ("one line", trimmed.replace('\n', "") + &two.replace('\n', "")),
        ("OpenSSL's old label", format!("{}{two}", one.replace("CERTIFICATE", "X509 CERTIFICATE"))),
        (
            "text and attributes",
            format!(
                "# Bundle - of two\nBag Attributes\n    localKeyID: 01 00\n    friendlyName: a\nsubject=CN = é\n\n\
                 issuer=/CN=x\n{one}# SHA256 {}\nCertificate:\n    Data:\n        Version: 3 (0x2)\n{two}\u{1a}",
                "0123456789abcdef".repeat(4)
            ),
        ),
    ] {
        assert_eq!(read_certificates(text.as_bytes()), Ok(vec![1, 2]), "{what}: {text}");
    }
    let latin1 = [b"# Caf\xe9\n", one.as_bytes(), two.as_bytes()].concat();
    assert_eq!(read_certificates(&latin1), Ok(vec![1, 2]));
}

#[test]
fn lines_are_counted_with_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let text = format!("a\n\n{}text\n{}", certificate(1), certificate(2)).replace('\n', end);
        let found = read(text.as_bytes(), Wanted::Certificates).expect("two");
        assert_eq!(found.iter().map(Section::line).collect::<Vec<_>>(), [3, 11], "{end:?}");
    }
}

/// A case: what is in the file, its text, and what is said about `FILE`.
macro_rules! refused {
    ($($name:ident: $text:expr => $message:literal;)*) => {
        $(#[test]
        fn $name() {
            let (one, two) = (certificate(1), certificate(2));
            let text: &dyn Fn(&str, &str) -> String = &$text;
            assert_eq!(refused(text(&one, &two), Wanted::Certificates), $message);
        })*
    };
}

const ALMOST: &str = "is almost a BEGIN or END line; such a line is five hyphens, BEGIN or END in capital letters, \
                      a label, five hyphens, and has nothing before it";

refused! {
    nothing_but_white_space: |_, _| " \r\n\t\n".to_owned() => "`FILE` is empty; write its content first";
    text_only: |_, _| "<html>Please log in</html>\n".to_owned() =>
        "`FILE` has no certificate; it needs a `BEGIN CERTIFICATE` section";
    a_begin_without_its_end: |one, two| format!("{}{two}", one.replace("-----END CERTIFICATE-----\n", "")) =>
        "`FILE:1` begins a section that has no END; the file was cut, so copy it again";
    a_last_begin_without_its_end: |one, two| format!("{one}{}", &two[..100]) =>
        "`FILE:8` begins a section that has no END; the file was cut, so copy it again";
    an_end_without_its_begin: |one, _| format!("{one}text\n-----END CERTIFICATE-----\n") =>
        "`FILE:9` ends a section that has no BEGIN; copy the file again";
    a_body_without_its_begin: |one, two| format!("{one}{}", two.replace("-----BEGIN CERTIFICATE-----\n", "")) =>
        "`FILE:8` has base64 outside of a section; put the BEGIN line back before it";
    another_label_at_the_end: |one, _| one.replace("END CERTIFICATE", "END X509 CERTIFICATE") =>
        "`FILE:7` ends a section with another label than it began with; copy the file again";
    characters_that_base64_does_not_have: |one, two| format!("{one}{}", two.replacen("\nM", "\n*", 1)) =>
        "`FILE:9` has a character that base64 does not have; copy the file again";
    text_after_padding: |one, _| one.replace("\n-----END", "\nAAAA\n-----END") =>
        "`FILE:7` goes on after the `=` that ends base64; two sections were mixed, so copy the file again";
    missing_characters: |one, two| format!("{one}{}", two.replacen("\nM", "\n", 1)) =>
        "`FILE:8` begins a section whose base64 is incomplete; copy the file again";
    an_empty_section: |one, _| format!("{one}-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n") =>
        "`FILE:8` begins an empty section; remove it, or copy the file again";
    a_header: |one, _| one.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1) =>
        "`FILE:2` has a header inside of a section; remove the header, or copy the file again";
    text_after_an_end: |one, two| format!("{} # the first\n{two}", one.trim_end()) =>
        "`FILE:7` has text after an END; put the text on a line of its own";
    line_ends_as_json_writes_them: |one, _| one.replace('\n', "\\n") =>
        "`FILE:1` has `\\n` in place of line ends; write line ends: printf %b \"$TEXT\" > FILE";
    pem_in_base64: |one, _| BASE64.encode(one.as_bytes()) =>
        "`FILE:1` is PEM in base64, as in the `data` of a Secret; decode it: base64 -d FILE > GOOD";
    a_trusted_certificate: |one, two| format!("{one}{}", two.replace("CERTIFICATE", "TRUSTED CERTIFICATE")) =>
        "`FILE:8` is a TRUSTED CERTIFICATE of OpenSSL where only certificates are expected; its trust settings would not be obeyed; write it without them: openssl x509 -in FILE -out GOOD";
    a_revocation_list: |one, _| format!("{one}{}", section("X509 CRL", 3)) =>
        "`FILE:8` is a revocation list where only certificates are expected; name it in `files.crls`";
    a_signing_request: |one, _| format!("{one}{}", section("CERTIFICATE REQUEST", 3)) =>
        "`FILE:8` is a certificate signing request where only certificates are expected; put the certificate there that the authority issued for it";
    a_pkcs7_container: |_, _| section("PKCS7", 3) =>
        "`FILE:1` is a PKCS #7 container where only certificates are expected; take the certificates out: openssl pkcs7 -print_certs -in FILE -out GOOD";
    a_private_key: |one, _| format!("{one}{}", section("EC PRIVATE KEY", 3)) =>
        "`FILE:8` is a private key where only certificates are expected; such a file is not guarded as a key is; keep only its certificates: openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out GOOD";
    parameters: |one, _| format!("{one}{}", section("DH PARAMETERS", 3)) =>
        "`FILE:8` is a set of parameters where only certificates are expected; remove the section";
    a_public_key: |one, _| format!("{one}{}", section("PUBLIC KEY", 3)) =>
        "`FILE:8` is a public key where only certificates are expected; remove the section";
    a_misspelt_label: |one, two| format!("{one}{}", two.replace("CERTIFICATE", "CERTIFCATE")) =>
        "`FILE:8` is a section with an unknown label where only certificates are expected; remove the section, or correct its label";
}

/// Whatever somebody made of the marks by hand or with a word processor: the section is not lost.
#[test]
fn lines_that_were_meant_to_be_marks_are_refused() {
    let (one, two) = (certificate(1), certificate(2));
    let en_dash_in_windows_1252 = |text: &str| -> Vec<u8> {
        text.replace("-----", "\u{1}")
            .bytes()
            .flat_map(|byte| if byte == 1 { vec![0x96; 5] } else { vec![byte] })
            .collect()
    };
    let changed: Vec<Vec<u8>> = vec![
        two.replace("-----", "----").into(),
        two.replace("-----", "------").into(),
        two.replacen("-----", "----", 1).into(),
        two.replacen("-----", "------", 1).into(),
        two.replacen("E-----", "E----", 1).into(),
        two.replacen("E-----", "E------", 1).into(),
        two.replace("-----", "–––––").into(),
        two.replace("-----", "—–-").into(),
        two.replace("-----", "−−−−−").into(),
        en_dash_in_windows_1252(&two),
        two.replace("BEGIN", "begin").into(),
        two.replace("BEGIN CERTIFICATE", "Begin Certificate").into(),
        two.replace("BEGIN CERTIFICATE", "BEGIN  CERTIFICATE").into(),
        two.replace("BEGIN ", "BEGIN\t").into(),
        two.replacen("-----", "--- --", 1).into(),
        format!("  {two}").into(),
        format!("\t{two}").into(),
        format!("\u{a0}{two}").into(),
        format!("# {two}").into(),
        format!("CN=a {two}").into(),
        two.replace("-----BEGIN", "----- BEGIN").into(),
    ];
    for text in changed {
        let file = [one.as_bytes(), &text].concat();
        let error = refused(&file, Wanted::Certificates);
        assert_eq!(error, format!("`FILE:8` {ALMOST}"), "{}", String::from_utf8_lossy(&file));
        let error = refused(&text, Wanted::Certificates);
        assert_eq!(error, format!("`FILE:1` {ALMOST}"), "{}", String::from_utf8_lossy(&text));
    }
    for text in [
        two.replace("-----END", "----END"),
        two.replace("-----END", "–––––END"),
        two.replace("END", "end"),
        two.replace("-----END CERTIFICATE-----", "-----END CERTIFICATE----"),
    ] {
        let error = refused(format!("{one}{text}"), Wanted::Certificates);
        assert!(error.ends_with(&format!("` {ALMOST}")) && error.starts_with("`FILE:14"), "{error}\n{text}");
    }
}

#[test]
fn other_encodings_are_named_with_the_command_that_helps() {
    let one = certificate(1);
    let utf16 = |text: &str, to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
    let utf16s = [
        utf16(&format!("\u{feff}{one}"), u16::to_le_bytes),
        utf16(&format!("\u{feff}{one}"), u16::to_be_bytes),
        utf16(&one, u16::to_le_bytes),
        utf16(&one, u16::to_be_bytes),
    ];
    for text in utf16s {
        assert_eq!(
            refused(&text, Wanted::Certificates),
            "`FILE` is UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > GOOD"
        );
        // `>>` of PowerShell 5 appends UTF-16 to whatever there is.
        assert_eq!(
            refused([one.as_bytes(), &text].concat(), Wanted::Certificates),
            "`FILE:8` is binary or UTF-16 where PEM is expected; convert it to PEM in UTF-8"
        );
    }
    for (wanted, tool) in
        [(Wanted::Certificates, "x509"), (Wanted::RevocationLists, "crl"), (Wanted::PrivateKey, "pkey")]
    {
        let expected =
            format!("`FILE` is DER; convert it to PEM: openssl {tool} -inform DER -in FILE -out GOOD");
        assert_eq!(refused(der(1), wanted), expected);
    }
    let store = [0x30, 0x05, 0x02, 0x01, 0x03, 0x30, 0x00];
    assert_eq!(
        refused(store, Wanted::Certificates),
        "`FILE` is a PKCS #12 store; take the certificate out: openssl pkcs12 -in FILE -nokeys -out GOOD"
    );
    assert_eq!(
        refused(store, Wanted::PrivateKey),
        "`FILE` is a PKCS #12 store; take the private key out: openssl pkcs12 -in FILE -nocerts -noenc -out GOOD"
    );
    let appended = [one.as_bytes(), &[0x30, 0x03, 0x02, 0x01, 0x00]].concat();
    assert!(refused(appended, Wanted::Certificates).starts_with("`FILE:8` is binary"));
    assert!(refused(b"\xfe\xed\xfe\xed\0\0\0\x02", Wanted::Certificates).starts_with("`FILE` is binary"));
}

#[test]
fn a_key_file_has_one_key_its_curve_and_certificates() {
    let labels = |text: &str| -> Result<Vec<Label>, PemError> {
        let found = read(text.as_bytes(), Wanted::PrivateKey)?;
        Ok(found.iter().map(Section::label).collect())
    };
    let key = section("EC PRIVATE KEY", 3);
    // As `openssl ecparam -genkey` writes it.
    let with_curve =
        format!("{}{key}", "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n");
    assert_eq!(labels(&with_curve), Ok(vec![Label::EcPrivateKey]));
    let combined = format!("{}{}", section("PRIVATE KEY", 3), certificate(1));
    assert_eq!(labels(&combined), Ok(vec![Label::PrivateKey, Label::Certificate]));
    assert_eq!(labels(&section("RSA PRIVATE KEY", 3)), Ok(vec![Label::RsaPrivateKey]));
    for (text, expected) in [
        (key.clone() + &key, "`FILE:8` is a second private key; leave the one that is meant"),
        (certificate(1), "`FILE` has no private key; it needs a `BEGIN PRIVATE KEY` section"),
        (
            section("ENCRYPTED PRIVATE KEY", 3),
            "`FILE:1` is an encrypted private key; decrypt it with `openssl pkey -in KEY -out PLAIN-KEY`",
        ),
        (
            key.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n", 1),
            "`FILE:1` is an encrypted private key; decrypt it with `openssl pkey -in KEY -out PLAIN-KEY`",
        ),
        (
            section("OPENSSH PRIVATE KEY", 3),
            "`FILE:1` is a private key of a kind that TLS does not use where only a private key and its certificates are expected; TLS needs an ECDSA, Ed25519 or RSA key in PKCS #8; for one of OpenSSH: ssh-keygen -p -m PKCS8 -f KEY",
        ),
        (
            format!("{}{key}", section("DH PARAMETERS", 3)),
            "`FILE:1` is a set of parameters where only a private key and its certificates are expected; keep only the key: openssl pkey -in FILE -out GOOD",
        ),
    ] {
        assert_eq!(refused(text, Wanted::PrivateKey), expected);
    }
}

#[test]
fn a_file_of_revocation_lists_has_nothing_else() {
    let list = section("X509 CRL", 3);
    assert_eq!(read(list.repeat(2).as_bytes(), Wanted::RevocationLists).expect("two").len(), 2);
    assert_eq!(
        refused(format!("{list}{}", certificate(1)), Wanted::RevocationLists),
        "`FILE:8` is a certificate where only revocation lists are expected; name authorities in `files.ca-certificates`"
    );
    assert_eq!(
        refused("text", Wanted::RevocationLists),
        "`FILE` has no revocation list; it needs a `BEGIN X509 CRL` section"
    );
}

/// Cut, with a byte changed, or with a piece of another one inside: a file is read whole or refused, and its content, which may
/// be a key, is in no error.
#[test]
fn a_damaged_file_never_loses_a_section_silently_or_shows_its_content() {
    let text = format!("{}{}{}", certificate(1), certificate(2), certificate(3));
    let mut damaged: Vec<Vec<u8>> = (0..text.len()).map(|end| text.as_bytes()[..end].to_vec()).collect();
    for index in 0..text.len() {
        for byte in *b"\0\n- =A\x96" {
            let mut changed = text.clone().into_bytes();
            changed[index] = byte;
            damaged.push(changed);
        }
        damaged.push([&text.as_bytes()[..index], &text.as_bytes()[index + 1..]].concat());
        damaged.push(
            [&text.as_bytes()[..index], b"-----BEGIN CERTIFICATE-----", &text.as_bytes()[index..]].concat(),
        );
    }
    let body: Vec<&str> = text.lines().filter(|line| line.len() == 64).collect();
    for file in damaged {
        match read(&file, Wanted::Certificates) {
            Ok(found) => {
                // Only what is cut between sections has fewer of them.
                let begins = String::from_utf8_lossy(&file).matches("-----BEGIN CERTIFICATE-----").count();
                assert_eq!(found.len(), begins, "{}", String::from_utf8_lossy(&file));
            }
            Err(error) => {
                let error = format!("{error} {error:?} {}", error.in_file(std::path::Path::new("x")));
                assert!(!body.iter().any(|line| error.contains(&line[..16])), "{error}");
            }
        }
    }
}
