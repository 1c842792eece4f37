//! What stops a host from starting, or stops it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use peergate_policy::{Endpoint, PolicyError};

use super::ModeError;
use crate::admin::ServerError;
use crate::audit::Target;
use crate::capacity::PlanError;
use crate::config::{Address, Boundary, ConfigError, Protocol};
use crate::files::{CredentialsError, FileError, InlineError};
use crate::proxy::WorkerError;
use crate::sandbox::NotGranted;
use crate::systemd::ActivationError;
use crate::tls::TlsError;
use crate::wasm::{FilterError, StartError};

/// Why `peergate run` did not start, or ended.
#[derive(Debug)]
pub enum RunError {
    /// The configuration.
    Config(ConfigError),
    /// No `--policy`, and no variable in its place.
    NoPolicy(Boundary),
    /// The policy's file.
    PolicyFile(FileError),
    /// The policy is no text.
    PolicyEncoding(PathBuf),
    /// The policy itself.
    Policy {
        /// Its file.
        path: PathBuf,
        /// What is wrong, and where.
        error: PolicyError,
    },
    /// A client's certificate that the policy names by file.
    Certificate {
        /// The policy's file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<InlineError>,
    },
    /// A variable of the environment.
    Mode(ModeError),
    /// A file the policy names.
    Credentials(CredentialsError),
    /// Ciphers, versions, authorities.
    Tls(TlsError),
    /// The file of the filter's code.
    FilterFile(FileError),
    /// The filter's code.
    Filter(FilterError),
    /// The filter has no callback that could refuse what is forwarded.
    Unguarded {
        /// Who is judged.
        endpoint: Endpoint,
        /// What is forwarded.
        protocol: Protocol,
    },
    /// The filter is not ours, and would not enforce what the policy says.
    NotEnforced {
        /// The policy's file.
        policy: PathBuf,
        /// Its keys that only our filter enforces.
        keys: Vec<&'static str>,
    },
    /// The filter is not ours, and would not hold requests to the names of their endpoint.
    NamesNotEnforced(Address),
    /// The filter refused the policy.
    Start(StartError),
    /// The address.
    Bind {
        /// As given.
        address: Address,
        /// The system's reason.
        error: io::Error,
    },
    /// Sockets of systemd.
    Activation(ActivationError),
    /// The admin pages.
    Admin(ServerError),
    /// The audit log.
    Audit {
        /// Where it should go.
        target: Target,
        /// The system's reason.
        error: io::Error,
    },
    /// The sandbox cannot be entered.
    Sandbox(io::Error),
    /// A reload needs what the sandbox was not granted.
    NotGranted(NotGranted),
    /// A service that takes TLS where plaintext is sent.
    TlsUpstream(Address),
    /// A worker did not start.
    Worker(WorkerError),
    /// A worker ended without being asked.
    WorkerEnded,
    /// Limits that need more open files than the system allows.
    Limits(PlanError),
    /// No thread, no signal handler.
    Runtime(io::Error),
}

impl RunError {
    /// 2 where the configuration or an argument must change, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::NoPolicy(_)
            | Self::FilterFile(_)
            | Self::Bind { .. }
            | Self::TlsUpstream(_)
            | Self::PolicyFile(_)
            | Self::PolicyEncoding(_)
            | Self::Policy { .. }
            | Self::Certificate { .. }
            | Self::Mode(_)
            | Self::Credentials(_)
            | Self::Tls(_)
            | Self::Filter(_)
            | Self::Unguarded { .. }
            | Self::NotEnforced { .. }
            | Self::NamesNotEnforced(_)
            | Self::Activation(_)
            | Self::Admin(_)
            | Self::Limits(_)
            | Self::Audit { .. }
            | Self::NotGranted(_)
            | Self::Start(_) => 2,
            Self::Sandbox(_) | Self::Worker(_) | Self::WorkerEnded | Self::Runtime(_) => 1,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(formatter),
            Self::NoPolicy(boundary) => {
                write!(formatter, "no policy: give `--policy FILE` or set {}", boundary.variable())
            }
            Self::FilterFile(error) => write!(formatter, "filter: {error}"),
            Self::PolicyFile(error) => write!(formatter, "policy: {error}"),
            Self::PolicyEncoding(path) => {
                write!(
                    formatter,
                    "policy: `{}` is not UTF-8; save it as UTF-8",
                    path.display().to_string().escape_debug()
                )
            }
            Self::Policy { path, error } => formatter.write_str(&error.in_file(path)),
            Self::Certificate { path, error } => formatter.write_str(&error.in_file(path)),
            Self::Mode(error) => error.fmt(formatter),
            Self::Credentials(error) => error.fmt(formatter),
            Self::Tls(error) => error.fmt(formatter),
            Self::Filter(error) => error.fmt(formatter),
            Self::Unguarded { endpoint, protocol } => formatter.write_str(unguarded(*endpoint, *protocol)),
            Self::NotEnforced { policy, keys } => write!(
                formatter,
                "`{}` has `{}`, which only Peergate's own filter enforces, and `filter` (`--filter`) puts another in its place; \
                 leave `filter` out, or take {} out of the policy and let the other filter decide",
                policy.display().to_string().escape_debug(),
                keys.join("`, `"),
                if keys.len() == 1 { "it" } else { "them" },
            ),
            Self::NamesNotEnforced(address) => write!(
                formatter,
                "{address} has several endpoints, and only Peergate's own filter holds requests to the names of theirs; give each \
                 endpoint an address of its own, or leave `filter` (`--filter`) out"
            ),
            Self::Start(error) => error.fmt(formatter),
            Self::Bind { address, error } => {
                write!(formatter, "cannot listen on {address}: {error}; choose another address")
            }
            Self::Activation(error) => error.fmt(formatter),
            Self::Admin(error) => error.fmt(formatter),
            Self::Audit { target, error } => {
                write!(
                    formatter,
                    "audit log: cannot write {target}: {error}; check the path and who may write it"
                )
            }
            Self::Sandbox(error) => {
                write!(formatter, "the sandbox cannot be entered: {error}; `--no-sandbox` starts without it")
            }
            Self::NotGranted(error) => error.fmt(formatter),
            Self::TlsUpstream(address) => write!(
                formatter,
                "the upstream {address} speaks TLS, and the host sends plaintext there; name the service's port without TLS"
            ),
            Self::Limits(error) => error.fmt(formatter),
            Self::Worker(error) => error.fmt(formatter),
            Self::WorkerEnded => formatter.write_str("a worker ended unexpectedly"),
            Self::Runtime(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for RunError {}

fn unguarded(endpoint: Endpoint, protocol: Protocol) -> &'static str {
    match (endpoint, protocol) {
        (Endpoint::Peer, Protocol::Tcp) => {
            "the filter cannot refuse connections: it exports neither `proxy_on_new_connection` nor \
             `proxy_on_downstream_data`; use another `--filter`, or `--protocol http`"
        }
        (Endpoint::Peer, Protocol::Http) => {
            "the filter can refuse neither connections nor requests: it exports no `proxy_on_request_headers`; use \
             another `--filter`"
        }
        (Endpoint::Mtls | Endpoint::Token, _) => {
            "the filter cannot refuse requests: it exports no `proxy_on_request_headers`; use another `--filter`"
        }
    }
}
