//! Kernel stacks that were sampled while processes ran, perf_event_open(2): which functions a stack holds ran, and what no
//! sample hit may have run all the same.
//!
//! ```text
//!   record  u32 kind · u16 · u16 its length, this head included
//!   sample  kind 9: u32 process · u32 task · u64 how many words follow · return addresses, the innermost first
//!   lost    kind 2: u64 event · u64 how many records found no room
//! ```

use std::path::PathBuf;

use bulkhead_sys::sample::Sampler;

/// Time in the kernel between two samples, nanoseconds: short, since what is watched is not timed.
const PERIOD: u64 = 50_000;

/// Pages of the buffer by which it is tried.
const TRIED: usize = 1;

const HEAD: usize = 8;
const SAMPLE: u32 = 9;
const LOST: u32 = 2;

/// From here on words of a stack are no addresses, but say of what those that follow are (`PERF_CONTEXT_MAX`).
const MARKS: u64 = u64::MAX - 4094;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The stack of a task, addresses within its functions, the innermost first.
    Stack(u32, Box<[u64]>),
    /// So many found no room.
    Lost(u64),
}

/// Tries whether this kernel lets stacks be sampled.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn try_samples(buffers: &[PathBuf]) -> Result<(), bulkhead_sys::Error> {
    open(0, buffers, TRIED).map(drop)
}

/// Samples the task `pid` and all that it will make, on the processors that have these buffers of the tracer. Samples wait in so many
/// `pages` for each; they are taken out every millisecond or so.
pub(super) fn open(pid: i32, buffers: &[PathBuf], pages: usize) -> Result<Vec<Sampler>, bulkhead_sys::Error> {
    let processors = buffers.iter().filter_map(|buffer| {
        buffer.file_name()?.to_str()?.strip_prefix("cpu").and_then(|number| number.parse::<u32>().ok())
    });
    let opened = processors.map(|processor| Sampler::open(pid, processor, PERIOD, pages));
    // A processor that is off runs nothing.
    opened
        .filter(|opened| !matches!(opened, Err(error) if error.errno() == rustix::io::Errno::NODEV))
        .collect()
}

/// Hands over what whole records say, in their order. What cannot be understood ends them.
pub(crate) fn records(mut rest: &[u8], mut hear: impl FnMut(Record)) {
    while let (Some(kind), Some(length)) = (u32_at(rest, 0), u16_at(rest, 6)) {
        let length = usize::from(length);
        if length < HEAD || rest.len() < length {
            return;
        }
        let (record, behind) = rest.split_at(length);
        match kind {
            SAMPLE => stack(record).into_iter().for_each(&mut hear),
            LOST => u64_at(record, 16).map(Record::Lost).into_iter().for_each(&mut hear),
            _ => {}
        }
        rest = behind;
    }
}

fn stack(record: &[u8]) -> Option<Record> {
    let task = u32_at(record, 12)?;
    let count = usize::try_from(u64_at(record, 16)?).ok()?;
    let words = record.get(24..)?.chunks_exact(8).take(count);
    let words = words.filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
    let addresses = words.filter(|word| *word > 0 && *word < MARKS).enumerate();
    // All but the first are where a call returns to, which may be behind the end of the function that made it.
    let within = addresses.map(|(place, address)| if place == 0 { address } else { address - 1 });
    let within = Box::from_iter(within);
    (!within.is_empty()).then_some(Record::Stack(task, within))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, body: &[u64]) -> Vec<u8> {
        let head = u64::from(kind) | ((HEAD + body.len() * 8) as u64) << 48;
        [head].iter().chain(body).flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn told(bytes: &[u8]) -> Vec<Record> {
        let mut told = Vec::new();
        records(bytes, |record| told.push(record));
        told
    }

    #[test]
    fn stacks_and_losses_are_understood() {
        let kernel = u64::MAX - 127;
        let sample = record(SAMPLE, &[7 | 8 << 32, 3, kernel, 0xffff_ffff_8100_0010, 0xffff_ffff_8100_0100]);
        let throttled = record(5, &[1, 2, 3]);
        let lost = record(LOST, &[1, 40]);
        let none = record(SAMPLE, &[7 | 8 << 32, 0]);
        let bytes = [sample.clone(), throttled, none, lost].concat();
        let stack = Record::Stack(8, Box::new([0xffff_ffff_8100_0010, 0xffff_ffff_8100_00ff]));
        assert_eq!(told(&bytes), [stack.clone(), Record::Lost(40)]);
        for cut in 0..sample.len() {
            assert_eq!(told(&sample[..cut]), [], "a record of {cut} bytes");
        }
        let boastful = record(SAMPLE, &[8 << 32, u64::MAX, 0xffff_ffff_8100_0010, 0xffff_ffff_8100_0100]);
        assert_eq!(told(&boastful), [stack], "more words are read than there are");
        assert_eq!(told(&[0; 64]), [], "a record without a length");
    }

    #[test]
    fn this_process_is_sampled_where_the_kernel_allows_it() {
        let processors = std::fs::read_dir("/sys/devices/system/cpu").unwrap().flatten();
        let processors = Vec::from_iter(processors.map(|entry| entry.path()));
        let mut samplers = match open(0, &processors, 256) {
            Err(error) => bulkhead_testkit::skip!("stacks cannot be sampled: {error}"),
            Ok(samplers) => samplers,
        };
        assert!(!samplers.is_empty(), "no processor was found among {processors:?}");
        let own = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let mut stacks = 0;
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut bytes = Vec::new();
        while stacks == 0 && std::time::Instant::now() < end {
            for _ in 0..1000 {
                std::fs::read("/proc/self/status").unwrap();
            }
            samplers.iter_mut().for_each(|sampler| sampler.drain(&mut bytes));
            records(&std::mem::take(&mut bytes), |record| match record {
                Record::Stack(task, addresses) => {
                    assert_eq!(task, own, "another task was sampled");
                    assert!(addresses.iter().all(|address| *address >= 1 << 63), "{addresses:x?}");
                    stacks += 1;
                }
                Record::Lost(count) => panic!("{count} samples were lost"),
            });
        }
        assert!(stacks > 0, "nothing was sampled");
    }
}
