//! Whether the time of a token's check tells anything about the check hashes in the policy.
//!
//! As `dudect` does (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2017): two classes of input in
//! random order, Welch's t-test between their times, once on all times and once for each of a row of upper limits that
//! crop what interrupts and other load add. The largest |t| counts. Above 10 the classes differ.
//!
//! What is judged, and must stay below:
//! - `comparison`: [`CheckHash`] with a stored one that differs in the last byte alone, or is random;
//! - `whole check`: the same through [`DataPlane::judge_token`], where both stored hashes are found by the index;
//! - `whole check, filter.wasm`: the same through the filter as the host runs it, whose machine code is another one;
//! - `derivation`: HKDF of one token, or of random ones of its length.
//!
//! What shows that the test sees a difference, and must be above: the same comparison with an early exit.
//!
//! What depends on the stored hash by design, and is printed alone: the index is asked by the first half of the check hash,
//! so a token whose check hash shares that half takes longer than one that is unknown. A check hash is no secret that
//! opens anything: the policy holds it, and a token cannot be computed from it. An attacker who knew all of them by
//! timing would know what a reader of the policy knows. Whether a token was accepted, and its length, are no secrets
//! either: whoever presents it knows both.

use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use peergate_host::wasm::{Connection, Filter, HeaderPairs, Outcome, Tls, Worker};
use peergate_policy::token::{CheckHash, Derivation};
use peergate_policy::{DataPlane, Decision, Policy, Request, UnixTime};
use serde_json::json;

const LIMIT: f64 = 10.0;
const CROPS: i32 = 100;
const CONTEXT: &str = "Vespa Cloud tenant data plane:bench";
const TOKEN: &str = "vespa_cloud_03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";

fn main() -> ExitCode {
    let scale = std::env::var("TIMING_SAMPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(400_000);
    println!("largest |t| of Welch's test between the times of two classes; above {LIMIT} they differ");
    println!("{:36}  {:>9}  {:>8}  {:>8}  {:>9}", "", "samples", "ns, one", "ns, two", "|t|");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let hash = Derivation::of(TOKEN).check_hash(CONTEXT).to_hex();
    let differences = |tail: usize| Hashes { hash: hash.clone(), tail };
    let filter = Filter::embedded().expect("the embedded filter");
    let results = [
        report("early exit (control)", scale, true, |class| early_exit(&differences(0), class, &mut random)),
        report("comparison", scale, false, |class| comparison(&differences(0), class, &mut random)),
        report("whole check", scale / 2, false, |class| whole_check(&differences(32), class, &mut random)),
        report("whole check, filter.wasm", scale / 20, false, |class| {
            in_filter(&filter, &differences(32), class, &mut random)
        }),
        report("derivation", scale / 2, false, |class| derivation(class, &mut random)),
    ];
    println!("by design, the index finds the first of these and not the second:");
    measured("whole check", scale / 4, |class| whole_check(&differences(0), class, &mut random));
    measured("whole check, filter.wasm", scale / 40, |class| {
        in_filter(&filter, &differences(0), class, &mut random)
    });
    if results.iter().all(|good| *good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Fixed,
    Random,
}

/// Stored check hashes for the token.
struct Hashes {
    hash: String,
    /// In hexadecimal digits: before it a random one is as that of the token.
    tail: usize,
}

impl Hashes {
    /// One that differs from the token's in the last digit, or in all after some place; never the token's.
    fn stored(&self, class: Class, random: &mut Random) -> String {
        let from = if class == Class::Fixed { self.hash.len() - 1 } else { self.tail };
        let digits = self.hash.char_indices().map(|(at, digit)| {
            if at < from {
                return digit;
            }
            let value = digit.to_digit(16).expect("a hexadecimal digit");
            let other = if class == Class::Fixed { value ^ 1 } else { random.below(16) };
            char::from_digit(other, 16).expect("below 16")
        });
        let stored: String = digits.collect();
        if stored == self.hash { self.stored(class, random) } else { stored }
    }
}

/// Nanoseconds of many comparisons.
fn comparison(hashes: &Hashes, class: Class, random: &mut Random) -> u64 {
    let parse = |text: &str| text.parse::<CheckHash>().expect("a check hash");
    let (presented, stored) = (parse(&hashes.hash), parse(&hashes.stored(class, random)));
    time(128, || assert!(black_box(&stored) != black_box(&presented)))
}

/// The same, as it must not be done.
fn early_exit(hashes: &Hashes, class: Class, random: &mut Random) -> u64 {
    let bytes = |text: &str| -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("two digits"))
    };
    let (presented, stored) = (bytes(&hashes.hash), bytes(&hashes.stored(class, random)));
    let differ = |one: &[u8; 32], two: &[u8; 32]| one.iter().zip(two).any(|(a, b)| black_box(a) != b);
    time(128, || assert!(differ(black_box(&stored), black_box(&presented))))
}

/// Nanoseconds of a few refusals. The policy is made anew each time, so that both classes have the same memory.
fn whole_check(hashes: &Hashes, class: Class, random: &mut Random) -> u64 {
    let stored = hashes.stored(class, random);
    let version =
        json!({"fingerprint": "00".repeat(16), "check-access-hash": stored, "expiration": "<none>"});
    let client = json!({"id": "c", "permissions": ["read"], "tokens": [{"id": "t", "versions": [version]}]});
    let document = json!({"data-plane": {"token-context": CONTEXT, "clients": [client]}}).to_string();
    let policy = Policy::parse(&document).expect("a policy");
    let data_plane = policy.data_plane().expect("a data plane");
    let header = format!("Bearer {TOKEN}");
    refuse(data_plane, &header);
    time(4, || refuse(data_plane, &header))
}

