//! Where the engine lies, and the engine itself once a verb wants it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use bulkhead_engine::store::Places;
use bulkhead_engine::{Engine, IN_USERS, Waiting, enter_users};

use crate::failure::{Failure, NOT_STARTED, chain, warn};
use crate::output::escape;

/// The verbs that are about files, whoever owns them. The others are about processes, over which only who is outside has
/// rights; where they have to do with files, they have another process do that, or (`cp`) enter when they have found the process.
const OF_FILES: [&str; 16] = [
    IN_USERS,
    "build",
    "commit",
    "container prune",
    "diff",
    "export",
    "image prune",
    "import",
    "load",
    "pull",
    "rm",
    "rmi",
    "system df",
    "system prune",
    "volume prune",
    "volume rm",
];

/// The places of this command.
#[derive(Debug, Default, Clone)]
pub(crate) struct Home {
    root: Option<PathBuf>,
    run: Option<PathBuf>,
}

impl Home {
    /// Takes `--root DIR` and `--run DIR` from before the verb, and returns the rest.
    ///
    /// # Errors
    /// An option without its directory, and one that is not there.
    pub(crate) fn take(words: &[OsString]) -> Result<(Home, &[OsString]), Failure> {
        let mut home = Home::default();
        let mut rest = words;
        while let Some((option, value)) =
            rest.split_first().and_then(|(word, rest)| split(word, rest.first()))
        {
            let place = match option {
                "--root" => &mut home.root,
                "--run" => &mut home.run,
                _ => return Err(absent(option)),
            };
            let (value, taken) = value.ok_or_else(|| {
                Failure::new(format!("{option} is followed by no directory")).code(NOT_STARTED)
            })?;
            let path =
                std::path::absolute(value).map_err(Failure::doing(format!("find {}", value.display())))?;
            *place = Some(path);
            rest = &rest[taken..];
        }
        Ok((home, rest))
    }

    /// Opens the engine.
    ///
    /// # Errors
    /// Places that cannot be used, and programs that are missing.
    pub(crate) fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(&self.places()?)?.telling(tell))
    }

    /// Makes this process one that may make, read and remove files of containers and images, which belong to several users,
    /// if the verb is about files; see [`enter_users`].
    ///
    /// # Errors
    /// As [`enter_users`].
    pub(crate) fn entered_for(self, verb: &str) -> Result<Home, Failure> {
        if !OF_FILES.contains(&verb) {
            return Ok(self);
        }
        // There the user has another number, and would look elsewhere.
        let Places { root, run } = self.places()?;
        enter_users()?;
        Ok(Home { root: Some(root), run: Some(run) })
    }

    /// The places.
    ///
    /// # Errors
    /// An environment that says nothing of them, or a choice of `root` alone.
    pub(crate) fn places(&self) -> Result<Places, Failure> {
        let Home { root, run } = self;
        if let (Some(root), Some(run)) = (root, run) {
            return Ok(Places { root: root.clone(), run: run.clone() });
        }
        let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if is_half_chosen(root.is_some() || has("BULKHEAD_ROOT"), run.is_some() || has("BULKHEAD_RUN")) {
            let failure =
                Failure::new("a root of its own is chosen, but what runs would be taken from another's");
            let hint = "choose both, by --root DIR --run DIR or by BULKHEAD_ROOT and BULKHEAD_RUN";
            return Err(failure.hint(hint).code(NOT_STARTED));
        }
        let mut places = Places::of_user().map_err(|error| Failure::new(chain(&error)).code(NOT_STARTED))?;
        places.root = root.clone().unwrap_or(places.root);
        places.run = run.clone().unwrap_or(places.run);
        Ok(places)
    }
}

/// Says that something is waited for, so that nobody takes it for hanging.
fn tell(waiting: &Waiting) {
    warn(&escape::word(&waiting.to_string()));
}

/// Whether the records are one store's and the monitors another's, whose containers would be taken for leftovers.
fn is_half_chosen(root: bool, run: bool) -> bool {
    root && !run
}

/// An option, and its value with the words that both take.
type Typed<'a> = (&'a str, Option<(&'a OsStr, usize)>);

/// Splits an option from its value; `None` when the word is none.
fn split<'a>(word: &'a OsString, next: Option<&'a OsString>) -> Option<Typed<'a>> {
    let text =
        word.to_str().filter(|text| text.starts_with("--") && !matches!(*text, "--help" | "--version"))?;
    Some(match text.split_once('=') {
        Some((option, value)) => (option, Some((OsStr::new(value), 1))),
        None => (text, next.map(|value| (value.as_os_str(), 2))),
    })
}

/// Says that an option before the verb is not there.
fn absent(option: &str) -> Failure {
    let failure =
        Failure::new(format!("bulkhead has no option {option} before its command")).code(NOT_STARTED);
    failure.hint("--root DIR and --run DIR stand there; `bulkhead --help` lists the commands")
}
