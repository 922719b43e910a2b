//! Attempts on other processes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use bulkhead_sys::trace::{self, Event};
use bulkhead_sys::{self as sys, Call as _};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::{Attempt, MOST, Words};
use crate::error::Result;

pub(super) fn read_memory(words: &Words) -> Result<Attempt> {
    let (pid, address, length) =
        (words.number::<u32>(0)?, words.number::<u64>(1)?, words.number::<usize>(2)?);
    let path = format!("/proc/{pid}/mem");
    let opened = OpenOptions::new().read(true).open(&path).call(|| format!("openat({path:?}, O_RDONLY)"));
    Ok(opened.and_then(|memory| {
        let mut bytes = vec![0; length.min(MOST)];
        memory.read_exact_at(&mut bytes, address).call(|| format!("pread64({path:?}, {address:#x})"))?;
        Ok(bytes)
    }))
}

pub(super) fn write_memory(words: &Words) -> Result<Attempt> {
    let (pid, address, text) = (words.number::<u32>(0)?, words.number::<u64>(1)?, words.text(2)?);
    let path = format!("/proc/{pid}/mem");
    let opened = OpenOptions::new().write(true).open(&path).call(|| format!("openat({path:?}, O_WRONLY)"));
    Ok(opened.and_then(|memory| {
        memory.write_all_at(text.as_bytes(), address).call(|| format!("pwrite64({path:?}, {address:#x})"))?;
        Ok(Vec::new())
    }))
}

pub(super) fn trace(words: &Words) -> Result<Attempt> {
    Ok(traced(words.number(0)?, words.number(1)?))
}

fn traced(pid: i32, address: usize) -> Attempt {
    trace::seize(pid)?;
    trace::interrupt(pid)?;
    loop {
        match trace::next(pid)? {
            Some((_, Event::Trap | Event::Stopped(_))) => break,
            // It was about to receive a signal, and shall have it.
            Some((_, Event::Signal(signal))) => trace::resume(pid, signal)?,
            Some((_, Event::Ended)) | None => {
                return Err(sys::Error::new(format!("ptrace(INTERRUPT, {pid})"), Errno::SRCH));
            }
            Some(_) => trace::resume(pid, 0)?,
        }
    }
    let word = trace::peek(pid, address);
    trace::release(pid)?;
    word.map(Vec::from)
}

pub(super) fn signal(words: &Words) -> Result<Attempt> {
    let number = words.number(0)?;
    let sent = Pid::from_raw(number)
        .ok_or(Errno::INVAL)
        .and_then(|pid| rustix::process::kill_process(pid, Signal::USR1));
    Ok(sent.call(|| format!("kill({number}, SIGUSR1)")).map(|()| Vec::new()))
}
