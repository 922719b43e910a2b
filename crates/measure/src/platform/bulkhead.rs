//! bulkhead: the engine of this project, without a daemon, over `bulkrun`, with a monitor `bulkmon` for each container.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Adapter, Seat, Step, engine, find};
use crate::error::Error;

/// The image of all sandboxes: the store is the arena's alone.
const IMAGE: &str = "root";

/// What the engine starts, as it finds it: beside itself, else in PATH.
const PROGRAMS: [&str; 2] = ["bulkrun", "bulkmon"];

/// Hexadecimal digits of a hash: enough to tell two programs apart.
const DIGITS: usize = 12;

#[derive(Debug)]
pub(super) struct Bulkhead;

impl Bulkhead {
    /// The engine with a store of its own, so that neither a user's containers nor images are touched.
    fn command<Word: AsRef<OsStr>>(program: &Path, seat: &Seat, words: &[Word]) -> Command {
        let mut command = Command::new(program);
        let place = |name: &str| seat.state.join(name);
        command.arg("--root").arg(place("root")).arg("--run").arg(place("run")).args(words);
        command
    }
}

/// Where the engine finds a program of its own.
fn found(program: &Path, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = program.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    places.map(|directory| directory.join(name)).find(|place| find::is_program(place))
}

/// Which programs work for the engine `program`.
pub(super) fn brings(program: &Path) -> Option<String> {
    let told = PROGRAMS.map(|name| {
        let hash = find::hash(&found(program, name)?).ok()?;
        Some(format!("{name} (SHA-256 {})", hash.get(..DIGITS)?))
    });
    let [Some(runtime), Some(monitor)] = told else { return None };
    Some(format!("what works for it is {runtime} and {monitor}"))
}

impl Adapter for Bulkhead {
    fn prepare(&self, program: &Path, seat: &Seat, _: &[String]) -> Result<(), Error> {
        // The first command of all makes the store, which no sandbox should pay for.
        if seat.state.join("root").exists() {
            return Ok(());
        }
        let import = Self::command(program, seat, &["import", "-", IMAGE]);
        let made = engine::import(&import, &seat.root)?;
        made.map_err(|said| Error::Unusable(format!("bulkhead makes no image ({said})"))).inspect_err(|_| {
            // The next sandbox tries again, and hears the same.
            let _ = std::fs::remove_dir_all(seat.state.join("root"));
        })
    }

    fn has_limits(&self) -> bool {
        true
    }

    fn obstacle(&self, program: &Path) -> Option<String> {
        let missing = PROGRAMS.into_iter().find(|name| found(program, name).is_none())?;
        Some(format!("{missing} is neither beside it nor in PATH"))
    }

    fn run(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Command {
        let mut words = engine::run(seat);
        words.push(IMAGE.into());
        words.extend(arguments.iter().map(Into::into));
        Self::command(program, seat, &words)
    }

    fn exec(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        Some(Self::command(program, seat, &engine::exec(seat, arguments)))
    }

    fn create(&self, program: &Path, seat: &Seat, arguments: &[String]) -> Option<Command> {
        let words = engine::create(seat, &[IMAGE.into()], arguments);
        Some(Self::command(program, seat, &words))
    }

    fn printed(&self, program: &Path, seat: &Seat) -> Option<Command> {
        Some(Self::command(program, seat, &engine::logs(seat)))
    }

    fn step(&self, program: &Path, seat: &Seat, step: Step) -> Option<Command> {
        Some(Self::command(program, seat, &engine::step(seat, step)))
    }
}
