//! The texts after flags, read strictly.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use bulkhead_sys::signal::Signal;

use super::{CgroupManager, PageServer, Rootless, User};
use crate::log::{Format, Level};
use crate::pattern::Pattern;

/// What is wrong with a value, as the end of a sentence that begins with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem(pub(super) Cow<'static, str>);

type Read<T> = Result<T, Problem>;

fn problem<T>(text: &'static str) -> Read<T> {
    Err(Problem(Cow::Borrowed(text)))
}

/// Takes any text that is UTF-8.
pub(super) fn text(value: &OsStr) -> Read<String> {
    match value.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => problem("is not UTF-8"),
    }
}

/// Takes a regular expression.
pub(super) fn pattern(value: &OsStr) -> Read<Pattern> {
    Pattern::new(&text(value)?).or_else(problem)
}

/// Takes `NAME=VALUE`, of which only the name must not be empty.
pub(super) fn variable(value: &OsStr) -> Read<OsString> {
    match value.as_encoded_bytes().iter().position(|&byte| byte == b'=') {
        Some(0) | None => problem("is not NAME=VALUE"),
        Some(_) => Ok(value.to_owned()),
    }
}

/// Takes what Go's flags take for a switch with `=`.
pub(super) fn boolean(value: &OsStr) -> Read<bool> {
    match value.as_encoded_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
        _ => problem("is neither true nor false"),
    }
}

/// Takes a decimal number without sign.
pub(super) fn unsigned(value: &OsStr) -> Read<u64> {
    digits(value).map_or_else(|| problem("is not a whole number from 0 to 18446744073709551615"), Ok)
}

/// Takes a decimal number, negative too.
pub(super) fn signed(value: &OsStr) -> Read<i64> {
    let text = value.to_str().unwrap_or_default();
    let digits = text.strip_prefix('-').unwrap_or(text);
    match text.parse() {
        Ok(number) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => problem("is not a whole number of at most 64 bits"),
    }
}

/// Takes how many descriptors are passed on: no process can have more than `i32::MAX`.
pub(super) fn descriptors(value: &OsStr) -> Read<u32> {
    match digits(value) {
        Some(count) if count <= 0x7fff_fff0 => Ok(count as u32),
        _ => problem("is not a number of file descriptors"),
    }
}

/// Takes a descriptor that somebody waits at; a negative number is none, as in runc.
pub(super) fn status_descriptor(value: &OsStr) -> Read<Option<i32>> {
    match signed(value).map(i32::try_from) {
        Ok(Ok(number)) => Ok(Some(number).filter(|&number| number >= 0)),
        _ => problem("is not the number of a file descriptor"),
    }
}

/// DEFAULT of `criu_cg_mode`.
pub(super) const DEFAULT_CGROUPS_MODE: u8 = 6;

/// Takes what CRIU does about cgroups, as its `criu_cg_mode` has it.
pub(super) fn cgroups_mode(value: &OsStr) -> Read<u8> {
    match value.as_encoded_bytes() {
        b"" => Ok(DEFAULT_CGROUPS_MODE),
        b"ignore" => Ok(0),
        b"soft" => Ok(3),
        b"full" => Ok(4),
        b"strict" => Ok(5),
        _ => problem("is none of soft, full, strict and ignore"),
    }
}

/// Takes the kind of a namespace that is restored empty.
pub(super) fn empty_namespace(value: &OsStr) -> Read<()> {
    if value == "network" { Ok(()) } else { problem("is not supported: only network is") }
}

/// Takes `ADDRESS:PORT`, where an IPv6 address is in brackets.
pub(super) fn page_server(value: &OsStr) -> Read<PageServer> {
    let server = value.to_str().and_then(|text| {
        let (address, port) = text.rsplit_once(':')?;
        let inner = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        let address = inner.or_else(|| Some(address).filter(|address| !address.contains(':')))?;
        let port = digits(OsStr::new(port)).and_then(|port| u16::try_from(port).ok())?;
        (!address.is_empty() && port != 0).then(|| PageServer { address: address.to_owned(), port })
    });
    server.map_or_else(|| problem("is not ADDRESS:PORT"), Ok)
}

/// Takes a block I/O weight; 0 leaves it as it is, as in runc.
pub(super) fn weight(value: &OsStr) -> Read<Option<u16>> {
    match digits(value) {
        Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(weight as u16)),
        _ => problem("is not a weight from 10 to 1000"),
    }
}

/// Takes 0 or 1.
pub(super) fn zero_or_one(value: &OsStr) -> Read<i64> {
    match value.as_encoded_bytes() {
        b"0" => Ok(0),
        b"1" => Ok(1),
        _ => problem("is neither 0 nor 1"),
    }
}

