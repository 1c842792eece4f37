//! OpenSSL makes authorities, certificates and lists here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A directory with files of OpenSSL.
pub(super) struct Workshop(TempDir);

/// What a list says.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) by: &'a str,
    /// Serial numbers in hexadecimal digits, each with `,REASON` or nothing.
    pub(super) revoked: &'a [&'a str],
    /// Lines of the section that issuingDistributionPoint names; no lines, no extension.
    pub(super) scope: &'a str,
    /// More lines of the extensions.
    pub(super) extensions: &'a str,
    /// In hours from now.
    pub(super) this_update: i64,
    /// In hours from now.
    pub(super) next_update: i64,
}

impl<'a> List<'a> {
    /// A list for all certificates, since an hour and for a day.
    pub(super) const fn by(by: &'a str, revoked: &'a [&'a str]) -> Self {
        Self { by, revoked, scope: "", extensions: "", this_update: -1, next_update: 24 }
    }

    pub(super) const fn scope(self, scope: &'a str) -> Self {
        Self { scope, ..self }
    }
}

impl Workshop {
    pub(super) fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new("openssl");
        command.current_dir(self.0.path()).args(line.split(' '));
        command.output().expect("openssl is there")
    }

    fn must(&self, line: &str) {
        let done = self.run(line);
        assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("written");
    }

    pub(super) fn key(&self, name: &str) {
        self.must(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
    }

    /// A certificate `name`.pem for `/CN=cn` and the key `name`.key, which may be there, signed by `issuer`.
    pub(super) fn certify(&self, name: &str, cn: &str, issuer: &str, serial: &str, extensions: &str) {
        if !self.path(&format!("{name}.key")).exists() {
            self.key(name);
        }
        self.write("extensions", extensions);
        self.must(&format!("req -new -key {name}.key -subj /CN={cn} -out request{}", self.strings(name)));
        let signer = match issuer == name {
            true => format!("-signkey {name}.key"),
            false => format!("-CA {issuer}.pem -CAkey {issuer}.key"),
        };
        let serial = format!("-set_serial 0x{serial} -days 30 -extfile extensions");
        self.must(&format!("x509 -req -in request {signer} {serial} -out {name}.pem"));
    }

    /// An authority.
    pub(super) fn authority(&self, name: &str, cn: &str, issuer: &str, serial: &str, extensions: &str) {
        let usage =
            if extensions.contains("keyUsage") { "" } else { "keyUsage=critical,keyCertSign,cRLSign\n" };
        let extensions =
            format!("basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n{usage}{extensions}");
        self.certify(name, cn, issuer, serial, &extensions);
    }

    /// The list as `name`.crl.
    pub(super) fn list(&self, name: &str, list: &List<'_>) {
        let entry = |entry: &&str| {
            let (serial, reason) =
                entry.split_once(',').map_or((*entry, ""), |(serial, reason)| (serial, reason));
            let comma = if reason.is_empty() { "" } else { "," };
            format!("R\t490101000000Z\t260101000000Z{comma}{reason}\t{serial}\tunknown\t/CN=x{serial}\n")
        };
        self.write("index", &list.revoked.iter().map(entry).collect::<String>());
        let point = if list.scope.is_empty() { "" } else { "issuingDistributionPoint=critical,@scope\n" };
        // Without extensions OpenSSL makes version 1.
        let extensions = match list.extensions {
            "none" => String::new(),
            more => format!("crl_extensions=list\n[list]\nauthorityKeyIdentifier=keyid\n{point}{more}\n"),
        };
        let scope = list.scope;
        self.write("ca.cnf", &format!("[ca]\ndefault_ca=it\n[it]\ndatabase=index\ndefault_md=sha256\n{extensions}[scope]\n{scope}\n[dn]\nCN=elsewhere\n"));
        let (from, until) = (moment(list.this_update), moment(list.next_update));
        let (by, times) = (list.by, format!("-crl_lastupdate {from} -crl_nextupdate {until}"));
        self.must(&format!(
            "ca -gencrl -config ca.cnf -cert {by}.pem -keyfile {by}.key {times} -out {name}.crl"
        ));
    }

    /// The flags of `openssl req` for the names of `name`: a file `name`.strings has a string_mask.
    fn strings(&self, name: &str) -> String {
        let Ok(mask) = fs::read_to_string(self.path(&format!("{name}.strings"))) else {
            return String::new();
        };
        self.write("req.cnf", &format!("[req]\nstring_mask={mask}\ndistinguished_name=dn\n[dn]\n"));
        " -config req.cnf".to_owned()
    }

    /// From now on the subject of `name` is made of PrintableString where OpenSSL prefers UTF8String.
    pub(super) fn print(&self, name: &str) {
        self.write(&format!("{name}.strings"), "nombstr");
    }

    pub(super) fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).expect("a certificate")
    }

    pub(super) fn list_der(&self, name: &str) -> CertificateRevocationListDer<'static> {
        CertificateRevocationListDer::from_pem_file(self.path(&format!("{name}.crl"))).expect("a list")
    }

    /// `openssl verify` of a chain, the leaf first and the root last, with lists in this order: `Err` with its words.
    pub(super) fn verify(&self, chain: &[&str], lists: &[&str], flags: &str) -> Result<(), String> {
        let joined = |names: &[&str], end: &str| -> String {
            let read = |path: &Path| fs::read_to_string(path).expect("a file");
            names.iter().map(|name| read(&self.path(&format!("{name}.{end}")))).collect()
        };
        let ([leaf, between @ ..], Some(root)) = (&chain[..chain.len() - 1], chain.last()) else {
            panic!("a chain")
        };
        self.write("between", &joined(between, "pem"));
        self.write("lists", &joined(lists, "crl"));
        let untrusted = if between.is_empty() { "" } else { " -untrusted between" };
        let line = format!("verify {flags} -CAfile {root}.pem{untrusted} -CRLfile lists {leaf}.pem");
        let done = self.run(&line);
        match done.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()),
        }
    }
}

fn moment(hours: i64) -> String {
    let time = OffsetDateTime::now_utc() + Duration::hours(hours);
    let date = (time.year(), u8::from(time.month()), time.day());
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.0,
        date.1,
        date.2,
        time.hour(),
        time.minute(),
        time.second()
    )
}
