//! `peergate pki`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use peergate_host::pki::DevelopmentPki;

/// `peergate pki`.
#[derive(Debug, Args)]
#[command(after_help = FILES)]
pub(super) struct Pki {
    /// Directory for the files; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Pki {
    pub(super) fn execute(&self) -> ExitCode {
        match DevelopmentPki::open_or_create(&self.out) {
            Ok((_, made)) => {
                let what =
                    if made { "made a development PKI" } else { "kept the PKI, good for another week" };
                println!("{}: {what}", self.out.display());
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }
}

const FILES: &str = "\
Files (NAME.pem is a certificate chain, NAME.key its key with mode 0600):
  ca                what to trust: the root; its key is thrown away
  intermediate      issues everything below
  server            localhost, *.peergate.test, 127.0.0.1, ::1
  node              SAN_DNS node1.mycluster.vespa.example.com
  monitor-us-east   CN vespa-monitoring.example.com, SAN_DNS m1.us-east-1a.monitor.example.com
  monitor-eu-west   CN vespa-monitoring.example.com, SAN_DNS m1.eu-west-1a.monitor.example.com
  stranger          SAN_DNS stranger.other.example.com
  expired-node      the names of node, expired
  client            a data-plane client: self-signed, known by its certificate alone
  rogue-ca          an authority that nobody trusts
  rogue-node        the names of node, issued by rogue-ca

A PKI that is complete and valid for another week is kept; otherwise all of it is made anew.";
