//! What docker saves is loaded, and what is saved docker loads: by the newest docker that `cargo xtask engines` brings, with
//! our runtime.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use std::fs;

use bulkhead_store::{Format, Image, Places, Store};
use bulkhead_testkit::{Docker, Init, Machine, Sandbox, built, cached, is_root, requires, rootfs, skip};

/// What a layer can have: a change, removals, a directory in the place of another, links, a fifo, a device, rights.
const CHANGES: &str = "echo changed >/etc/kept; rm /etc/gone; rm -r /srv/old; mkdir /srv/old; echo new >/srv/old/b; \
    ln /etc/kept /etc/hard; ln -s kept /etc/soft; mkfifo /srv/fifo; mknod /srv/zero c 1 5; \
    echo x >/bin/set; chmod 4755 /bin/set; chown 1234:4321 /srv/old/b; touch -d @86400 /srv/old/b";

/// All that can be seen of it, but for what docker makes for each container.
const LIST: &str = "cd / && find . -xdev -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune \
    -o -path ./etc/hosts -prune -o -path ./etc/hostname -prune -o -path ./etc/resolv.conf -prune \
    -o -path ./etc/mtab -prune -o -path ./.dockerenv -prune \
    -o ! -type d -exec stat -c '%n %F %a %u:%g %s %Y %t %T %h %N' {} + -o -type d -exec stat -c '%n %F %a %u:%g' {} + \
    | sort; cat /etc/kept /srv/old/b";

#[test]
fn docker_and_this_store_load_what_the_other_saves() {
    requires!(is_root(), "needs root");
    let Some(tree) = cached("engines/newest") else {
        skip!("no engines in the cache: `cargo xtask engines` brings them");
    };
    let sandbox = Sandbox::new(built::program("bulkhead-runtime", "bulkrun"));
    let machine = sandbox.boot(&tree, Init::Own);
    let docker = Docker::start(&machine);
    let places =
        Places { root: sandbox.directory().join("store"), run: sandbox.directory().join("store-run") };
    let store = Store::open(&places).unwrap();

    make_images(&sandbox, &machine, &docker);
    let before = docker.call(&["run", "--rm", "--network=none", "team/app:2", "sh", "-c", LIST]);
    let ids = ["team/app:2", "base:1"].map(|name| docker.call(&["inspect", "--format={{.Id}}", name]));
    let both = ["save", "--output=/run/shared/theirs.tar", "team/app:2", "base:1", "also:3"];
    docker.call(&both);

    store.load_path(&machine.shared().join("theirs.tar"), &mut |_| ()).unwrap();
    let image = store.image("team/app:2").unwrap();
    assert_eq!(image.id.to_string(), ids[0].trim(), "it has another id here");
    assert_eq!(store.image("base:1").unwrap().id.to_string(), ids[1].trim());
    assert_eq!(store.image("also:3").unwrap().id, store.image("base:1").unwrap().id);
    assert_eq!(image.configuration.config.env.last().map(String::as_str), Some("A=b c"));
    is_changed(&store, &image);

    let ours = fs::File::create(machine.shared().join("ours.tar"));
    store.save(&["team/app:2", "base:1"], Format::DockerArchive, &mut ours.unwrap()).unwrap();
    docker.call(&["image", "rm", "--force", "team/app:2", "base:1", "also:3"]);
    assert_eq!(docker.call(&["image", "ls", "--quiet"]), "", "docker still has what was removed");
    docker.call(&["load", "--input=/run/shared/ours.tar"]);
    let again = ["team/app:2", "base:1"].map(|name| docker.call(&["inspect", "--format={{.Id}}", name]));
    assert_eq!(again, ids, "docker loads other images than it saved");
    let after = docker.call(&["run", "--rm", "--network=none", "team/app:2", "sh", "-c", LIST]);
    let other = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    assert_eq!(other, None, "a container sees other files");
    assert_eq!((before.len(), before.lines().count() > 100), (after.len(), true), "{before}");

    // And once more, from docker's hands, with nothing left to fetch.
    docker.call(&both[..3]);
    let again = store.load_path(&machine.shared().join("theirs.tar"), &mut |_| ()).unwrap();
    assert!(again.iter().all(|committed| committed.existed), "the same image is a new one: {again:?}");
}

/// The top layer is as overlayfs reads it.
fn is_changed(store: &Store, image: &Image) {
    let lower = store.lower(image);
    assert_eq!(lower.len(), 2);
    assert_eq!(fs::read_to_string(lower[0].join("etc/kept")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(lower[1].join("etc/gone")).unwrap(), "gone\n");
    let whiteout = fs::symlink_metadata(lower[0].join("etc/gone")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&whiteout.file_type()), "no whiteout");
}

/// Makes an image of one layer, and one of two.
fn make_images(sandbox: &Sandbox, machine: &Machine<'_>, docker: &Docker<'_>) {
    let root = sandbox.directory().join("base");
    rootfs::create(&root);
    for (path, text) in [("etc/kept", "kept\n"), ("etc/gone", "gone\n"), ("srv/old/a", "a\n")] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    let archive = machine.shared().join("base.tar");
    let tar = sandbox.command("tar").args(["--owner=0", "--group=0", "--create", "--file"]).arg(&archive);
    tar.arg("--directory").arg(&root).arg(".").output().succeeds();
    docker.call(&["import", "--change=CMD [\"sh\"]", "/run/shared/base.tar", "base:1"]);
    docker.call(&["tag", "base:1", "also:3"]);
    docker.call(&["run", "--name=made", "--network=none", "base:1", "sh", "-euc", CHANGES]);
    docker.call(&["commit", "--change=ENV A=\"b c\"", "made", "team/app:2"]);
    docker.call(&["rm", "made"]);
}
