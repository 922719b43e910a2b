//! The error of a failed system call.

use std::fmt;

use rustix::io::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

/// A system call that failed, with its arguments as strace prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    call: String,
    errno: Errno,
}

impl Error {
    /// Records that `call`, as `name(arguments)`, failed with `errno`.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self { call: call.into(), errno }
    }

    /// Returns the error number, for callers that branch on it.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Returns what the error number means, in lower case.
    pub fn text(&self) -> String {
        let message = std::io::Error::from(self.errno).to_string();
        message.split(" (os error").next().unwrap_or(&message).to_lowercase()
    }

    /// Returns the call with its arguments, without the error.
    pub fn call(&self) -> &str {
        &self.call
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.text())
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::new(std::io::Error::from(error.errno).kind(), error)
    }
}

/// Names the call on the failing path only, so that success pays for no formatting.
pub trait Call<T> {
    /// Turns an errno into an [`Error`] that shows `call()`.
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Call<T> for std::result::Result<T, Errno> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::new(call(), errno))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::new(call(), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_reads_like_strace_with_a_sentence() {
        let failed: std::result::Result<(), Errno> = Err(Errno::NOENT);
        let error = failed.call(|| "openat2(5, \"proc\", IN_ROOT)").unwrap_err();
        assert_eq!(error.to_string(), "openat2(5, \"proc\", IN_ROOT): no such file or directory");
    }
}
