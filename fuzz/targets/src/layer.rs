//! No layer leaves its directory, and no more comes out of it than its limits allow.
//!
//! The input is an archive, plain or compressed. It is unpacked twice, into directories beside a file that nothing may
//! touch; what the first one becomes is packed again and must be the second one's tree.

use std::fs::{self, DirBuilder, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_store::layer::archive::{Archive, Whole};
use bulkhead_store::layer::{Limits, Marks, Owners, Pack, Unpack, pack, remove, unpack};

use crate::check_sentence;

/// Runs the target.
pub fn run(input: &[u8]) {
    parse(input);
    let nest = Nest::new();
    let limits = Limits { bytes: 1 << 20, entries: 64, name: 512, depth: 32, ratio: 400, memory: 1 << 16 };
    // As an ordinary user has it. Run as root, it makes devices, which is why nobody else may enter the directory.
    let how = Unpack { owners: Owners::Caller, limits, whole: Whole::Known, ..Unpack::layer(Marks::User) };
    let first = nest.directory("first");
    match unpack(input, File::open(&first).or_panic("open it").as_fd(), &how) {
        Err(error) => {
            check_sentence(&error.to_string());
            assert_eq!(names(&first), 0, "something is left of a refused layer: {error}");
        }
        Ok(unpacked) => {
            assert!(unpacked.length <= limits.bytes && unpacked.size <= limits.bytes, "{unpacked:?}");
            assert!(unpacked.entries <= limits.entries, "{unpacked:?}");
            pack_again(&nest, &first, &how);
        }
    }
    nest.check();
}

/// Reads entries without making anything of them.
fn parse(input: &[u8]) {
    let mut archive = Archive::new(input);
    let mut data = 0;
    let parsed = loop {
        match archive.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => break archive.finish(Whole::Known),
            Err(error) => break Err(error),
        }
        while let Ok(piece) = archive.data() {
            if piece.is_empty() {
                break;
            }
            let length = piece.len();
            data += length;
            archive.consume(length);
        }
    };
    assert!(data <= input.len() && archive.position() <= input.len() as u64, "more than there was");
    if let Err(error) = parsed {
        check_sentence(&error.to_string());
    }
}

fn pack_again(nest: &Nest, first: &Path, how: &Unpack<'_>) {
    let packed = |tree: &Path| {
        let mut archive = Vec::new();
        let how = Pack { owners: Owners::Caller, ..Pack::layer(Marks::User) };
        pack(File::open(tree).or_panic("open it").as_fd(), &mut archive, &how).map(|_| archive)
    };
    // Directories that are closed to their owner, which only root passes over.
    let Ok(archive) = packed(first) else { return };
    let second = nest.directory("second");
    let how = Unpack { limits: Limits::default(), ..*how };
    unpack(archive.as_slice(), File::open(&second).or_panic("open it").as_fd(), &how)
        .or_panic("unpack our own");
    assert_eq!(packed(&second).or_panic("pack it again"), archive, "what is packed is unpacked the same");
}

/// A directory for layers, with a neighbour.
struct Nest(PathBuf);

impl Nest {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bulkhead-layer-{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).or_panic("make a directory");
        fs::write(path.join("victim"), "untouched").or_panic("write the victim");
        Self(path)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).or_panic("make a directory");
        path
    }

    /// Looks at the neighbour.
    fn check(&self) {
        let victim = self.0.join("victim");
        let metadata = fs::symlink_metadata(&victim).or_panic("find the victim");
        assert_eq!((metadata.nlink(), metadata.len()), (1, 9), "the file beside the layer is as it was");
        assert_eq!(fs::read(&victim).or_panic("read the victim"), b"untouched");
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name()) else { return };
        if let Ok(parent) = File::open(parent) {
            drop(remove(parent.as_fd(), name));
        }
    }
}

fn names(directory: &Path) -> usize {
    fs::read_dir(directory).or_panic("list it").count()
}

/// Fails with the reason.
trait OrPanic<T> {
    fn or_panic(self, doing: &str) -> T;
}

impl<T, E: std::fmt::Display> OrPanic<T> for Result<T, E> {
    #[track_caller]
    fn or_panic(self, doing: &str) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{doing}: {error}"),
        }
    }
}
