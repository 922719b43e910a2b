//! A disk without room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use bulkhead_store::{Depth, Force, Mend, Store};
use bulkhead_testkit::{Scratch, is_root, requires};
use serde_json::json;

use crate::again::{acting, again};
use crate::archive::{layer, old_docker};
use crate::{names, places, sentence};

/// Text that does not become smaller.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_full_disk_is_told_loses_nothing_and_lets_images_be_removed() {
    if let Some(directory) = acting() {
        act(&directory);
        return;
    }
    requires!(is_root(), "needs root to mount");
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = "mount -t tmpfs -o size=4m bulkhead-test \"$0\" && exec \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", mount, disk.to_str().unwrap()];
    let test = "disk::a_full_disk_is_told_loses_nothing_and_lets_images_be_removed";
    let output = again(&words, test, &disk).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn act(disk: &Path) {
    let store = Store::open(&places(disk)).unwrap();
    let small = old_docker(&json!(["small"]), &[&layer("./a", &noise(200_000))]);
    store.load(&mut &small[..], &mut |_| ()).unwrap();
    let before = (names(&store.places().layers()), names(&store.places().blobs()));

    // It does not fit, neither as a blob nor unpacked.
    for size in [5_000_000, 2_500_000] {
        let large = old_docker(&json!(["large"]), &[&layer("./b", "1"), &layer("./a", &noise(size))]);
        let error = store.load(&mut &large[..], &mut |_| ()).unwrap_err();
        assert!(sentence(&error).to_lowercase().contains("no space left on device"), "{}", sentence(&error));
        assert_eq!(
            (names(&store.places().layers()), names(&store.places().blobs())),
            before,
            "nothing of it stays"
        );
        assert_eq!(names(&store.places().ingest()), [""; 0]);
    }
    drop(store);

    // Somebody fills the disk to the last byte.
    let mut filler = File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    while filler.write_all(&[1]).is_ok() {}
    let store = Store::open(&places(disk)).unwrap();
    assert_eq!(store.images().unwrap().len(), 1, "images are listed on a full disk");
    let removed = store.remove_image("small", Force::No);
    assert!(removed.is_ok(), "a full disk keeps nobody from removing: {removed:?}");
    assert_eq!(names(&store.places().layers()), [""; 0]);
    let small = old_docker(&json!(["small"]), &[&layer("./a", "1")]);
    store.load(&mut &small[..], &mut |_| ()).unwrap();
    assert_eq!(store.check(Depth::Contents, Mend::Yes, &|_| Ok(())).unwrap(), []);
}