/// Takes a user or group id.
///
/// The largest 32-bit number is refused: to setresuid(2) and its kin it means "leave as it is", and a
/// process that should lose root would keep it.
pub(super) fn id(value: &OsStr) -> Read<u32> {
    match digits(value) {
        Some(id) if id < u64::from(u32::MAX) => Ok(id as u32),
        _ => problem("is not a decimal id from 0 to 4294967294"),
    }
}

/// Takes `UID` or `UID:GID`; names are refused, because only the container's own files could explain them.
pub(super) fn user(value: &OsStr) -> Read<User> {
    const EXPECTED: &str = "is not UID or UID:GID, each a decimal number from 0 to 4294967294";
    let text = value.to_str().unwrap_or_default();
    let read = |text: &str| id(OsStr::new(text)).or_else(|_| problem(EXPECTED));
    match text.split_once(':') {
        None => Ok(User { uid: read(text)?, gid: None }),
        Some((uid, gid)) => Ok(User { uid: read(uid)?, gid: Some(read(gid)?) }),
    }
}

/// Takes a signal's number or name.
pub(super) fn signal(value: &OsStr) -> Read<Signal> {
    value.to_str().and_then(Signal::from_text).map_or_else(|| problem("is not a signal"), Ok)
}

/// Takes a length of time above zero as Go writes it: `5s`, `100ms`, `1m30s`, `1.5h`.
pub(super) fn duration(value: &OsStr) -> Read<Duration> {
    match value.to_str().and_then(nanoseconds) {
        None => problem("is not a length of time such as 5s, 100ms or 1m30s"),
        Some(0) => problem("is not greater than 0"),
        Some(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
    }
}

fn nanoseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    if matches!(text, "0" | "+0" | "-0") {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| c != '.' && !c.is_ascii_digit())?);
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let &(_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = times(number, factor)?;
        total = total.checked_add(part).filter(|&sum| i64::try_from(sum).is_ok())?;
        rest = next;
    }
    (!text.is_empty() && text != "+").then_some(total)
}

/// Takes a size as docker and runc write it: `1048576`, `512M`, `1.5GiB`; every unit is a power of 1024.
/// `-1` means no limit.
pub(super) fn size(value: &OsStr) -> Read<i64> {
    const EXPECTED: &str = "is not a size in bytes such as 1048576, 512M or -1";
    let text = value.to_str().unwrap_or_default();
    if text == "-1" {
        return Ok(-1);
    }
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    // One space may come before a unit, but not after a bare number.
    let unit = unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" if unit.is_empty() => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return problem(EXPECTED),
    };
    let bytes = times(number, 1 << (10 * power)).and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map_or_else(|| problem(EXPECTED), Ok)
}

/// Takes a form of output.
pub(super) fn is_json(value: &OsStr) -> Read<bool> {
    match value.as_encoded_bytes() {
        b"json" => Ok(true),
        b"table" => Ok(false),
        _ => problem("is neither table nor json"),
    }
}

/// Takes a form of log lines.
pub(super) fn log_format(value: &OsStr) -> Read<Format> {
    match value.as_encoded_bytes() {
        b"text" => Ok(Format::Text),
        b"json" => Ok(Format::Json),
        _ => problem("is neither text nor json"),
    }
}

/// Takes a level of the log, also as logrus spells it.
pub(super) fn log_level(value: &OsStr) -> Read<Level> {
    match value.as_encoded_bytes() {
        b"error" => Ok(Level::Error),
        b"warn" | b"warning" => Ok(Level::Warning),
        b"info" => Ok(Level::Info),
        b"debug" => Ok(Level::Debug),
        _ => problem("is none of error, warning, info and debug"),
    }
}

/// Takes a truth value or `auto`.
pub(super) fn rootless(value: &OsStr) -> Read<Rootless> {
    if value.eq_ignore_ascii_case("auto") {
        return Ok(Rootless::Auto);
    }
    match boolean(value) {
        Ok(true) => Ok(Rootless::Yes),
        Ok(false) => Ok(Rootless::No),
        Err(_) => problem("is none of auto, true and false"),
    }
}

/// Takes the name of a maker of cgroups.
pub(super) fn cgroup_manager(value: &OsStr) -> Read<CgroupManager> {
    match value.as_encoded_bytes() {
        b"cgroupfs" => Ok(CgroupManager::Cgroupfs),
        b"systemd" => Ok(CgroupManager::Systemd),
        b"disabled" => Ok(CgroupManager::Disabled),
        _ => problem("is none of cgroupfs, systemd and disabled"),
    }
}

