//! An initramfs: files one after the other in the form "newc" of cpio (Documentation/driver-api/early-userspace/
//! buffer-format.rst of the kernel).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Error};

/// Files begin, and names and contents end, at multiples of this.
const ALIGNMENT: usize = 4;

/// What the last entry is called.
const END: &str = "TRAILER!!!";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// An archive that is being written.
pub(super) struct Archive {
    path: PathBuf,
    file: BufWriter<File>,
    directories: BTreeSet<PathBuf>,
    entries: u32,
}

impl Archive {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).doing(|| format!("make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            directories: BTreeSet::new(),
            entries: 0,
        })
    }

    /// A copy of the host's file `from`, links followed.
    pub(super) fn copy(&mut self, place: &Path, from: &Path) -> Result<(), Error> {
        let content = fs::read(from).doing(|| format!("read {}", from.display()))?;
        self.write(place, &content)
    }

    /// A file that can be executed, with the directories above it.
    pub(super) fn write(&mut self, place: &Path, content: &[u8]) -> Result<(), Error> {
        self.above(place).and_then(|()| self.entry(place, PROGRAM, (0, 0), content)).doing(|| self.what())
    }

    /// A device of characters.
    pub(super) fn node(&mut self, place: &str, major: u32, minor: u32) -> Result<(), Error> {
        let place = Path::new(place);
        self.above(place).and_then(|()| self.entry(place, DEVICE, (major, minor), &[])).doing(|| self.what())
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.entry(Path::new(END), 0, (0, 0), &[]).and_then(|()| self.file.flush()).doing(|| self.what())
    }

    fn what(&self) -> String {
        format!("write {}", self.path.display())
    }

    fn above(&mut self, place: &Path) -> io::Result<()> {
        let above = Vec::from_iter(place.ancestors().skip(1).map(Path::to_owned));
        for directory in above.into_iter().rev().filter(|directory| directory != Path::new("/")) {
            if self.directories.insert(directory.clone()) {
                self.entry(&directory, DIRECTORY, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, place: &Path, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let name = place.strip_prefix("/").unwrap_or(place).as_os_str().as_encoded_bytes();
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other("a file of 4 GiB or more"))?;
        self.entries += 1;
        // Number, mode, owner, group, links, time, size, device of the file system, device, name's length, checksum.
        let named = name.len() as u32 + 1;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, named, 0];
        let head = fields.iter().fold("070701".to_owned(), |head, field| head + &format!("{field:08x}"));
        self.padded(&[head.as_bytes(), name, b"\0"].concat())?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.file.write_all(&[0; ALIGNMENT][..rest])
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use bulkhead_testkit::requires;
    use bulkhead_testkit::skip::find_program;

    use super::*;

    #[test]
    fn another_program_understands_it() {
        requires!(find_program("busybox").is_some(), "needs busybox, which reads such archives");
        let place = std::env::temp_dir().join(format!("bh-archive-{}", std::process::id()));
        fs::create_dir_all(place.join("out")).unwrap();
        let path = place.join("archive");
        let mut archive = Archive::create(&path).unwrap();
        archive.write(Path::new("/a/b/odd"), b"12345").unwrap();
        archive.write(Path::new("/a/empty"), b"").unwrap();
        archive.copy(Path::new("/a/b/host"), Path::new("/etc/hostname")).unwrap();
        archive.finish().unwrap();
        let mut unpack = Command::new("busybox");
        unpack.args(["cpio", "-i"]).current_dir(place.join("out"));
        let status = unpack.stdin(File::open(&path).unwrap()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "busybox refuses it");
        let read = |name: &str| fs::read(place.join("out/a").join(name)).unwrap();
        assert_eq!((read("b/odd"), read("empty")), (b"12345".to_vec(), Vec::new()));
        assert_eq!(read("b/host"), fs::read("/etc/hostname").unwrap());
        fs::remove_dir_all(&place).unwrap();
    }
}
