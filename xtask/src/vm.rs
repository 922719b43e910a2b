//! `cargo xtask vm`: a machine as users have it, with cgroup v2 and systemd, on any host.
//!
//! ```text
//!   host                                       guest (QEMU, emulated: needs no right and no KVM)
//!   emulator QEMU
//!   kernel   vmlinuz, modules      ──────────► kernel, a disk for /lib/modules
//!   image    a Debian              ──────────► a disk for /, changes are thrown away
//!   payload  programs, job         ──────────► a disk for /payload; programs appear at their host's paths
//!   boot     starts QEMU, listens              guest: the same xtask as /payload/guest
//!            console, output, report ◄──────── three serial ports
//!   results  one report
//! ```
//!
//! Kernels and image lie in the cache, each with the recipe that made it, and are made again when the recipe
//! changes. What a run makes lies in a directory of its own below `target/vm`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_measure::interrupt;
use lexopt::{Arg, Parser, ValueExt as _};

use self::boot::Ending;
pub(crate) use self::job::Outcome;
use self::job::{Init, SecurityModule, Word, Work};
use self::kernel::Kernel;
pub(crate) use self::results::Finished;
use crate::value::{named, number};

mod boot;
mod disk;
mod emulator;
mod guest;
mod image;
mod job;
mod kernel;
mod payload;
mod programs;
mod results;
mod suite;

const USAGE: &str = "\
usage: cargo xtask vm [--kernel release|newest|oldest] [--systemd|--bare] [--lsm apparmor|selinux] [--with PATH]…
                      [--timeout SECONDS] -- COMMAND…
       cargo xtask vm test [--core|--all] [--kernel release|newest|oldest]… [--systemd|--bare] [--lsm apparmor|selinux] [FILTER]…
       cargo xtask vm fetch [--refresh]";

/// How long a command may take unless it is told.
const LIMIT: Duration = Duration::from_secs(600);

/// A kind of guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    kernel: Kernel,
    init: Init,
    module: Option<SecurityModule>,
}

impl Machine {
    /// # Errors
    /// SELinux without systemd, which loads its policy.
    fn new(kernel: Kernel, init: Init, module: Option<SecurityModule>) -> Result<Self> {
        ensure!(
            module != Some(SecurityModule::SeLinux) || init == Init::Systemd,
            "--lsm selinux needs --systemd, which loads the policy"
        );
        Ok(Self { kernel, init, module })
    }
}

/// What was typed.
#[derive(Debug, Default, PartialEq)]
struct Typed {
    kernels: Vec<Kernel>,
    init: Option<Init>,
    module: Option<SecurityModule>,
    selection: Option<suite::Selection>,
    with: Vec<PathBuf>,
    limit: Option<Duration>,
    refresh: bool,
    words: Vec<String>,
    command: Vec<String>,
}

/// Runs a command or tests in a guest.
pub(crate) fn run(parser: Parser) -> Result<ExitCode> {
    let typed = parse(parser)?;
    let verb = typed.words.first().map(String::as_str);
    match verb {
        None if !typed.command.is_empty() => command(&typed),
        Some("test") => {
            let filters = &typed.words[1..];
            let wanted = suite::Wanted { kernels: &typed.kernels, init: typed.init, module: typed.module };
            suite::run(&wanted, typed.selection, filters)
        }
        Some("fetch") => fetch(typed.refresh),
        Some(guest::WORD) => guest::run(&typed.words[1..]),
        _ => bail!(USAGE),
    }
}

/// Runs tests of engines in a guest with systemd, or without.
pub(crate) fn engines(kernel: &str, init: &str, filters: &[String]) -> Result<ExitCode> {
    let init = [Init::Systemd, Init::Bare].into_iter().find(|known| known.name() == init);
    suite::engines(Kernel::named(kernel)?, init.context("--on takes systemd or bare")?, filters)
}

/// Gets everything into the cache, or says why it cannot be had.
pub(crate) fn ensure() -> Result<()> {
    emulator::ensure()?;
    image::ensure(None)?;
    image::ensure(Some(SecurityModule::AppArmor))?;
    Kernel::USUAL.iter().try_for_each(|kernel| kernel.ensure().map(|_| ()))
}