/// Multiplies a decimal number that may have a fraction; what is below one unit is cut off.
fn times(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond the 18th cannot change the result, and 18 of them times 2^50 still fit.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let below_one = u64::try_from(fraction * u128::from(factor) / scale).ok()?;
    whole.checked_mul(factor)?.checked_add(below_one)
}

/// Reads decimal digits and nothing else: `str::parse` alone would take a `+`.
fn digits(value: &OsStr) -> Option<u64> {
    let text = value.to_str()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn all<T>(read: impl Fn(&OsStr) -> Read<T>, texts: &[&str]) -> Vec<Option<T>> {
        texts.iter().map(|text| read(OsStr::new(text)).ok()).collect()
    }

    #[test]
    fn a_user_is_one_or_two_decimal_numbers() {
        let user = |uid, gid| Some(User { uid, gid });
        let read = |text| super::user(OsStr::new(text)).ok();
        assert_eq!(read("0"), user(0, None));
        assert_eq!(read("1000"), user(1000, None));
        assert_eq!(read("1000:100"), user(1000, Some(100)));
        assert_eq!(read("007:0"), user(7, Some(0)));
        assert_eq!(read("4294967294:4294967294"), user(4_294_967_294, Some(4_294_967_294)));
    }

    #[test]
    fn whatever_could_become_another_user_is_refused() {
        // The rows of CVE-2016-3697 (a name of digits) and CVE-2026-30892 (a lenient parser), and -1, which
        // setresuid(2) takes for "no change".
        for text in [
            "",
            ":",
            "root",
            "1000x",
            "x1000",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1\n",
            "0x10",
            "1e3",
            "1_000",
            "1.0",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "99999999999999999999999",
            "0:",
            ":0",
            "0:-1",
            "0:+1",
            "0: 1",
            "0:users",
            "0:4294967295",
            "0:0:0",
            "0,0",
            "١",
        ] {
            assert!(user(OsStr::new(text)).is_err(), "{text:?} was accepted");
        }
        assert!(user(OsStr::from_bytes(b"1\xff")).is_err());
    }

    #[test]
    fn numbers_are_plain_decimal() {
        assert_eq!(all(unsigned, &["0", "18446744073709551615"]), [Some(0), Some(u64::MAX)]);
        assert_eq!(all(unsigned, &["-1", "+1", "1 ", "", "18446744073709551616", "0x1"]), [None; 6]);
        assert_eq!(all(signed, &["-1", "7", "-9223372036854775808"]), [Some(-1), Some(7), Some(i64::MIN)]);
        assert_eq!(all(signed, &["+1", "--1", "-", "", "9223372036854775808"]), [None; 5]);
        assert_eq!(all(weight, &["0", "10", "1000"]), [Some(None), Some(Some(10)), Some(Some(1000))]);
        assert_eq!(all(weight, &["9", "1001", "66000", "-10"]), [None; 4]);
        assert_eq!(all(descriptors, &["0", "3", "2147483647", "-1"]), [Some(0), Some(3), None, None]);
    }

    #[test]
    fn a_duration_is_written_as_in_go() {
        let table = [
            ("5s", 5_000_000_000),
            ("100ms", 100_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+3us", 3_000),
            ("3µs", 3_000),
            ("1ns", 1),
            ("1h0m0.25s", 3_600_250_000_000),
        ];
        for (text, nanoseconds) in table {
            assert_eq!(duration(OsStr::new(text)), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1s",
            "-0",
            "5",
            "s",
            ".s",
            "1..5s",
            "5 s",
            "5sec",
            "1d",
            "+",
            "5s ",
            "99999999999h",
            "2562048h",
            "1.2.3s",
        ] {
            assert!(duration(OsStr::new(text)).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_size_is_written_as_in_docker() {
        let table = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("512mb", 512 << 20),
            ("512MiB", 512 << 20),
            ("32 kB", 32 << 10),
            ("1.5G", 3 << 29),
            ("1.5k", 1536),
            (".5k", 512),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("10b", 10),
            ("0.0001k", 0),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(size(OsStr::new(text)), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "-2",
            "-1M",
            "M",
            "1MM",
            "1i",
            "1ib",
            "1.2.3",
            ".",
            "1e3",
            "9223372036854775808",
            "9999999p",
            "1  k",
            "1 ",
            "0x10",
            "+1",
        ] {
            assert!(size(OsStr::new(text)).is_err(), "{text:?} was accepted as {:?}", size(OsStr::new(text)));
        }
    }

    #[test]
    fn the_environment_takes_any_bytes_after_a_name() {
        assert!(variable(OsStr::new("A=")).is_ok() && variable(OsStr::from_bytes(b"A=\xff")).is_ok());
        assert!(variable(OsStr::new("=x")).is_err() && variable(OsStr::new("A")).is_err());
    }
}
