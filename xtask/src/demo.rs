//! `cargo xtask demo [-- COMMAND…]`: a container made of this machine's own files.
//!
//! No image, no network, no daemon: what the container writes lands in a layer in memory that is thrown away,
//! and everything else is the machine as it stands. Without a command, a short tour shows what the container
//! sees beside what the host has.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_measure::interrupt;
use lexopt::Parser;

use self::ground::Layout;
use self::scratch::Scratch;
use self::user::User;
use crate::{invoke, shipped};

mod bundle;
mod ground;
mod leftovers;
mod scratch;
mod tour;
mod user;

const USAGE: &str = "usage: cargo xtask demo [--runtime PROGRAM] [-- COMMAND…]";

/// How often an empty program is started to tell the time of a start.
const STARTS: usize = 10;

/// How long the container may take to end by itself when the demo is interrupted: it has the signal too, but the
/// first process of a pid namespace is ended only by signals that it handles.
const GRACE: Duration = Duration::from_secs(1);

/// What was typed.
struct Arguments {
    runtime: Option<PathBuf>,
    command: Vec<String>,
}

/// A container that can be run again and again.
struct Container<'a> {
    runtime: &'a Path,
    scratch: &'a Scratch,
    layout: &'a Layout,
    user: &'a User,
}

/// Where the demo's own lines go.
#[derive(Clone, Copy)]
enum Voice {
    /// Standard output: the tour is all there is to see.
    Output,
    /// Standard error, since standard output is the command's.
    Aside,
}

impl Voice {
    fn say(self, line: &str) {
        match self {
            Self::Output => println!("{line}"),
            Self::Aside => eprintln!("{line}"),
        }
    }
}

/// Builds, runs and cleans up.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let Arguments { runtime, command } = arguments(parser)?;
    let user = User::of_this_process()?;
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => shipped::build(&shipped::BULKRUN)?,
    };
    interrupt::watch()?;
    let scratch = Scratch::make(&runtime)?;
    let layout = Layout::of_this_machine(&user)?;
    let container = Container { runtime: &runtime, scratch: &scratch, layout: &layout, user: &user };
    let voice = if command.is_empty() { Voice::Output } else { Voice::Aside };
    voice.say(&format!("{}: {} KiB", runtime.display(), shipped::kib(&runtime)?));
    let outcome = container.show(&command, voice);
    if outcome.is_err() {
        scratch.remove_container()?;
    }
    let state = scratch.state_files();
    let id = scratch.id().to_owned();
    let removed = scratch.remove();
    let left = [state, leftovers::of(&id)?].concat();
    let summary = if left.is_empty() { "nothing".to_owned() } else { left.join(", ") };
    voice.say(&format!("left on the host: {summary}"));
    let code = outcome?;
    removed?;
    ensure!(left.is_empty(), "the container left something behind");
    Ok(code)
}

fn arguments(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments { runtime: None, command: Vec::new() };
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("runtime") => arguments.runtime = Some(parser.value()?.into()),
            lexopt::Arg::Value(first) => {
                let words = std::iter::once(first).chain(parser.raw_args()?);
                let words = words.map(|word| word.into_string().map_err(|word| word.display().to_string()));
                let words = words.collect::<Result<_, _>>();
                arguments.command = words.map_err(|word| anyhow::anyhow!("{word} is not UTF-8"))?;
            }
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    Ok(arguments)
}

impl Container<'_> {
    /// Runs the command, or the tour, and tells how long a start takes if that went well.
    fn show(&self, command: &[String], voice: Voice) -> Result<ExitCode> {
        self.layout.notes(self.user).iter().for_each(|note| voice.say(note));
        if command.is_empty() {
            self.tour()?;
        } else {
            let status = self.command(command)?;
            if !status.success() {
                return Ok(exit_code(status));
            }
        }
        match self.start_times() {
            Ok(times) => voice.say(&format!("\n{}", describe(&times))),
            Err(error) if crate::interruption(&error).is_some() => return Err(error),
            Err(error) => voice.say(&format!("\nthe time of a start could not be told: {error:#}")),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn tour(&self) -> Result<()> {
        let script = ["env", tour::VARIABLE, "/bin/sh", "-c", tour::SCRIPT].map(str::to_owned);
        let inside = invoke::text(&mut self.ready(&script, false)?);
        interrupt::check()?;
        let inside = inside.context("run the tour in a container")?;
        let outside = invoke::text(Command::new("/bin/sh").args(["-c", tour::SCRIPT]))?;
        println!("\n{}", tour::table(&inside, &outside));
        Ok(())
    }

    fn command(&self, command: &[String]) -> Result<ExitStatus> {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut child = self.ready(command, terminal)?.spawn().context("start the runtime")?;
        let status = interrupt::wait(&mut child, GRACE).or_else(|error| {
            self.scratch.remove_container()?;
            child.wait().context("wait for the runtime")?;
            Err(error.into())
        });
        interrupt::check()?;
        status
    }

    fn start_times(&self) -> Result<Vec<Duration>> {
        let mut run = self.ready(&["true".to_owned()], false)?;
        run.stdin(Stdio::null());
        let mut once = || {
            let start = Instant::now();
            let outcome = invoke::quietly(&mut run).map(|()| start.elapsed());
            interrupt::check()?;
            outcome
        };
        once()?; // The first one reads files that later ones find in memory.
        let mut times = (0..STARTS).map(|_| once()).collect::<Result<Vec<_>>>()?;
        times.sort();
        Ok(times)
    }

    /// Writes the bundle for `args` and returns the call that runs it.
    fn ready(&self, args: &[String], terminal: bool) -> Result<Command> {
        let config = bundle::config(self.scratch, self.layout, self.user, args, terminal)?;
        self.scratch.write_config(&config)?;
        let mut command = Command::new(self.runtime);
        command.arg("--root").arg(self.scratch.state());
        command.arg("run").arg("--bundle").arg(self.scratch.bundle()).arg(self.scratch.id());
        Ok(command)
    }
}

/// `times` are sorted.
fn describe(times: &[Duration]) -> String {
    let milliseconds = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!(
        "start: {:.1} ms from calling the runtime until an empty program in this container had run and everything \
         was removed\n       (median of {}; from {:.1} to {:.1} ms)",
        milliseconds(times.len() / 2),
        times.len(),
        milliseconds(0),
        milliseconds(times.len().saturating_sub(1)),
    )
}

fn exit_code(status: ExitStatus) -> ExitCode {
    // Only a signal leaves no code; the runtime itself turns the signals of its container into codes.
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments> {
        arguments(Parser::from_args(words))
    }

    #[test]
    fn everything_after_the_dashes_is_the_command() {
        let arguments = parse(&["--runtime", "/bin/x", "--", "sh", "-c", "echo --runtime"]).unwrap();
        assert_eq!(arguments.runtime, Some("/bin/x".into()));
        assert_eq!(arguments.command, ["sh", "-c", "echo --runtime"]);
        assert_eq!(parse(&["sh", "-c", "true"]).unwrap().command, ["sh", "-c", "true"]);
        assert!(parse(&[]).unwrap().command.is_empty());
        assert!(parse(&["--nonsense"]).is_err());
    }

    #[test]
    fn the_time_of_a_start_is_a_median() {
        let text = describe(&[1, 2, 9].map(Duration::from_millis));
        assert!(text.starts_with("start: 2.0 ms"), "{text}");
        assert!(text.ends_with("(median of 3; from 1.0 to 9.0 ms)"), "{text}");
    }
}