/// A policy with one token of this check hash.
fn document(check_hash: &str) -> String {
    let version =
        json!({"fingerprint": "00".repeat(16), "check-access-hash": check_hash, "expiration": "<none>"});
    let client = json!({"id": "c", "permissions": ["read"], "tokens": [{"id": "t", "versions": [version]}]});
    json!({"data-plane": {"token-context": CONTEXT, "clients": [client]}}).to_string()
}

/// Nanoseconds of some refusals by the filter, in a VM of their own.
fn in_filter(filter: &Filter, hashes: &Hashes, class: Class, random: &mut Random) -> u64 {
    let policy = document(&hashes.stored(class, random));
    let configuration = format!(r#"{{"endpoint":"token","policy":{policy}}}"#);
    let worker = Rc::new(Worker::start(filter, &configuration).expect("a VM"));
    let tls = Tls { version: "TLSv1.3", server_name: None, alpn: None, peer: None, chain_verified: false };
    let address = ([127, 0, 0, 1], 1).into();
    let connection = Rc::new(Connection::new(1, address, address, Some(tls)));
    let bearer = format!("Bearer {TOKEN}");
    let pairs = [
        (":authority", "localhost"),
        (":path", "/"),
        (":method", "GET"),
        (":scheme", "https"),
        ("authorization", &bearer),
    ];
    let headers: HeaderPairs =
        pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    let ask = || {
        let outcome = worker.open_stream(&connection).request_headers(headers.clone(), true);
        assert!(matches!(outcome, Outcome::Reply(reply) if reply.status == 403));
    };
    (0..8).for_each(|_| ask());
    time(32, ask)
}

fn refuse(data_plane: &DataPlane, header: &str) {
    let request = Request { method: "GET", path: "/" };
    let now = UnixTime::from_seconds(1_800_000_000);
    let decision = data_plane.judge_token(std::iter::once(black_box(header.as_bytes())), request, now);
    assert!(matches!(black_box(decision), Decision::Deny(_)));
}

/// Nanoseconds of a few derivations.
fn derivation(class: Class, random: &mut Random) -> u64 {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let prefix = "vespa_cloud_";
    let digits = prefix.len()..TOKEN.len();
    let other = digits.map(|_| char::from(ALPHABET[random.below(62) as usize])).collect::<String>();
    let other = format!("{prefix}{other}");
    let mut token = [0; TOKEN.len()];
    token.copy_from_slice(if class == Class::Fixed { TOKEN } else { &other }.as_bytes());
    let token = str::from_utf8(&token).expect("ASCII");
    time(4, || {
        black_box(Derivation::of(black_box(token)).check_hash(CONTEXT));
    })
}

fn time(rounds: u32, mut work: impl FnMut()) -> u64 {
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Measures, prints, and says whether the classes differ as they must.
fn report(name: &str, samples: usize, must_differ: bool, sample: impl FnMut(Class) -> u64) -> bool {
    let (name, t) = measured(name, samples, sample);
    let good = (t > LIMIT) == must_differ;
    if !good {
        println!("{name}: |t| must {} {LIMIT}", if must_differ { "be above" } else { "not be above" });
    }
    good
}

fn measured(name: &str, samples: usize, mut sample: impl FnMut(Class) -> u64) -> (&str, f64) {
    let mut order = Random(samples as u64);
    let mut times: Vec<(Class, u64)> = Vec::with_capacity(samples);
    for index in 0..samples + samples / 10 {
        let class = if order.below(2) == 0 { Class::Fixed } else { Class::Random };
        let taken = sample(class);
        // The first tenth warms up.
        if index >= samples / 10 {
            times.push((class, taken));
        }
    }
    let mut sorted: Vec<u64> = times.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable();
    let crops = (1..=CROPS).map(|crop| sorted[crop_index(crop, sorted.len())]);
    let t = crops.chain([u64::MAX]).map(|limit| welch(&times, limit)).fold(0.0, f64::max);
    let median = |class: Class| {
        let mut of: Vec<u64> = times.iter().filter(|it| it.0 == class).map(|it| it.1).collect();
        of.sort_unstable();
        of[of.len() / 2]
    };
    println!("{name:36}  {samples:>9}  {:>8}  {:>8}  {t:>9.1}", median(Class::Fixed), median(Class::Random));
    (name, t)
}

/// Limits as in `dudect`: dense where few are cropped.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "an index"
)]
fn crop_index(crop: i32, samples: usize) -> usize {
    let share = 1.0 - 0.5_f64.powf(10.0 * f64::from(crop) / f64::from(CROPS));
    ((samples as f64 * share) as usize).min(samples - 1)
}

/// |t| of Welch's test between the classes, among the times up to `limit`.
fn welch(times: &[(Class, u64)], limit: u64) -> f64 {
    let of = |class: Class| {
        let mut moments = Moments::default();
        times.iter().filter(|it| it.0 == class && it.1 <= limit).for_each(|it| moments.add(it.1));
        moments
    };
    let (fixed, random) = (of(Class::Fixed), of(Class::Random));
    let error = (fixed.error_squared() + random.error_squared()).sqrt();
    // Too few to judge, or all alike.
    if fixed.count < 1_000.0 || random.count < 1_000.0 || error == 0.0 {
        return 0.0;
    }
    ((fixed.mean - random.mean) / error).abs()
}

/// Mean and variance as they come (Welford).
#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
    fn add(&mut self, time: u64) {
        self.count += 1.0;
        let difference = time as f64 - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (time as f64 - self.mean);
    }

    fn error_squared(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// `SplitMix64`: not for secrets, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The remainder is uneven by less than a billionth.
        u32::try_from(((mixed ^ (mixed >> 31)) >> 16) % u64::from(bound)).unwrap_or_default()
    }
}
