//! A fresh authority for each test.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use peergate_host::{
    envoy::ServerTls,
    pki::{Authority, Credential, Key, Leaf},
};
use rcgen::CertificateParams;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Root, intermediate, the server's certificate, and the directory they lie in.
pub struct Pki {
    directory: TempDir,
    root: Authority,
    intermediate: Authority,
}

/// A client's certificate, in memory and as files.
#[derive(Clone)]
pub struct Peer {
    /// For the client in this process.
    pub credential: Credential,
    /// The chain's file.
    pub chain: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Pki {
    /// Makes everything anew.
    #[expect(clippy::new_without_default, reason = "it writes files, which nobody expects of a default")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = Authority::root("Test root").expect("a root");
        let intermediate = root.intermediate("Test intermediate").expect("an intermediate");
        std::fs::write(directory.path().join("ca.pem"), root.pem()).expect("ca.pem");
        let server = Leaf::new().cn("localhost").dns("localhost").ip(Ipv4Addr::LOCALHOST);
        let server = intermediate.issue(&server).expect("a server certificate");
        server.write(directory.path(), "server").expect("the server's files");
        Self { directory, root, intermediate }
    }

    /// The directory of all files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// What clients and servers trust.
    pub fn ca(&self) -> &CertificateDer<'static> {
        self.root.der()
    }

    /// The authority that issues the peers' certificates.
    pub fn authority(&self) -> &Authority {
        &self.intermediate
    }

    /// The authority above.
    pub fn root(&self) -> &Authority {
        &self.root
    }

    /// A peer of this authority.
    pub fn peer(&self, leaf: &Leaf) -> Peer {
        self.store(self.intermediate.issue(leaf).expect("a certificate"))
    }

    /// A peer whose certificate [`Leaf`] cannot describe.
    pub fn peer_with(&self, params: &CertificateParams) -> Peer {
        self.store(self.intermediate.issue_params(params, Key::P256).expect("a certificate"))
    }

    /// Writes the files of a credential.
    pub fn store(&self, credential: Credential) -> Peer {
        let name = format!("peer-{:x}", peer_number());
        let (chain, key) = credential.write(self.directory(), &name).expect("the peer's files");
        Peer { credential, chain, key }
    }

    /// The policy with this PKI's files.
    pub fn with_files(&self, policy: &Value) -> Value {
        let mut policy = policy.clone();
        policy["files"] = json!({
            "ca-certificates": self.file("ca.pem"),
            "certificates": self.file("server.pem"),
            "private-key": self.file("server.key"),
        });
        policy
    }

    /// The server side for Envoy.
    pub fn server_tls(&self) -> ServerTls {
        ServerTls {
            certificate: self.file("server.pem"),
            key: self.file("server.key"),
            ca: self.file("ca.pem"),
            accept_untrusted: false,
        }
    }
}

fn peer_number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
