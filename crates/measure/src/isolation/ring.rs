//! The binary form of the tracer's buffers, as `trace_pipe_raw` gives it: pages of records.
//!
//! ```text
//!   page    u64 time of the first record · u64 length of what follows (its upper bits: records were lost) · records
//!   record  u32: 5 bits type and length, 27 bits time since the last one · payload
//!           1..=28   payload of so many words of 4 bytes
//!           0        the first word of the payload is its length, itself included
//!           29       filler: nothing follows, or so many bytes as the next word says
//!           30, 31   4 bytes more of time
//!   event   u16 which event · u8 flags · u8 preemption · i32 task · what its format says
//! ```

/// The header of a page, bytes.
const HEADER: usize = 16;

/// Bits of a page's length that say that records were lost.
const LOST: u64 = 3 << 30;

/// Flags of an event: it was recorded in an interrupt of the hardware, one of software, or one that nothing masks.
const INTERRUPTED: u8 = 0x08 | 0x10 | 0x40;

/// An event in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// As its format says.
    pub(crate) id: u16,
    /// The task (thread) that ran.
    pub(crate) task: u32,
    /// Whether it merely happened while the task ran.
    pub(crate) in_interrupt: bool,
    /// The event from its first byte.
    pub(crate) bytes: &'a [u8],
}

/// Where fields of an event lie, bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// The event.
    pub(crate) id: u16,
    /// The field that was asked for.
    pub(crate) field: usize,
}

impl Format {
    /// Reads a file `format`; None when it has no such field.
    pub(crate) fn read(text: &str, field: &str) -> Option<Self> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        let line = text.lines().find(|line| {
            let declared = line.trim().strip_prefix("field:").and_then(|rest| rest.split(';').next());
            declared.is_some_and(|declared| declared.split([' ', '*']).next_back() == Some(field))
        })?;
        let offset = line.split(';').find_map(|part| part.trim().strip_prefix("offset:"))?;
        Some(Self { id, field: offset.parse().ok()? })
    }
}

impl Event<'_> {
    /// Eight bytes at `offset`; None where the event is shorter.
    pub(super) fn u64_at(&self, offset: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes.get(offset..offset + 8)?.try_into().ok()?))
    }

    /// Four bytes at `offset`.
    pub(super) fn u32_at(&self, offset: usize) -> Option<u32> {
        word(self.bytes, offset)
    }
}

/// Hands over every event of a page, in their order. What cannot be understood ends the page.
pub(crate) fn events(page: &[u8], mut hear: impl FnMut(Event<'_>)) {
    let Some(length) = page.get(8..HEADER).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes)
    else {
        return;
    };
    let length = usize::try_from(length & !LOST).unwrap_or(usize::MAX);
    let Some(mut rest) = page.get(HEADER..HEADER.saturating_add(length).min(page.len())) else { return };
    while let Some(first) = word(rest, 0) {
        let kind = first & 0x1f;
        let (payload, size) = match kind {
            0 => {
                let Some(length) = word(rest, 4).map(|length| length as usize) else { return };
                (8, 4 + length)
            }
            1..=28 => (4, 4 + kind as usize * 4),
            // A filler without a time ends the page.
            29 if first >> 5 == 0 => return,
            29 => {
                let Some(length) = word(rest, 4).map(|length| length as usize) else { return };
                (0, 4 + length)
            }
            _ => (0, 8),
        };
        if size < 8 || rest.len() < size {
            return;
        }
        if payload > 0
            && let Some(event) = event(&rest[payload..size])
        {
            hear(event);
        }
        rest = &rest[size..];
    }
}

fn event(bytes: &[u8]) -> Option<Event<'_>> {
    let id = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let flags = *bytes.get(2)?;
    Some(Event { id, task: word(bytes, 4)?, in_interrupt: flags & INTERRUPTED != 0, bytes })
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of an event: which, flags, task, and one more number.
    fn payload(id: u16, flags: u8, task: u32, number: u64) -> Vec<u8> {
        let head = u32::from(id) | u32::from(flags) << 16;
        [&head.to_ne_bytes()[..], &task.to_ne_bytes(), &number.to_ne_bytes()].concat()
    }

    fn page(records: &[Vec<u8>], lost: bool) -> Vec<u8> {
        let body = records.concat();
        let length = body.len() as u64 | if lost { 1 << 31 } else { 0 };
        let mut page = [&7_u64.to_ne_bytes()[..], &length.to_ne_bytes(), &body].concat();
        page.resize(4096, 0xee);
        page
    }

    fn short(payload: &[u8]) -> Vec<u8> {
        [&((payload.len() as u32 / 4) | (9 << 5)).to_ne_bytes()[..], payload].concat()
    }

    fn long(payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32 + 4;
        [&(3_u32 << 5).to_ne_bytes()[..], &length.to_ne_bytes(), payload].concat()
    }

    fn told(page: &[u8]) -> Vec<(u16, u32, bool, Option<u64>)> {
        let mut told = Vec::new();
        events(page, |event| told.push((event.id, event.task, event.in_interrupt, event.u64_at(8))));
        told
    }

    #[test]
    fn all_kinds_of_records_are_understood() {
        let time = [&(30_u32 | 1 << 5).to_ne_bytes()[..], &5_u32.to_ne_bytes()].concat();
        let filler = [&(29_u32 | 1 << 5).to_ne_bytes()[..], &8_u32.to_ne_bytes(), &[0; 4]].concat();
        let end = 29_u32.to_ne_bytes().to_vec();
        let one = payload(1, 0, 100, 0xffff_ffff_8100_0000);
        let other = payload(443, 0x08, 101, 39);
        let records = [short(&one), time, long(&other), filler, short(&one), end, short(&one)];
        let expected = [
            (1, 100, false, Some(0xffff_ffff_8100_0000)),
            (443, 101, true, Some(39)),
            (1, 100, false, Some(0xffff_ffff_8100_0000)),
        ];
        assert_eq!(told(&page(&records, false)), expected);
        assert_eq!(told(&page(&records, true)), expected, "a page after which records were lost");
    }

    #[test]
    fn nothing_makes_it_read_beyond_a_page() {
        let one = short(&payload(1, 0, 100, 1));
        for cut in 0..one.len() + HEADER {
            assert_eq!(told(&page(std::slice::from_ref(&one), false)[..cut]), [], "an event in {cut} bytes");
        }
        let endless = [&0_u32.to_ne_bytes()[..], &u32::MAX.to_ne_bytes()].concat();
        let empty = [&0_u32.to_ne_bytes()[..], &0_u32.to_ne_bytes()].concat();
        for record in [endless, empty] {
            assert_eq!(told(&page(&[record], false)), []);
        }
        let mut huge = page(&[one], false);
        huge[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert_eq!(told(&huge).first(), Some(&(1, 100, false, Some(1))));
    }

    #[test]
    fn formats_are_read() {
        let text = "name: sched_process_fork\nID: 366\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
                    \n\tfield:__data_loc char[] parent_comm;\toffset:8;\tsize:4;\tsigned:0;\n\
                    \tfield:pid_t parent_pid;\toffset:12;\tsize:4;\tsigned:1;\n\tfield:pid_t child_pid;\toffset:20;\tsize:4;\tsigned:1;\n";
        assert_eq!(Format::read(text, "child_pid"), Some(Format { id: 366, field: 20 }));
        assert_eq!(Format::read(text, "pid"), None);
    }
}
