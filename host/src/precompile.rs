//! `peergate precompile`: compiles a filter in a process of its own. The server starts it; people need not.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::wasm::{self, FilterError};

/// Why nothing was compiled.
#[derive(Debug)]
pub enum PrecompileError {
    /// A file cannot be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The input is no module this engine compiles.
    Compile {
        /// The input.
        path: PathBuf,
        /// What the engine said.
        source: FilterError,
    },
}

impl fmt::Display for PrecompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => write!(f, "`{}`: {source}", path.display()),
            Self::Compile { path, source } => write!(f, "`{}`: {source}", path.display()),
        }
    }
}

impl std::error::Error for PrecompileError {}

/// Compiles `input` (wasm) into `output` (native code of this machine), which appears whole or not at all.
pub fn precompile(input: &Path, output: &Path) -> Result<(), PrecompileError> {
    let wasm = fs::read(input).map_err(|source| file_error(input, source))?;
    let native =
        wasm::compile(&wasm).map_err(|source| PrecompileError::Compile { path: input.to_owned(), source })?;
    write(output, &native).map_err(|source| file_error(output, source))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => env::current_dir()?,
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn file_error(path: &Path, source: io::Error) -> PrecompileError {
    PrecompileError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_compiled_and_anything_else_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
        fs::write(&input, "(module").unwrap();
        let error = precompile(&input, &output).unwrap_err().to_string();
        assert!(error.contains("does not compile"), "{error}");
        assert!(!output.exists());

        fs::write(&input, wat::parse_str("(module)").unwrap()).unwrap();
        precompile(&input, &output).unwrap();
        assert!(fs::metadata(&output).unwrap().len() > 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);

        let error = precompile(&directory.path().join("absent"), &output).unwrap_err().to_string();
        assert!(error.contains("absent`"), "{error}");
    }
}
