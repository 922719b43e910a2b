//! A program that was started, and how it ended.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_sys::offspring::{self, Offspring};
use rustix::process::{Signal, WaitStatus, kill_process};

use super::place::Room;
use crate::error::{Error, Result};

/// What a server has until it serves, a client for the rest beside its work, and anything until it has ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// How a program ends that was not there to be executed.
const NOT_EXECUTED: u8 = 127;

/// A program that runs; it is killed when this is dropped, and by the kernel when this process ends.
#[derive(Debug)]
pub(super) struct Running {
    child: Offspring,
    name: &'static str,
    output: PathBuf,
    complaints: PathBuf,
}

/// Starts `command`, whose output goes to files in the room.
pub(super) fn start(room: &Room, name: &'static str, command: &mut Command) -> Result<Running> {
    let [output, complaints] = ["output", "complaints"].map(|kind| room.join(format!("{name}.{kind}")));
    let file = |path| File::create(path).map_err(Error::io("make a file for a program's output"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", room.path());
    command.env("TMPDIR", room.path()).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(file(&output)?).stderr(file(&complaints)?);
    let mut late = file(&complaints)?;
    let child = offspring::fork(|| {
        use std::io::Write as _;
        let error = command.exec();
        // Whoever started it reads this and the status, or neither.
        let _ = write!(late, "{}: {error}", command.get_program().display());
        NOT_EXECUTED
    })?;
    Ok(Running { child, name, output, complaints })
}

/// A port of the loopback device that nobody has now.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(Error::io("find a free port of the loopback device"))?.port())
}

impl Running {
    /// Waits until it is ready, as `is_ready` sees it, which may look at what it has printed.
    pub(super) fn ready(&mut self, mut is_ready: impl FnMut(&str) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_ready(&self.printed()) {
            if let Some(status) = self.child.ended()? {
                return Err(self.failure(status));
            }
            if Instant::now() >= end {
                let words = self.last_words();
                return Err(Error::Wrong(format!("{} did not come to serve: {words}", self.name)));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits for its end, and returns what it printed.
    pub(super) fn finish(mut self, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            match self.child.ended()? {
                Some(status) if status.exit_status() == Some(0) => return Ok(self.printed()),
                Some(status) => return Err(self.failure(status)),
                None if Instant::now() >= end => {
                    let words = self.last_words();
                    return Err(Error::Wrong(format!("{} did not end: {words}", self.name)));
                }
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// Asks it to end by a signal, after which it must end well.
    pub(super) fn stop(self, signal: Signal) -> Result<()> {
        self.ask(signal)?;
        self.finish(PATIENCE).map(drop)
    }

    /// Asks it to end by a signal; how it ends does not matter.
    pub(super) fn ended_by(mut self, signal: Signal) -> Result<()> {
        self.ask(signal)?;
        let end = Instant::now() + PATIENCE;
        while self.child.ended()?.is_none() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn ask(&self, signal: Signal) -> Result<()> {
        let asked = kill_process(self.child.pid(), signal);
        asked.map_err(|errno| Error::io("send a signal to a server")(errno.into()))
    }

    fn printed(&self) -> String {
        // What cannot be read is missing from what was printed, and whoever reads that says so.
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    fn failure(&self, status: WaitStatus) -> Error {
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "nobody knows how".to_owned(),
        };
        Error::Wrong(format!("{} ended with {how}: {}", self.name, self.last_words()))
    }

    /// The last line of its complaints, or of its output: clients put their errors there.
    fn last_words(&self) -> String {
        let texts = [&self.complaints, &self.output].map(|file| std::fs::read(file).unwrap_or_default());
        let texts = texts.map(|text| String::from_utf8_lossy(&text).into_owned());
        let last = |text: &String| {
            let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
            Some(line.trim().chars().take(300).collect::<String>())
        };
        texts.iter().find_map(last).unwrap_or_else(|| "it said nothing".to_owned())
    }
}
