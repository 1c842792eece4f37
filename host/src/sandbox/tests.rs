use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::thread;

use super::*;
use crate::files::{Audience, read, recorded};

/// Runs `work` in a sandbox of a thread of its own; the sandbox ends with the thread.
fn within<T: Send>(grants: Grants, work: impl FnOnce(&Sandbox) -> T + Send) -> T {
    thread::scope(|scope| {
        let body = || work(&Sandbox::enter(grants).expect("a sandbox"));
        scope.spawn(body).join().expect("a thread that ends well")
    })
}

/// Landlock is in this kernel; where it is not, these tests have nothing to look at and must say so.
fn enforced(sandbox: &Sandbox) -> bool {
    let enforced = sandbox.enforcement() != Enforcement::None;
    if !enforced {
        eprintln!("not tested: this kernel has no Landlock");
    }
    enforced
}

#[test]
fn only_the_directories_of_the_files_can_be_read() {
    let (inside, outside) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (file, other) = (inside.path().join("policy.json"), outside.path().join("secret"));
    fs::write(&file, "{}").expect("written");
    fs::write(&other, "x").expect("written");
    let link = inside.path().join("link");
    symlink(&other, &link).expect("a link");
    let (_, trail) = recorded(|| read(&file, Audience::Everybody));
    let mut grants = Grants::default();
    grants.read(&trail);
    within(grants, |sandbox| {
        if !enforced(sandbox) {
            return;
        }
        assert!(rustix::thread::no_new_privs().expect("a flag"));
        fs::read(&file).expect("granted");
        for path in [&other, &link] {
            let (refused, trail) = recorded(|| read(path, Audience::Everybody));
            assert!(refused.is_err());
            assert_eq!(sandbox.unreadable(&trail), Some(NotGranted::Path(path.clone())));
        }
        assert!(fs::write(inside.path().join("new"), "").is_err());
        assert!(std::process::Command::new("/bin/true").status().is_err());
    });
}

#[test]
fn a_new_name_in_a_known_directory_can_be_read_and_a_replaced_directory_is_named() {
    let root = tempfile::tempdir().expect("a directory");
    let inner = root.path().join("inner");
    fs::create_dir(&inner).expect("a directory");
    let file = inner.join("one");
    fs::write(&file, "1").expect("written");
    let (_, trail) = recorded(|| read(&file, Audience::Everybody));
    let mut grants = Grants::default();
    grants.read(&trail);
    let (entered, entries) = std::sync::mpsc::channel();
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let (inner, file) = (&inner, &file);
    thread::scope(|scope| {
        scope.spawn(move || {
            within(grants, move |sandbox| {
                entered.send(()).expect("a listener");
                finished.recv().expect("a word");
                if enforced(sandbox) {
                    entered.send(()).expect("a listener");
                    let (refused, trail) = recorded(|| read(file, Audience::Everybody));
                    assert!(refused.is_err());
                    assert_eq!(sandbox.unreadable(&trail), Some(NotGranted::Replaced(file.clone())));
                }
            });
        });
        entries.recv().expect("entered");
        fs::rename(inner, root.path().join("old")).expect("moved away");
        fs::create_dir(inner).expect("a directory");
        fs::write(file, "2").expect("written");
        done.send(()).expect("a listener");
    });
}

#[test]
fn only_the_ports_of_the_configuration_are_used() {
    let services = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [one, two] = services.each_ref().map(|service| service.local_addr().expect("an address"));
    let mut grants = Grants::default();
    grants.connect(one.port());
    let mut wanted = Grants::default();
    wanted.connect(two.port());
    within(grants.clone(), |sandbox| {
        if sandbox.enforcement() != Enforcement::Full {
            eprintln!("not tested: this kernel's Landlock has no ports");
            return;
        }
        TcpStream::connect(one).expect("granted");
        assert_eq!(TcpStream::connect(two).expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        assert!(TcpListener::bind("127.0.0.1:0").is_err());
        assert_eq!(sandbox.missing(&grants), None);
        let missing = sandbox.missing(&wanted).expect("a port");
        assert_eq!(missing, NotGranted::Connect(two.port()));
        assert!(missing.to_string().contains("restart the host"), "{missing}");
    });
}
