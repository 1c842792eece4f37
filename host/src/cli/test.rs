//! `peergate test`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use peergate_host::clean::Clean;
use peergate_host::judge::{CaseFile, Verdict};

use super::explain::EngineWord;

/// Policy test files.
#[derive(Args, Debug)]
pub(super) struct Test {
    /// Files, or patterns such as 'policies/**/*.json'
    #[arg(value_name = "GLOB", required = true)]
    globs: Vec<String>,
    /// Who answers: filter.wasm, or the engine compiled into this program
    #[arg(long, value_enum, default_value_t = EngineWord::Wasm)]
    engine: EngineWord,
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Test {
    pub(super) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(count) => {
                super::print(format!("{} passed, {} failed\n", count.passed, count.failed));
                ExitCode::from(u8::from(count.failed > 0))
            }
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn run(&self) -> Result<Count, Box<dyn Error>> {
        let engine = self.engine.engine()?;
        // All files are read before the first case is asked: a broken one is never hidden by the results of others.
        let files = self.files()?.into_iter().map(|path| CaseFile::read(&path).map(|file| (path, file)));
        let mut count = Count::default();
        for (path, file) in files.collect::<Result<Vec<_>, _>>()? {
            super::warn(file.warnings());
            for report in file.run(&engine)? {
                let native =
                    report.native_because.map(|why| format!(" (natively: {why})")).unwrap_or_default();
                let name = Clean(&report.name);
                match report.verdict {
                    Verdict::Passed => {
                        count.passed += 1;
                        super::print(format!("ok   {}: {name}{native}\n", path.display()));
                    }
                    Verdict::Failed(differences, judgement) => {
                        count.failed += 1;
                        let differences = differences.join("; ");
                        super::print(format!(
                            "FAIL {}: {name}{native}: {differences}\n{judgement}",
                            path.display()
                        ));
                    }
                }
            }
        }
        Ok(count)
    }

    fn files(&self) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        let mut files = Vec::new();
        for pattern in &self.globs {
            let bad_pattern = |error| format!("`{}`: {error}", Clean(pattern));
            let found = glob::glob(pattern).map_err(bad_pattern)?.collect::<Result<Vec<_>, _>>()?;
            if found.is_empty() {
                return Err(format!("no file matches `{}`", pattern.escape_debug()).into());
            }
            files.extend(found);
        }
        Ok(files)
    }
}
