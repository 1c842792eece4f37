//! Compiling a filter in another process. The compiler needs 20 MB the server would keep ever after, and a filter that
//! sends it astray must not take the server along.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use super::error::{FilterError, NOT_COMPILED};

/// A filter of 300 KiB compiles in a fifth of a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is shown of the child's complaint.
const MAX_COMPLAINT: u64 = 2048;

/// Compiles with `peergate precompile IN OUT`, both in a directory of our own that only this user can enter.
pub(super) fn in_child(wasm: &[u8]) -> Result<Vec<u8>, FilterError> {
    let program = env::current_exe().map_err(|error| failed(&error))?;
    run(&program, wasm, PATIENCE)
}

fn run(program: &Path, wasm: &[u8], patience: Duration) -> Result<Vec<u8>, FilterError> {
    let directory = tempfile::Builder::new().prefix("peergate-").tempdir().map_err(|error| failed(&error))?;
    let [input, output, complaint] =
        ["filter.wasm", "filter.cwasm", "stderr"].map(|name| directory.path().join(name));
    fs::write(&input, wasm).map_err(|error| failed(&error))?;
    let stderr = File::create(&complaint).map_err(|error| failed(&error))?;

    let mut child = Command::new(program)
        .arg("precompile")
        .args([&input, &output])
        // The child reads two paths and nothing else of ours.
        .env_clear()
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .map_err(|error| failed(&error))?;
    match wait(&mut child, patience).map_err(|error| failed(&error))? {
        Some(status) if status.success() => fs::read(&output).map_err(|error| failed(&error)),
        Some(status) => Err(quoted(&complaint, status)),
        None => Err(FilterError::Compiler(format!("it took more than {patience:?}"))),
    }
}

/// Waits for the child; `None` when it was stopped for taking too long.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What the child said, on one line: the engine's reason where it got that far.
fn quoted(complaint: &Path, status: ExitStatus) -> FilterError {
    let mut bytes = Vec::new();
    let read = File::open(complaint).and_then(|file| file.take(MAX_COMPLAINT).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if read.is_err() || text.is_empty() {
        return FilterError::Compiler(status.to_string());
    }
    match text.split_once(NOT_COMPILED) {
        Some((_, reason)) => FilterError::Compile(reason.trim_start().to_owned()),
        None => FilterError::Compiler(text),
    }
}

fn failed(error: &io::Error) -> FilterError {
    FilterError::Compiler(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(directory: &Path, body: &str) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.join("compiler");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[test]
    fn the_child_gets_two_paths_and_no_environment() {
        let directory = tempfile::tempdir().unwrap();
        let program =
            script(directory.path(), r#"/usr/bin/env > "$3"; echo "$1" >> "$3"; /bin/cat "$2" >> "$3""#);
        let written = String::from_utf8(run(&program, b"the module", PATIENCE).unwrap()).unwrap();
        assert!(written.ends_with("precompile\nthe module"), "{written}");
        // A shell sets these itself.
        let inherited = |line: &&str| {
            line.contains('=') && !["PWD", "SHLVL", "_"].contains(&line.split('=').next().unwrap())
        };
        assert_eq!(written.lines().filter(inherited).collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn a_failing_child_is_quoted_and_a_hanging_one_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let program = script(directory.path(), "echo 'no such' >&2; echo '  command' >&2; exit 2");
        let error = run(&program, b"", PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "the filter was not compiled: no such command");

        let refused = FilterError::Compile("not wasm".to_owned());
        let program = script(directory.path(), &format!("echo 'peergate: `/tmp/in`: {refused}' >&2; exit 2"));
        let error = run(&program, b"", PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), refused.to_string());

        let program = script(directory.path(), "exit 3");
        let error = run(&program, b"", PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "the filter was not compiled: exit status: 3");

        let program = script(directory.path(), "exec sleep 600");
        let error = run(&program, b"", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.to_string(), "the filter was not compiled: it took more than 200ms");
    }
}
