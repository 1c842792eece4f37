//! The process.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Bootstrap, EnvoyError, admin::Admin};

/// A running Envoy; dropping it ends the process.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    admin: Admin,
    log: PathBuf,
}

impl Envoy {
    /// Starts `binary` and waits until all listeners accept connections. `directory` receives the bootstrap,
    /// the log and the address of the admin interface.
    ///
    /// # Errors
    /// Envoy does not start, refuses the bootstrap, or is not ready within 30 seconds.
    pub fn start(binary: &Path, bootstrap: &Bootstrap, directory: &Path) -> Result<Self, EnvoyError> {
        let config = directory.join("envoy.json");
        fs::write(&config, bootstrap.to_json().to_string())
            .map_err(|error| EnvoyError::File(config.clone(), error))?;
        Self::start_file(binary, &config, directory, Path::new("."))
    }

    /// Starts `binary` with a configuration file whose relative paths start at `root`, like [`Self::start`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_file(
        binary: &Path,
        config: &Path,
        directory: &Path,
        root: &Path,
    ) -> Result<Self, EnvoyError> {
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(|error| EnvoyError::File(path.to_owned(), error));
        let (binary, config, directory) = (absolute(binary)?, absolute(config)?, absolute(directory)?);
        let log = directory.join("envoy.log");
        let admin_file = directory.join("envoy.admin");
        remove_stale(&admin_file)?;
        let output = File::create(&log).map_err(|error| EnvoyError::File(log.clone(), error))?;
        let errors = output.try_clone().map_err(|error| EnvoyError::File(log.clone(), error))?;
        let mut child = Command::new(&binary)
            .current_dir(root)
            .arg("--config-path")
            .arg(config)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--file-flush-interval-msec", "100"])
            .args(["--log-level", "warning", "--component-log-level", "wasm:info"])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| EnvoyError::File(binary, error))?;
        match wait_until_ready(&mut child, &admin_file, &log) {
            Ok(admin) => Ok(Self { child, admin, log }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Lets `binary` judge a bootstrap without serving it. The text is what Envoy said when it refused.
    ///
    /// # Errors
    /// The outer error: Envoy could not be run at all.
    pub fn validate(binary: &Path, config: &Path) -> Result<Result<(), String>, EnvoyError> {
        let output = Command::new(binary)
            .args(["--mode", "validate", "--use-dynamic-base-id", "--log-level", "warning", "--config-path"])
            .arg(config)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| EnvoyError::File(binary.to_owned(), error))?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Where a listener accepts connections.
    ///
    /// # Errors
    /// There is no listener of this name.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, EnvoyError> {
        self.admin.listener(name)
    }

    /// The admin interface's address.
    pub fn admin(&self) -> SocketAddr {
        self.admin.0
    }

    /// What a GET of the admin interface answers.
    ///
    /// # Errors
    /// The admin interface cannot be reached.
    pub fn admin_body(&self, path: &str) -> Result<String, EnvoyError> {
        self.admin.body(path)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What Envoy and the filter have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn wait_until_ready(child: &mut Child, admin_file: &Path, log: &Path) -> Result<Admin, EnvoyError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(EnvoyError::Ended(tail(log)));
        }
        let address = fs::read_to_string(admin_file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(admin) = address.map(Admin)
            && admin.is_ready()
        {
            return Ok(admin);
        }
        if Instant::now() > deadline {
            return Err(EnvoyError::NotReady(tail(log)));
        }
        thread::sleep(POLL);
    }
}

/// The file of an earlier run would name a port that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), EnvoyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EnvoyError::File(path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// Both calls fail only when the process has ended already.
fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

const READY_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
