//! Running a program in a new process.

use std::path::Path;
use std::process::Command;

use super::Work;
use crate::error::{Error, Result};
use crate::this_program;

struct Exec(Command);

pub(super) fn begin(_: &Path) -> Result<Box<dyn Work>> {
    let mut command = Command::new(this_program::path()?);
    command.arg("nothing");
    Ok(Box::new(Exec(command)))
}

impl Work for Exec {
    fn turn(&mut self) -> Result<()> {
        let status = self.0.status().map_err(Error::io("run this program"))?;
        if status.success() { Ok(()) } else { Err(Error::Wrong(format!("this program ended with {status}"))) }
    }
}
