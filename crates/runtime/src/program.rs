//! Finding the user's program inside the container, and becoming it.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bulkhead_sys::process;
use rustix::fs::{Access, AtFlags, CWD, FileType, OFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Hint, Result};
use crate::plan::process::Process;
use crate::target;

/// Where programs are looked for when the environment has no PATH, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Changes to the working directory while the runtime's rights are there, as runc does: the container's user need not
/// be able to go there. Tells whether that was possible; a server that trusts only that user is asked again later.
///
/// # Errors
/// As [`enter_directory`], but for a lack of rights.
pub(crate) fn enter_directory_early(directory: &Path) -> Result<bool> {
    match enter_directory(directory) {
        Err(Error::System { source, .. }) if matches!(source.errno(), Errno::ACCESS | Errno::PERM) => {
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// Changes to the working directory and makes sure that it lies inside the container's root.
///
/// A descriptor of the host that leaked in could otherwise serve as one: `/proc/self/fd/7` (CVE-2024-21626).
///
/// # Errors
/// ENOENT, EACCES, ENOTDIR as chdir(2), and a directory outside the root.
pub(crate) fn enter_directory(directory: &Path) -> Result<()> {
    // The words are runc's.
    rustix::process::chdir(directory)
        .doing(|| format!("chdir to cwd ({directory:?}) set in config.json failed"))?;
    let outside =
        || Error::Usage(format!("the working directory {} is outside the root", directory.display()));
    // The kernel prefixes a directory that the root does not reach with "(unreachable)".
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(outside()),
        Err(errno) => Err(errno).doing(|| "ask for the working directory"),
    }
}

/// Makes the working directory where the image lacks it, as runc does.
///
/// # Errors
/// As mkdirat(2), but a read-only root is left to [`enter_directory`].
pub(crate) fn make_directory(root: impl std::os::fd::AsFd, directory: &Path) -> Result<()> {
    match target::directory(root.as_fd(), directory) {
        Err(Error::System { source, .. })
            if matches!(source.errno(), Errno::ROFS | Errno::ACCESS | Errno::PERM) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Adds HOME from the container's passwd where the environment lacks it or has it empty, as runc does.
///
/// # Errors
/// None: without an entry it is `/`.
pub(crate) fn complete_environment(root: impl std::os::fd::AsFd, process: &mut Process) {
    if process
        .env
        .iter()
        .any(|entry| entry.as_bytes().strip_prefix(b"HOME=").is_some_and(|home| !home.is_empty()))
    {
        return;
    }
    let home = home(root, process.user.uid);
    process.set_variable("HOME", home.as_deref().unwrap_or("/"));
}

fn home(root: impl std::os::fd::AsFd, uid: u32) -> Option<String> {
    use std::io::{BufReader, Read};
    /// More than any real passwd: an image must not make the runtime read for ever.
    const LIMIT: u64 = 4 * 1024 * 1024;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = target::open(root.as_fd(), Path::new("/etc/passwd"), flags).ok()??;
    let found = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return None;
    }
    home_in(BufReader::new(std::fs::File::from(file).take(LIMIT)), uid)
}

/// Finds the home of a user in a passwd, see passwd(5): the first one that is an absolute path and can be in an environment.
pub fn home_in(passwd: impl std::io::BufRead, uid: u32) -> Option<String> {
    // Names of people come in any encoding.
    let lines = passwd.split(b'\n').map_while(std::result::Result::ok);
    lines
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b':').skip(2);
            let found = std::str::from_utf8(fields.next()?).ok()?.parse::<u32>();
            let home = std::str::from_utf8(fields.nth(2)?).ok()?;
            (found == Ok(uid) && home.starts_with('/') && !home.contains('\0')).then(|| home.to_owned())
        })
        .next()
}

