//! Every call to the proxy, each with an answer that is no panic.
//!
//! The wrappers of the Rust SDK panic on a status they do not expect and on header bytes that are not UTF-8; in Envoy a
//! panic kills the worker's VM, so a client could do that.

use peergate_policy::UnixTime;

/// The proxy refused a call, or lacks it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HostCallError;

/// A header's name and value, as bytes.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// `proxy_map_type_t` of ABI 0.2.1.
#[derive(Clone, Copy)]
pub(crate) enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
}

/// `proxy_log_level_t`.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// `proxy_stream_type_t`.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Downstream = 2,
    Upstream = 3,
}

/// `proxy_buffer_type_t`.
const PLUGIN_CONFIGURATION: u32 = 7;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, data: *const u8, size: usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

/// Writes one line to the proxy's log. A log that fails changes no decision.
pub(crate) fn log(level: Level, message: &str) {
    // SAFETY: the proxy only reads `message.len()` bytes.
    let _ = unsafe { proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// `proxy_metric_type_t`.
const COUNTER: u32 = 0;
const HISTOGRAM: u32 = 2;

/// The counter of that name, made if it is not there yet.
pub(crate) fn define_counter(name: &str) -> Result<u32, HostCallError> {
    define_metric(COUNTER, name)
}

/// The histogram of that name, made if it is not there yet.
pub(crate) fn define_histogram(name: &str) -> Result<u32, HostCallError> {
    define_metric(HISTOGRAM, name)
}

fn define_metric(kind: u32, name: &str) -> Result<u32, HostCallError> {
    let mut id = 0;
    // SAFETY: the proxy reads `name` and writes one u32.
    done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Adds one to a counter. One that fails changes no decision.
pub(crate) fn increment(id: u32) {
    // SAFETY: no memory is involved.
    let _ = unsafe { proxy_increment_metric(id, 1) };
}

/// Records a value into a histogram. One that fails changes no decision.
pub(crate) fn record(id: u32, value: u64) {
    // SAFETY: no memory is involved.
    let _ = unsafe { proxy_record_metric(id, value) };
}

/// The wall clock, in nanoseconds since 1970.
pub(crate) fn clock() -> Result<u64, HostCallError> {
    let mut nanoseconds = 0;
    // SAFETY: the proxy writes one u64.
    done(unsafe { proxy_get_current_time_nanoseconds(&raw mut nanoseconds) })?;
    Ok(nanoseconds)
}

/// What the clock said.
pub(crate) fn instant(nanoseconds: u64) -> UnixTime {
    let rest = u32::try_from(nanoseconds % SECOND).unwrap_or_default();
    UnixTime::new((nanoseconds / SECOND).cast_signed(), rest)
}

/// The wall clock.
pub(crate) fn now() -> Result<UnixTime, HostCallError> {
    clock().map(instant)
}

/// A property; `None` where the proxy does not have it.
pub(crate) fn property(path: &[&str]) -> Result<Option<Vec<u8>>, HostCallError> {
    let path = path.join("\0");
    // SAFETY: the proxy reads `path` and writes one pointer and one size.
    received(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Stores a property for access logs and native filters (filter state `wasm.<key>` in Envoy). A proxy that cannot store
/// it changes no decision.
pub(crate) fn set_property(key: &str, value: &[u8]) {
    // SAFETY: the proxy only reads both.
    let _ = unsafe { proxy_set_property(key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
}

/// The plugin configuration; `None` where there is none.
pub(crate) fn plugin_configuration() -> Result<Option<Vec<u8>>, HostCallError> {
    // SAFETY: the proxy writes one pointer and one size.
    received(|data, size| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, data, size) })
}

/// All headers of a map.
pub(crate) fn headers(map: Map) -> Result<Vec<Pair>, HostCallError> {
    // SAFETY: the proxy writes one pointer and one size.
    let bytes = received(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) })?;
    bytes.map_or(Ok(Vec::new()), |bytes| deserialized(&bytes).ok_or(HostCallError))
}

/// Removes every header of that name.
pub(crate) fn remove_header(map: Map, name: &[u8]) -> Result<(), HostCallError> {
    // SAFETY: the proxy only reads `name`.
    done(unsafe { proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Adds a request header.
pub(crate) fn add_request_header(name: &str, value: &str) -> Result<(), HostCallError> {
    let map = Map::RequestHeaders as u32;
    // SAFETY: the proxy only reads both.
    done(unsafe { proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Answers the request in place of the upstream. Envoy turns 403 into `grpc-status: 7` for gRPC requests by itself.
pub(crate) fn send_response(
    status: u32,
    details: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(), HostCallError> {
    let headers = serialized(headers);
    // SAFETY: the proxy only reads these. -1 means no gRPC status.
    done(unsafe {
        proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

/// Closes one side of a TCP connection.
pub(crate) fn close(side: Side) {
    // SAFETY: no memory is involved. If the proxy refuses, the caller still answers `Pause` for ever.
    let _ = unsafe { proxy_close_stream(side as u32) };
}

fn done(status: u32) -> Result<(), HostCallError> {
    if status == OK { Ok(()) } else { Err(HostCallError) }
}

/// Takes over memory that the proxy has allocated by this module's `proxy_on_memory_allocate`.
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Option<Vec<u8>>, HostCallError> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    match call(&raw mut data, &raw mut size) {
        OK if data.is_null() => Ok(None),
        // SAFETY: `proxy_on_memory_allocate` made a boxed slice of exactly `size` bytes and forgot it.
        OK => Ok(Some(unsafe { Vec::from_raw_parts(data, size, size) })),
        NOT_FOUND => Ok(None),
        _ => Err(HostCallError),
    }
}

/// Count, then the sizes of all names and values, then each with a NUL behind it (proxy-wasm ABI, serialised maps).
fn deserialized(bytes: &[u8]) -> Option<Vec<Pair>> {
    let word = |index: usize| -> Option<usize> {
        let start = index.checked_mul(4)?;
        let bytes = bytes.get(start..start.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let count = word(0)?;
    let mut position = count.checked_mul(8)?.checked_add(4)?;
    let mut take = |size: usize| -> Option<Vec<u8>> {
        let end = position.checked_add(size)?;
        let text = bytes.get(position..end)?.to_vec();
        position = end.checked_add(1)?;
        Some(text)
    };
    (0..count).map(|index| Some((take(word(1 + index * 2)?)?, take(word(2 + index * 2)?)?))).collect()
}

fn serialized(pairs: &[(&str, &str)]) -> Vec<u8> {
    let word = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = word(pairs.len()).to_vec();
    for (name, value) in pairs {
        bytes.extend(word(name.len()));
        bytes.extend(word(value.len()));
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}
