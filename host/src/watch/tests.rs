use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::runtime::Builder;
use tokio::time::timeout;

use super::*;
use crate::files::{Audience, read, recorded};

/// Waits for the change that `act` makes to the file at `path`.
fn notices(path: &Path, act: impl FnOnce()) {
    told_by(Watch::start().expect("a thread"), path, act);
}

fn told_by(mut watch: Watch, path: &Path, act: impl FnOnce()) {
    let trail = || recorded(|| read(path, Audience::Everybody)).1;
    watch.follow(trail());
    act();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let told = runtime.block_on(async { timeout(Duration::from_secs(30), watch.changed()).await });
    assert!(told.is_ok(), "{}", path.display());
    watch.follow(trail());
    // Told once, and only once.
    assert!(watch.changes.is_empty());
}

#[test]
fn every_way_to_replace_a_file_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let file = at("file");
    fs::write(&file, "1").expect("written");
    notices(&file, || fs::write(&file, "2").expect("written"));
    notices(&file, || {
        fs::write(at("new"), "3").expect("written");
        fs::rename(at("new"), &file).expect("renamed");
    });
    notices(&file, || fs::remove_file(&file).expect("removed"));
    notices(&file, || fs::write(&file, "3").expect("written again"));
}

#[test]
fn a_swapped_link_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for (name, content) in [("..1", "1"), ("..2", "2")] {
        fs::create_dir(at(name)).expect("a directory");
        fs::write(at(name).join("file"), content).expect("written");
    }
    symlink("..1", at("..data")).expect("a link");
    symlink("..data/file", at("file")).expect("a link");
    notices(&at("file"), || {
        symlink("..2", at("..new")).expect("a link");
        fs::rename(at("..new"), at("..data")).expect("swapped");
        fs::remove_dir_all(at("..1")).expect("removed");
    });
}

#[test]
fn a_directory_that_is_replaced_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory.path().join("inner");
    let file = inner.join("file");
    fs::create_dir(&inner).expect("a directory");
    fs::write(&file, "1").expect("written");
    notices(&file, || {
        fs::rename(&inner, directory.path().join("old")).expect("moved away");
        fs::create_dir(&inner).expect("a directory");
        fs::write(&file, "2").expect("written");
    });
}

/// As on a network filesystem.
#[test]
fn a_change_that_nobody_tells_of_is_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "1").expect("written");
    let watch = Watch::with(|_| Notices::none()).expect("a thread");
    told_by(watch, &file, || fs::write(&file, "2").expect("written"));
}