/// Removes the report of an earlier run of tests.
pub(crate) fn forget_report() -> Result<()> {
    let file = results::file()?;
    if file.exists() {
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}

/// What became of each test in the last run, on each machine; nothing if it did not get so far.
pub(crate) fn reported() -> Result<Vec<Finished>> {
    let file = results::file()?;
    if file.exists() { results::read(&file) } else { Ok(Vec::new()) }
}

fn fetch(refresh: bool) -> Result<ExitCode> {
    if refresh {
        let _lock = crate::cache::lock("vm")?;
        crate::cache::remove(&crate::cache::directory()?.join("vm"))?;
    }
    ensure()?;
    println!("{}", crate::cache::directory()?.join("vm").display());
    Ok(ExitCode::SUCCESS)
}

/// Boots one guest for one command, whose output and exit code become ours.
fn command(typed: &Typed) -> Result<ExitCode> {
    let kernel = match typed.kernels[..] {
        [] => Kernel::Release,
        [kernel] => kernel,
        _ => bail!("a command runs under one kernel"),
    };
    interrupt::watch()?;
    let machine = Machine::new(kernel, typed.init.unwrap_or(Init::Systemd), typed.module)?;
    let limit = typed.limit.unwrap_or(LIMIT);
    let programs = programs::runtime()?;
    let mut places = vec![programs.directory.clone()];
    for path in &typed.with {
        places.push(std::path::absolute(path).with_context(|| format!("find {}", path.display()))?);
    }
    let work = Work::Command { words: typed.command.clone(), search: programs.directory };
    let run = boot::Run::begin()?;
    let payload = payload::Payload {
        files: programs.plain,
        with: places,
        init: machine.init,
        module: machine.module,
        work,
    };
    payload.write(&run)?;
    let mut code = None;
    let mut guest = boot::Guest::start(machine, &run, boot::Output::Shown)?;
    let ending = guest.listen(limit, |word| {
        if let Word::Exited(status) = word {
            code = Some(status);
        }
    })?;
    let code = match (code, ending) {
        (Some(code), _) => code,
        (None, Ending::Hung) => bail!("the guest said nothing for too long\n{}", run.last_words()),
        (None, _) => bail!("the guest ended before its command\n{}", run.last_words()),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn parse(mut parser: Parser) -> Result<Typed> {
    let mut typed = Typed::default();
    loop {
        if let Some(mut rest) = parser.try_raw_args()
            && rest.next_if(|word| word == "--").is_some()
        {
            typed.command = rest.map(|word| word.string()).collect::<Result<_, _>>()?;
            return Ok(typed);
        }
        let Some(argument) = parser.next()? else { return Ok(typed) };
        match argument {
            Arg::Long("kernel") => {
                let name = parser.value()?.string()?;
                typed.kernels.push(Kernel::named(&name)?);
            }
            Arg::Long("systemd") => typed.init = Some(Init::Systemd),
            Arg::Long("bare") => typed.init = Some(Init::Bare),
            Arg::Long("lsm") => {
                typed.module = Some(named(&mut parser, &SecurityModule::ALL, SecurityModule::name)?);
            }
            Arg::Long("core") => typed.selection = Some(suite::Selection::Core),
            Arg::Long("all") => typed.selection = Some(suite::Selection::All),
            Arg::Long("with") => typed.with.push(parser.value()?.into()),
            Arg::Long("timeout") => typed.limit = Some(Duration::from_secs(number(&mut parser)?)),
            Arg::Long("refresh") => typed.refresh = true,
            Arg::Value(word) => typed.words.push(word.string()?),
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_own_options() {
        let parse = |words: &[&str]| parse(Parser::from_args(words)).unwrap();
        let typed = parse(&["--kernel", "newest", "--bare", "--", "ls", "--all", "-l"]);
        assert_eq!((typed.kernels, typed.init), (vec![Kernel::Newest], Some(Init::Bare)));
        assert_eq!((typed.command, typed.selection), (vec!["ls".into(), "--all".into(), "-l".into()], None));
        assert_eq!(parse(&["--lsm", "selinux", "--", "id"]).module, Some(SecurityModule::SeLinux));
        assert_eq!(parse(&["--", "test", "-d", "/"]).command, ["test", "-d", "/"]);
        let typed = parse(&["test", "--all", "v2"]);
        assert_eq!(
            (typed.words, typed.selection),
            (vec!["test".into(), "v2".into()], Some(suite::Selection::All))
        );
    }

    #[test]
    fn selinux_needs_somebody_who_loads_its_policy() {
        let machine = |init, module| Machine::new(Kernel::Release, init, module);
        assert!(machine(Init::Bare, Some(SecurityModule::SeLinux)).is_err());
        assert!(machine(Init::Bare, Some(SecurityModule::AppArmor)).is_ok());
        assert!(machine(Init::Systemd, Some(SecurityModule::SeLinux)).is_ok());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for words in
            [&["--kernel", "6.6", "--", "ls"][..], &["--fast"], &["test", "--slow"], &["--lsm", "tomoyo"]]
        {
            assert!(parse(Parser::from_args(words)).is_err(), "{words:?} should be refused");
        }
    }
}