/// Finds the program as execvp(3) would, so that `create` and not `start` says that it is missing.
///
/// # Errors
/// A program that is not there, is a directory, or cannot be executed by this user.
pub(crate) fn find(process: &Process) -> Result<CString> {
    let Some(name) = process.args.first() else {
        return Err(Error::Usage("there is no program to execute".into()));
    };
    if name.as_bytes().contains(&b'/') {
        return match check(name) {
            Ok(()) => Ok(name.clone()),
            Err(errno) => Err(refusal(name, errno)),
        };
    }
    let mut last = Errno::NOENT;
    for directory in search_path(process).split(|&byte| byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate: PathBuf =
            Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name.as_bytes()));
        let Ok(candidate) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => last = errno,
        }
    }
    Err(refusal(name, last))
}

fn search_path(process: &Process) -> &[u8] {
    let path = process.env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    path.unwrap_or(DEFAULT_PATH.as_bytes())
}

/// Tells why a path cannot be executed. A filter may forbid to ask: then execve(2) will tell.
fn check(path: &CStr) -> std::result::Result<(), Errno> {
    let ask = |flags| rustix::fs::accessat(CWD, path, Access::EXEC_OK, flags);
    let is_forbidden = |answer| matches!(answer, Err(Errno::NOSYS | Errno::PERM));
    // Of the rights that the process has, not of those that its user would have: it may hold CAP_DAC_OVERRIDE.
    let mut answer = ask(AtFlags::EACCESS);
    if is_forbidden(answer) {
        // faccessat2(2) is of 2020, and a filter may be older.
        answer = ask(AtFlags::empty());
    }
    if !is_forbidden(answer) {
        answer?;
    }
    match rustix::fs::stat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Err(Errno::ISDIR),
        Err(Errno::NOENT) => Err(Errno::NOENT),
        _ => Ok(()),
    }
}

fn refusal(name: &CStr, errno: Errno) -> Error {
    let name = name.to_string_lossy();
    let reason = match errno {
        Errno::NOENT if !name.contains('/') => "executable file not found in $PATH".to_owned(),
        Errno::NOENT => "no such file or directory".to_owned(),
        // What execve(2) says of it too: docker and podman turn "permission denied" into exit code 126.
        Errno::ISDIR => "is a directory: permission denied".to_owned(),
        Errno::ACCESS => "permission denied (is it executable for this user?)".to_owned(),
        errno => bulkhead_sys::Error::new("", errno).text(),
    };
    // The word order is runc's: engines look for "executable file not found".
    Error::Usage(format!("exec: {name:?}: {reason}"))
}

/// Becomes the program; returns only the error.
pub(crate) fn execute(path: &CStr, process: &Process) -> Error {
    let source = process::execute(path, &process.args, &process.env);
    let hint = match source.errno() {
        Errno::NOEXEC => Some("it is not a program for this machine, and has no \"#!\" line"),
        Errno::NOENT => Some("it, its interpreter or its dynamic linker is not there"),
        _ => None,
    };
    let program = path.to_string_lossy().into_owned();
    Error::Execute { program, reason: source.text(), source: hint.map(Hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_among_lines_of_any_kind() {
        for (passwd, expected) in [
            (
                &b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"[..],
                Some("/home/user"),
            ),
            (b"a:x:1000:1:Andr\xe9:/home/a:/bin/sh\n", Some("/home/a")),
            (b"x:x:1:1:\xff\xfe:/x:\nuser:x:1000:1000::/home/user", Some("/home/user")),
            (b"a:x:1000:1000::relative:\nb:x:1000:1000::/b:", Some("/b")),
            (b"a:x:1000:1000::/a\0b:\n", None),
            (b"a:x:1000:1000::/\xff:\n", None),
            (b"a:x:1000\n:::::\n\n", None),
            (b"a:x:4294968296:1000::/a:\n", None),
        ] {
            assert_eq!(home_in(passwd, 1000).as_deref(), expected, "{}", passwd.escape_ascii());
        }
    }
}
