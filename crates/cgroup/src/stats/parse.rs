//! The few forms in which the kernel writes numbers.

use std::str::FromStr;

use super::{Pressure, RdmaEntry, Stall};
use crate::decimal;
use crate::dir::Dir;
use crate::error::{Error, Result};

/// Says which line of which file was not understood.
pub(super) fn malformed(dir: &Dir, file: &str, line: &str) -> Error {
    Error::Malformed { file: format!("{}/{file}", dir.path()), line: line.to_owned() }
}

/// Reads a file of one number, `max` being the largest; `None` where the kernel has no such file.
pub(super) fn number(dir: &Dir, file: &str) -> Result<Option<u64>> {
    let Some(text) = dir.read_if_there(file)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(Some(u64::MAX)),
        text => text.parse().map(Some).map_err(|_| malformed(dir, file, text)),
    }
}

/// Reads a file of lines `key number`; empty where the kernel has no such file.
pub(super) fn pairs(dir: &Dir, file: &str) -> Result<Vec<(String, u64)>> {
    let Some(text) = dir.read_if_there(file)? else { return Ok(Vec::new()) };
    text.lines()
        .map(|line| {
            let pair = line
                .split_once(' ')
                .and_then(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)));
            pair.ok_or_else(|| malformed(dir, file, line))
        })
        .collect()
}

/// Finds one key of a file of lines `key number`.
pub(crate) fn value_of(dir: &Dir, file: &str, key: &str) -> Result<Option<u64>> {
    Ok(pairs(dir, file)?.into_iter().find(|(name, _)| name == key).map(|(_, value)| value))
}

/// Reads numbers separated by blanks.
pub(super) fn numbers<T: FromStr>(dir: &Dir, file: &str, text: &str) -> Result<Vec<T>> {
    text.split_whitespace().map(|word| word.parse().map_err(|_| malformed(dir, file, text.trim()))).collect()
}

/// Reads a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then the same with `full`.
pub(super) fn pressure(dir: &Dir, file: &str) -> Result<Option<Pressure>> {
    let Some(text) = dir.read_if_there(file)? else { return Ok(None) };
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let bad = || malformed(dir, file, line);
        let mut words = line.split_whitespace();
        let stall = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        *stall = stall_of(words).ok_or_else(bad)?;
    }
    Ok(Some(pressure))
}

fn stall_of<'a>(words: impl Iterator<Item = &'a str>) -> Option<Stall> {
    let mut stall = Stall::default();
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "avg10" => stall.avg10 = decimal::scaled(value, 2)? as f64 / 100.0,
            "avg60" => stall.avg60 = decimal::scaled(value, 2)? as f64 / 100.0,
            "avg300" => stall.avg300 = decimal::scaled(value, 2)? as f64 / 100.0,
            "total" => stall.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

/// Reads lines `device hca_handle=2 hca_object=max`, the same in v1 and v2.
pub(super) fn rdma(dir: &Dir, file: &str) -> Result<Vec<RdmaEntry>> {
    let text = dir.read_if_there(file)?.unwrap_or_default();
    text.lines().map(|line| rdma_entry(line).ok_or_else(|| malformed(dir, file, line))).collect()
}

fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let mut words = line.split_whitespace();
    let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
    for word in words {
        let (key, value) = word.split_once('=')?;
        let value = if value == "max" { u32::MAX } else { value.parse().ok()? };
        match key {
            "hca_handle" => entry.handles = value,
            "hca_object" => entry.objects = value,
            _ => {}
        }
    }
    Some(entry)
}

/// Lists the page sizes (`2MB`) whose files a directory has, told by the given end of their names.
pub(super) fn page_sizes(dir: &Dir, suffix: &str) -> Result<Vec<String>> {
    let names = dir.files()?;
    let size = |name: &String| Some(name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
    Ok(names.iter().filter_map(size).filter(|size| !size.contains('.')).collect())
}
