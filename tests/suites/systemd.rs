//! The host as a service of systemd, with sockets of our own in systemd's place: what is told on `NOTIFY_SOCKET`, what is
//! taken from `LISTEN_FDS`.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use peergate_tests::client::Client;
use peergate_tests::commands::run;
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, vespa_example};
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::{Value, json};

/// systemd's end of the line.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn new(pki: &Pki) -> Self {
        let path = pki.file("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        Self { socket, path }
    }

    /// The next message, as its lines.
    fn told(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let size = self.socket.recv(&mut buffer).expect("a message within half a minute");
        String::from_utf8_lossy(&buffer[..size]).lines().map(str::to_owned).collect()
    }

    /// Reads messages until one has this line.
    fn waits_for(&self, line: &str) -> Vec<String> {
        loop {
            let told = self.told();
            if told.iter().any(|it| it == line) {
                return told;
            }
        }
    }

    /// Throws away what has come, and tells whether anything comes within this time.
    fn hears_within(&self, time: Duration) -> bool {
        self.socket.set_nonblocking(true).expect("a mode");
        let mut buffer = [0; 4096];
        while self.socket.recv(&mut buffer).is_ok() {}
        self.socket.set_nonblocking(false).expect("a mode");
        self.socket.set_read_timeout(Some(time)).expect("a timeout");
        let heard = self.socket.recv(&mut buffer).is_ok();
        self.socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        heard
    }

    fn start(&self, pki: &Pki, with: impl FnOnce(Start) -> Start) -> (Host, std::path::PathBuf) {
        let policy = write_policy(pki, &vespa_example());
        let path = self.path.to_str().expect("text");
        let start = Start::endpoint("peer", &policy, Upstream::http().address);
        (with(start.environment("NOTIFY_SOCKET", path)).start(), policy)
    }
}

fn status(told: &[String]) -> &str {
    told.iter().find_map(|line| line.strip_prefix("STATUS=")).unwrap_or_default()
}

#[test]
fn the_host_tells_when_it_is_ready_reloads_and_stops() {
    let pki = Pki::new();
    let manager = Manager::new(&pki);
    let (mut host, policy) = manager.start(&pki, |start| start);
    let ready = manager.told();
    assert_eq!((ready[0].as_str(), status(&ready)), ("READY=1", "serving generation 1"), "{ready:?}");

    host.signal(Signal::HUP);
    let reloading = manager.told();
    assert_eq!(reloading[0], "RELOADING=1");
    let stamp = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(stamp.is_some_and(|stamp| stamp.parse::<u64>().is_ok()), "{reloading:?}");
    assert_eq!(status(&manager.waits_for("READY=1")), "serving generation 2");

    // A refused reload ends too; the host still serves.
    fs::write(&policy, "{").expect("written");
    host.signal(Signal::HUP);
    manager.waits_for("RELOADING=1");
    let refused = manager.waits_for("READY=1");
    assert!(status(&refused).contains("generation 2, the last reload failed"), "{refused:?}");

    host.signal(Signal::TERM);
    assert_eq!(manager.waits_for("STOPPING=1")[0], "STOPPING=1");
    assert_eq!(host.ended(), Some(0));
}

/// Only the thread of one worker is stopped, as a worker that hangs would be: by the debugger's interface, from outside.
#[test]
fn the_watchdog_is_not_told_that_all_is_well_while_a_worker_hangs() {
    let pki = Pki::new();
    let manager = Manager::new(&pki);
    let (host, _) = manager.start(&pki, |start| start.environment("WATCHDOG_USEC", "2000000"));
    manager.waits_for("WATCHDOG=1");
    let Some(stopped) = Stopped::thread(&host, "worker-1") else {
        return eprintln!("not tested: to stop one thread of another process needs root or CAP_SYS_PTRACE");
    };
    wait::until("the host notices", || host.log().contains("workers do not respond"));
    assert!(!manager.hears_within(Duration::from_secs(3)), "told although a worker hangs");
    drop(stopped);
    manager.waits_for("WATCHDOG=1");
}

/// A thread that is stopped until this is dropped.
struct Stopped(Child);

