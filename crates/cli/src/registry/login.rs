//! `login` and `logout`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use bulkhead_engine::transfer::registry::{DOCKER, Keeper, Login};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use super::Task;
use crate::failure::Failure;
use crate::home::Home;
use crate::verbs::Operation;

/// The longest password, in bytes.
const LONGEST: u64 = 64 << 10;

/// What Control-C types.
const INTERRUPT: u8 = 3;

/// Log in at a registry
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The password, which others can see while the command runs
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from the standard input
    #[arg(long)]
    password_stdin: bool,
    /// The name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The registry, docker.io if none is named
    #[arg(value_name = "HOST")]
    host: Option<String>,
}

impl Operation for Options {
    fn run(self, _: &Home) -> Result<ExitCode, Failure> {
        let Options { password, password_stdin, username, host } = self;
        let host = bare(host.as_deref().unwrap_or(DOCKER));
        if password_stdin && username.is_none() {
            return Err(
                Failure::new("--password-stdin leaves no input for the name").hint("add --username NAME")
            );
        }
        let name = username.map_or_else(|| ask("Username: "), Ok)?;
        let secret = match (password, password_stdin) {
            (Some(password), _) => password,
            (None, true) => {
                let mut text = String::new();
                let read = io::stdin().take(LONGEST).read_to_string(&mut text);
                read.map_err(Failure::doing("read the password"))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            (None, false) => ask_secretly("Password: ")?,
        };
        if name.is_empty() || secret.is_empty() {
            return Err(Failure::new("a name and a password are wanted, and one of them is empty"));
        }
        let login = super::client()?.login(&host, &Login::Password { name, secret });
        let keeper = login.map_err(|error| Task::Login.failed(error.into()))?;
        if let Keeper::File(path) = &keeper {
            eprintln!(
                "warning: the password stands in {}, readable for you; a credential helper keeps it elsewhere",
                path.display()
            );
        }
        writeln!(io::stdout(), "Login Succeeded")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Log out from a registry
#[derive(Args, Debug)]
pub(crate) struct Leave {
    /// The registry, docker.io if none is named
    #[arg(value_name = "HOST")]
    host: Option<String>,
}

impl Operation for Leave {
    fn run(self, _: &Home) -> Result<ExitCode, Failure> {
        let host = bare(self.host.as_deref().unwrap_or(DOCKER));
        let keepers = super::client()?.logout(&host)?;
        let mut output = io::stdout().lock();
        if keepers.is_empty() {
            writeln!(output, "Not logged in to {host}")?;
        }
        for keeper in keepers {
            writeln!(output, "Removed the login for {host} from {keeper}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A host as it was copied from an address.
fn bare(typed: &str) -> String {
    let rest = typed.split_once("://").map_or(typed, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    if matches!(host, "index.docker.io" | "registry-1.docker.io") {
        DOCKER.to_owned()
    } else {
        host.to_owned()
    }
}

fn ask(question: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let failure = Failure::new("the standard input is no terminal to ask for the name and the password");
        return Err(failure.hint("--username NAME --password-stdin reads the password from it"));
    }
    eprint!("{question}");
    let mut text = String::new();
    let read = io::stdin().lock().take(LONGEST).read_line(&mut text);
    read.map_err(Failure::doing("read from the terminal"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks without showing what is typed. Control-C ends the line instead of us, so that the terminal
/// is left as it was.
fn ask_secretly(question: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    let doing = |error: rustix::io::Errno| Failure::new(format!("turn the terminal's echo off: {error}"));
    let before = tcgetattr(&stdin)
        .map_err(|_| Failure::new("the standard input is no terminal to ask for the password"))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    silent.local_modes.insert(LocalModes::ECHONL);
    silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(doing)?;
    let answer = ask(question);
    tcsetattr(&stdin, OptionalActions::Now, &before).map_err(doing)?;
    let answer = answer?;
    if answer.contains(char::from(INTERRUPT)) {
        Err(Failure::new("interrupted").code(130))
    } else {
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_taken_out_of_an_address() {
        for (typed, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("h.example:5000", "h.example:5000"),
            ("http://h.example/v2/", "h.example"),
        ] {
            assert_eq!(bare(typed), expected);
        }
    }
}
