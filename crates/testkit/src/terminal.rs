//! Terminals with a test before them in a person's place.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::fail::OrFail;
use crate::run::{Run, Running};

/// How long something may take to be shown, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// The master of a terminal, and all that was read from it.
#[derive(Debug)]
pub struct Screen {
    master: OwnedFd,
    shown: RefCell<String>,
}

impl Screen {
    /// Takes a master, such as one that a runtime has sent.
    pub fn of(master: OwnedFd) -> Screen {
        Screen { master, shown: RefCell::default() }
    }

    /// Types; `"\u{3}"` is Ctrl-C.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[track_caller]
    pub fn type_in(&self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).or_fail(format_args!("type {text:?}"));
    }

    /// Reads on until `text` is among all that was shown.
    ///
    /// # Panics
    /// When that takes longer than 30 s, or the terminal is closed.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.shown.borrow().contains(text) {
            assert!(
                Instant::now() < end && self.read(),
                "{text:?} should appear after {:?}",
                self.shown.borrow()
            );
        }
    }

    /// Returns all that was shown so far.
    pub fn text(&self) -> String {
        self.shown.borrow().clone()
    }

    /// Reads what there is, or waits a moment for it; tells whether more may come.
    fn read(&self) -> bool {
        let mut bytes = [0; 4096];
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        if poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&wait)) == Ok(0) {
            return true;
        }
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(length) if length > 0 => {
                self.shown.borrow_mut().push_str(&String::from_utf8_lossy(&bytes[..length]));
                true
            }
            _ => false,
        }
    }
}

/// A terminal of the caller's, in which commands run in the foreground.
#[derive(Debug)]
pub struct Seat {
    /// What the person before it sees.
    pub screen: Screen,
    terminal: OwnedFd,
    before: Termios,
}

impl Seat {
    /// Makes a terminal of this size.
    ///
    /// # Panics
    /// Where there are no pseudoterminals.
    #[track_caller]
    pub fn new(rows: u16, columns: u16) -> Seat {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).or_fail("make a terminal");
        rustix::pty::unlockpt(&master).or_fail("unlock a terminal");
        let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).or_fail("open a terminal");
        let before = tcgetattr(&terminal).or_fail("read the settings of a terminal");
        let seat = Seat { screen: Screen::of(master), terminal, before };
        seat.resize(rows, columns);
        seat
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// When the kernel refuses it.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).or_fail("resize a terminal");
    }

    /// Starts a command with the terminal as its standard input and output.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(&self, run: Run) -> Running {
        let end = || self.terminal.as_fd().try_clone_to_owned().or_fail("duplicate a terminal");
        run.stdin(end()).stdout(end()).spawn()
    }

    /// Says whether the terminal passes everything on as it is typed.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn is_raw(&self) -> bool {
        let settings = tcgetattr(&self.terminal).or_fail("read the settings of a terminal");
        !settings.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Checks that the terminal is as it was before anything ran in it.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn is_restored(&self) {
        let after = tcgetattr(&self.terminal).or_fail("read the settings of a terminal");
        assert_eq!(after.local_modes, self.before.local_modes, "local modes are restored");
        assert_eq!(after.input_modes, self.before.input_modes, "input modes are restored");
        assert_eq!(after.output_modes, self.before.output_modes, "output modes are restored");
        assert_eq!(after.control_modes, self.before.control_modes, "control modes are restored");
    }
}