impl Stopped {
    /// `None` where that is not permitted.
    fn thread(host: &Host, name: &str) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{}/task", host.pid())).expect("the threads");
        let is_named = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let task = tasks.filter_map(Result::ok).find(is_named).expect("the thread");
        // PTRACE_SEIZE, then PTRACE_INTERRUPT; the end of the program lets the thread go on.
        let script = "import ctypes, errno, sys\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]\n\
            task = int(sys.argv[1])\n\
            for request in (0x4206, 0x4207):\n\
            \x20   if libc.ptrace(request, task, None, None):\n\
            \x20       print(errno.errorcode[ctypes.get_errno()])\n\
            \x20       sys.exit()\n\
            print('stopped', flush=True)\n\
            sys.stdin.read()\n";
        let mut tracer = Command::new("python3");
        tracer.args(["-c", script]).arg(task.file_name()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let tracer = peergate_tests::commands::spawn(&mut tracer);
        let mut line = String::new();
        let mut stopped = Self(tracer);
        let stdout = stopped.0.stdout.as_mut().expect("piped");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("a line");
        if line == "EPERM\n" {
            return None;
        }
        assert_eq!(line, "stopped\n");
        Some(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends when its input does.
        self.0.wait().ok();
    }
}

/// Starts an inbound listener as systemd does: our socket is its descriptor 3.
fn activated(socket: &TcpListener, pki: &Pki, name: &str, inbound: &str) -> Command {
    let endpoints = json!([{"endpoint": "peer", "policy": write_policy(pki, &vespa_example())}]);
    let upstream = json!({"address": Upstream::http().address.to_string()});
    let inbound = json!([{"name": "in", "address": inbound, "upstream": upstream, "endpoints": endpoints}]);
    activated_by(socket, pki, name, &json!({"inbound": inbound}))
}

/// The same, by a configuration.
fn activated_by(socket: &impl AsFd, pki: &Pki, name: &str, configuration: &Value) -> Command {
    let config = pki.file("host.json");
    fs::write(&config, configuration.to_string()).expect("written");
    fcntl_setfd(socket, FdFlags::empty()).expect("inherited");
    let host = Start::config(&config).command();
    let mut shell = Command::new("sh");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    // `exec` keeps the process id, which LISTEN_PID must be.
    shell
        .arg("-c")
        .arg(format!("exec 3<&{fd}; LISTEN_FDS=1 LISTEN_FDNAMES={name} LISTEN_PID=$$ exec \"$0\" \"$@\""));
    shell.arg(host.get_program()).args(host.get_args());
    shell
}

#[test]
fn a_socket_of_systemd_is_served() {
    let pki = Pki::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = socket.local_addr().expect("an address");
    let start = || Start::by(activated(&socket, &pki, "data-plane", "systemd:data-plane")).start();
    let peer = pki.peer(&node());
    let get = || Client::connect(address, pki.ca(), Some(&peer.credential)).and_then(|mut it| it.get("/"));
    let mut host = start();
    assert_eq!(host.address, address, "{}", host.log());
    // Both workers serve it, and a reload keeps it.
    for _ in 0..20 {
        assert_eq!(get().expect("an answer").status(), 200);
    }
    host.reload();
    assert_eq!(get().expect("an answer").status(), 200);
    // A client that comes while nobody serves waits for the next one.
    host.signal(Signal::TERM);
    assert_eq!(host.ended(), Some(0));
    let (credential, ca) = (peer.credential.clone(), pki.ca().clone());
    let waiting = thread::spawn(move || {
        Client::connect(address, &ca, Some(&credential)).and_then(|mut client| client.get("/"))
    });
    let _host = start();
    assert_eq!(waiting.join().expect("a client").expect("an answer").status(), 200);
}

#[test]
fn a_socket_with_another_name_stops_the_start() {
    let pki = Pki::new();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let finished = run(&mut activated(&socket, &pki, "other", "systemd:data-plane"), b"");
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("there are `other`"), "{}", finished.stderr);
    let mut without = Start::config(&pki.file("host.json")).command();
    let finished = run(&mut without, b"");
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("systemd handed over no socket"), "{}", finished.stderr);
}

/// Whoever reaches an outbound listener speaks as this node, and the name of a socket does not say where it is.
#[test]
fn an_outbound_listener_takes_no_socket_that_others_can_reach() {
    let pki = Pki::new();
    let policy = write_policy(&pki, &vespa_example());
    // Nobody is there.
    let upstream = json!({"address": "localhost:1"});
    let outbound = json!({"outbound": [{"address": "systemd:out", "upstream": upstream, "policy": policy}]});
    for address in ["0.0.0.0:0", "[::]:0"] {
        let socket = TcpListener::bind(address).expect("a port");
        let finished = run(&mut activated_by(&socket, &pki, "out", &outbound), b"");
        assert_eq!(finished.code, Some(2), "{address}: {}", finished.output());
        let said = "cannot listen on systemd:out: it is no loopback address, and whoever connects here speaks as this node";
        assert!(finished.stderr.contains(said), "{address}: {}", finished.stderr);
    }
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let host = Start::by(activated_by(&socket, &pki, "out", &outbound)).start();
    assert_eq!(host.address, address, "{}", host.log());
    let asked = run(
        Command::new("curl").args(["--silent", "--write-out", "%{http_code}", &format!("http://{address}/")]),
        b"",
    );
    assert!(asked.stdout.ends_with("502"), "{}", asked.output());
}
