//! The runtime's own file must be out of the container's reach before a process enters one (CVE-2019-5736).

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use bulkhead_sys::{process, shield};

use crate::error::{Doing, Result};

/// Makes sure that nobody in a container can write to this program's file; executes it again where needed.
///
/// As a rule that has happened before the C library started. What is left are other architectures, and ordinary users
/// who own the file: theirs is copied into sealed memory.
///
/// # Errors
/// Neither way works.
pub fn raise() -> Result<()> {
    let doing = || "protect the runtime's own file from the container";
    if shield::is_up().doing(doing)? {
        // Executed by a descriptor, the process would be called by its number. It is for people: no failure matters.
        let _ = rustix::thread::set_name(c"bulkrun");
        return Ok(());
    }
    if !shield::is_needed() {
        return Ok(());
    }
    let program = shield::on_read_only_mount().or_else(|_| shield::in_sealed_memory()).doing(doing)?;
    let strings = |values: Vec<std::ffi::OsString>| {
        values.into_iter().filter_map(|value| CString::new(value.into_vec()).ok()).collect::<Vec<_>>()
    };
    let arguments = strings(std::env::args_os().collect());
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let environment = strings(environment.collect());
    Err(process::execute_descriptor(&program, &arguments, &environment)).doing(doing)
}
