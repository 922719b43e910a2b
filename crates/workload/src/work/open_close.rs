//! Opening and closing a file by its path.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Work;
use crate::error::{Error, Result};
use crate::this_program;

struct OpenClose(PathBuf);

pub(super) fn begin(_: &Path) -> Result<Box<dyn Work>> {
    Ok(Box::new(OpenClose(this_program::path()?)))
}

impl Work for OpenClose {
    fn turn(&mut self) -> Result<()> {
        File::open(&self.0).map(drop).map_err(Error::io("open this program's file"))
    }
}
