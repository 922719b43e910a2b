//! All that archives can say, in each of the ways they can say it.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;

use bulkhead_store::Digest;
use bulkhead_store::layer::{Compression, Existing, Owner, Owners, Unpack};
use bulkhead_testkit::{is_root, requires};

use crate::builder::{Head, Tar, gzip, zstd};
use crate::tree::{Nest, how, xattrs};

#[test]
fn a_layer_tells_its_diff_id_whatever_it_is_packed_with() {
    let mut archive = Tar::new().directory("etc").file("etc/hostname", b"here\n").end();
    archive.resize(10_240, 0);
    for (packed, compression) in [
        (archive.clone(), Compression::None),
        (gzip(&archive), Compression::Gzip),
        ([gzip(&archive[..700]), gzip(&archive[700..])].concat(), Compression::Gzip),
        (zstd(&archive), Compression::Zstd),
    ] {
        let nest = Nest::new();
        let unpacked = nest.unpack(&packed).unwrap();
        assert_eq!(unpacked.diff_id, Digest::of(&archive), "the padding counts");
        assert_eq!((unpacked.length, unpacked.size, unpacked.entries), (10_240, 5, 2));
        assert_eq!(unpacked.disk, 8192, "a directory and a file");
        assert_eq!(unpacked.compression, compression);
        assert_eq!(fs::read_to_string(nest.at("etc/hostname")).unwrap(), "here\n");
    }
}

#[test]
fn files_get_their_modes_times_and_kinds() {
    let nest = Nest::new();
    let mut file = Head::new(b'0', "d/program").mode(0o4711);
    file.size = 3;
    let archive = Tar::new()
        .add(&Head::new(b'5', "d/").mode(0o1511), b"")
        .records(&[("mtime", b"1234567890.123456789")])
        .add(&file, b"abc")
        .add(&Head::new(b'6', "d/pipe").mode(0o622), b"")
        .symlink("d/link", "../../anything at all")
        .hard_link("d/other", "./d/program")
        .file("implied/a/b", b"");
    nest.unpack(&archive.end()).unwrap();

    let program = fs::metadata(nest.at("d/program")).unwrap();
    assert_eq!(program.mode(), 0o104_711);
    assert_eq!((program.mtime(), program.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(program.nlink(), 2, "the hard link is the same file");
    let directory = fs::metadata(nest.at("d")).unwrap();
    assert_eq!(directory.mode(), 0o041_511, "a directory's mode is set when all is in it");
    assert_eq!(directory.mtime(), 1_600_000_000, "and so is its time");
    let pipe = fs::metadata(nest.at("d/pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
    assert_eq!(pipe.mode() & 0o7777, 0o622, "the umask has no part in it");
    assert_eq!(fs::read_link(nest.at("d/link")).unwrap().to_str(), Some("../../anything at all"));
    assert_eq!(fs::symlink_metadata(nest.at("d/link")).unwrap().mtime(), 1_600_000_000);
    assert_eq!(fs::metadata(nest.at("implied/a")).unwrap().mode() & 0o7777, 0o755, "as docker makes it");
    assert_eq!(fs::metadata(nest.layer()).unwrap().mode() & 0o7777, 0o755, "everybody may enter the root");
    // A container's owner must be able to remove it.
    fs::set_permissions(nest.at("d"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn long_names_come_in_three_forms() {
    let part = "n".repeat(99);
    let long = format!("{part}/{part}/{part}");
    let target = "t".repeat(300);
    let mut prefixed = Head::new(b'0', "file");
    prefixed.rest = part.clone().into_bytes();
    let mut old_go = Head::new(b'0', "go").gnu();
    old_go.rest = b"written/by/go".to_vec();
    let nest = Nest::new();
    let archive = Tar::new()
        .records(&[("path", format!("pax/{long}").as_bytes()), ("linkpath", target.as_bytes())])
        .symlink("x", "y")
        .long(b'K', target.as_bytes())
        .long(b'L', format!("gnu/{long}").as_bytes())
        .symlink("x", "y")
        .add(&prefixed, b"")
        .add(&old_go, b"")
        .records(&[("path", b"loses")])
        .long(b'L', b"gnu/wins")
        .file("x", b"");
    nest.unpack(&archive.end()).unwrap();
    for form in ["pax", "gnu"] {
        assert_eq!(
            fs::read_link(nest.at(&format!("{form}/{long}"))).unwrap().to_str(),
            Some(target.as_str())
        );
    }
    assert!(nest.at(&format!("{part}/file")).is_file(), "the prefix of POSIX");
    assert!(nest.at("written/by/go/go").is_file(), "the prefix that Go once wrote");
    assert!(nest.at("gnu/wins").is_file() && !nest.at("loses").exists(), "GNU's name comes first, as in Go");
}

#[test]
fn sparse_files_come_in_four_forms() {
    let head = |name: &str, size: u64| {
        let mut head = Head::new(b'0', name);
        head.size = size;
        head
    };
    let mut gnu = head("gnu", 8).gnu();
    gnu.letter = b'S';
    gnu.rest = vec![0; 512 - 345];
    let octal = |value: u64| format!("{value:011o}\0").into_bytes();
    let map = [octal(4096), octal(4), octal(1_000_000), octal(4)].concat();
    gnu.rest[386 - 345..][..48].copy_from_slice(&map);
    gnu.rest[483 - 345..][..12].copy_from_slice(&octal(2_000_000));
    let mut extended = gnu.clone();
    extended.name = b"extended".to_vec();
    extended.rest[386 - 345..][..48].fill(0);
    extended.rest[482 - 345] = 1;
    let mut extension = [0; 512];
    extension[..48].copy_from_slice(&map);
    let mut stored = b"2\n4096\n4\n1000000\n4\n".to_vec();
    stored.resize(512, 0);
    stored.extend_from_slice(b"headtail");
    let size: (&str, &[u8]) = ("GNU.sparse.size", b"2000000");
    let archive = Tar::new()
        .add(&gnu, b"headtail")
        .add(&extended, &[&extension[..], b"headtail"].concat())
        .records(&[
            size,
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"4096"),
            ("GNU.sparse.numbytes", b"4"),
            ("GNU.sparse.offset", b"1000000"),
            ("GNU.sparse.numbytes", b"4"),
        ])
        .add(&head("pax00", 8), b"headtail")
        .records(&[size, ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"4096,4,1000000,4")])
        .add(&head("pax01", 8), b"headtail")
        .records(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"pax10"),
            ("GNU.sparse.realsize", b"2000000"),
        ])
        .add(&head("GNUSparseFile.0/pax10", 520), &stored)
        .file("after", b"in step");
    let nest = Nest::new();
    nest.unpack(&archive.end()).unwrap();
    let mut expected = vec![0; 2_000_000];
    expected[4096..4100].copy_from_slice(b"head");
    expected[1_000_000..1_000_004].copy_from_slice(b"tail");
    for name in ["gnu", "extended", "pax00", "pax01", "pax10"] {
        assert!(fs::read(nest.at(name)).unwrap() == expected, "{name} has its contents");
        let blocks = fs::metadata(nest.at(name)).unwrap().blocks();
        assert!(blocks <= 64, "{name} has its holes, and {blocks} blocks");
    }
    assert_eq!(fs::read(nest.at("after")).unwrap(), b"in step");
}

#[test]
fn numbers_may_be_large() {
    requires!(is_root(), "needs root, to give files away");
    let nest = Nest::new();
    let archive = Tar::new()
        .add(&Head::new(b'0', "gnu").owner(4_000_000_000, 3_999_999_999), b"")
        .records(&[("uid", b"4000000000"), ("gid", b"3999999999"), ("mtime", b"-5.25")])
        .file("pax", b"");
    nest.unpack(&archive.end()).unwrap();
    for name in ["gnu", "pax"] {
        let metadata = fs::metadata(nest.at(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4_000_000_000, 3_999_999_999), "{name}");
    }
    let metadata = fs::metadata(nest.at("pax")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-6, 750_000_000));
}

#[test]
fn what_an_owner_would_lose_is_set_last() {
    requires!(is_root(), "needs root, to give files away");
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let nest = Nest::new();
    let archive = Tar::new()
        .records(&[("SCHILY.xattr.security.capability", CAPABILITY), ("SCHILY.xattr.user.note", b"a=b\0c")])
        .add(&Head::new(b'0', "ping").mode(0o6755).owner(7, 8), b"")
        .records(&[("SCHILY.xattr.user.note", b"closed")])
        .add(&Head::new(b'5', "d").mode(0o2500).owner(7, 8), b"")
        .add(&Head::new(b'0', "d/x").mode(0o600), b"")
        .records(&[("SCHILY.xattr.trusted.note", b"of a link")])
        .symlink("link", "nowhere");
    let unpacked = nest.unpack(&archive.end()).unwrap();
    assert_eq!(unpacked.left_out.count, 0, "{:?}", unpacked.left_out);
    let ping = fs::metadata(nest.at("ping")).unwrap();
    assert_eq!((ping.mode() & 0o7777, ping.uid(), ping.gid()), (0o6755, 7, 8));
    let expected = [
        ("security.capability".to_owned(), CAPABILITY.to_vec()),
        ("user.note".to_owned(), b"a=b\0c".to_vec()),
    ];
    assert_eq!(xattrs(&nest.at("ping")), expected);
    let directory = fs::metadata(nest.at("d")).unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.uid()), (0o2500, 7));
    assert_eq!(xattrs(&nest.at("d")), [("user.note".to_owned(), b"closed".to_vec())]);
    assert_eq!(fs::metadata(nest.at("d/x")).unwrap().gid(), 0, "the group of the directory is not inherited");
    assert_eq!(xattrs(&nest.at("link")), [("trusted.note".to_owned(), b"of a link".to_vec())]);
}

#[test]
fn devices_have_their_numbers() {
    requires!(is_root(), "needs root, to make devices");
    let nest = Nest::new();
    let mut character = Head::new(b'3', "dev/null").mode(0o666);
    character.device = (1, 3);
    let mut block = Head::new(b'4', "dev/sda").mode(0o660).owner(0, 6);
    block.device = (259, 70_000);
    nest.unpack(&Tar::new().add(&character, b"").add(&block, b"").end()).unwrap();
    let null = fs::metadata(nest.at("dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.mode() & 0o7777 == 0o666);
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    let disk = fs::metadata(nest.at("dev/sda")).unwrap();
    assert!(disk.file_type().is_block_device() && disk.gid() == 6);
    assert_eq!(disk.rdev(), rustix::fs::makedev(259, 70_000));
}

#[test]
fn owners_are_mapped_by_a_function_or_are_all_the_callers() {
    let archive = Tar::new()
        .add(&Head::new(b'0', "of root").mode(0o4755), b"")
        .add(&Head::new(b'0', "of another").mode(0o4755).owner(1000, 1000), b"")
        .end();
    let nest = Nest::new();
    nest.unpack_as(&archive, &Unpack { owners: Owners::Caller, ..how() }).unwrap();
    for (name, mode) in [("of root", 0o4755), ("of another", 0o755)] {
        let metadata = fs::metadata(nest.at(name)).unwrap();
        assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(metadata.mode() & 0o7777, mode, "{name} has the rights of its owner only");
    }

    requires!(is_root(), "needs root, to give files away");
    let shift = |owner: Owner| {
        let shift = |id| (id < 2000).then_some(id + 100_000);
        Some(Owner { user: shift(owner.user)?, group: shift(owner.group)? })
    };
    let nest = Nest::new();
    nest.unpack_as(&archive, &Unpack { owners: Owners::Mapped(&shift), ..how() }).unwrap();
    let metadata = fs::metadata(nest.at("of another")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (101_000, 101_000));
    assert_eq!(fs::metadata(nest.layer()).unwrap().uid(), 100_000, "the root is the container's, too");

    let nest = Nest::new();
    let archive = Tar::new().add(&Head::new(b'0', "x").owner(5000, 0), b"").end();
    let sentence = nest.refused_as(&archive, &Unpack { owners: Owners::Mapped(&shift), ..how() });
    assert_eq!(
        sentence,
        "\"x\" belongs to 5000:0, for which the user namespace has no place: /etc/subuid and /etc/subgid must give more \
         ids"
    );
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let nest = Nest::new();
    let archive = Tar::new()
        .file("x", b"first")
        .file("x", b"second")
        .directory("d")
        .file("d/in", b"")
        .file("d", b"a file now")
        .symlink("l", "x")
        .directory("l")
        .file("l/in", b"")
        .add(&Head::new(b'5', "l").mode(0o700), b"")
        .file("h", b"")
        .hard_link("h", "x")
        .hard_link("h", "x")
        .hard_link("h", "h");
    nest.unpack(&archive.end()).unwrap();
    assert_eq!(fs::read(nest.at("x")).unwrap(), b"second");
    assert_eq!(fs::read(nest.at("d")).unwrap(), b"a file now");
    assert!(nest.at("l/in").is_file(), "a directory that meets a directory stays");
    assert_eq!(fs::metadata(nest.at("l")).unwrap().mode() & 0o7777, 0o700, "and gets the later mode");
    assert_eq!(fs::metadata(nest.at("h")).unwrap().nlink(), 2);
}

#[test]
fn an_entry_behind_a_link_of_the_layer_is_where_it_leads() {
    let nest = Nest::new();
    let archive = Tar::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("usr/lib64", "/lib")
        .file("lib/one", b"1")
        .file("usr/lib64/new/two", b"2")
        .hard_link("three", "lib/one")
        .add(&Head::new(b'5', "lib/closed").mode(0o500), b"");
    nest.unpack(&archive.end()).unwrap();
    assert!(nest.at("usr/lib/one").is_file() && nest.at("usr/lib/new/two").is_file());
    assert_eq!(fs::metadata(nest.at("three")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(nest.at("usr/lib/closed")).unwrap().mode() & 0o7777, 0o500);
}

#[test]
fn plain_files_go_where_others_are() {
    let nest = Nest::new();
    fs::create_dir(nest.at("etc")).unwrap();
    fs::write(nest.at("etc/kept"), "kept").unwrap();
    let plain = Unpack { owners: Owners::Caller, ..Unpack::plain() };
    nest.unpack_as(&Tar::new().directory("etc").file("etc/.wh.name", b"a name").end(), &plain).unwrap();
    assert_eq!(fs::read(nest.at("etc/.wh.name")).unwrap(), b"a name");
    nest.unpack_as(&Tar::new().file("../x", b"").end(), &plain).unwrap_err();
    assert_eq!(fs::read(nest.at("etc/kept")).unwrap(), b"kept", "what was there stays");
}

#[test]
fn copied_files_replace_their_like_only() {
    let nest = Nest::new();
    fs::create_dir_all(nest.at("etc/deep")).unwrap();
    fs::write(nest.at("etc/file"), "old").unwrap();
    let before = fs::metadata(nest.at("")).unwrap().mode();
    let copied = Unpack { owners: Owners::Caller, existing: Existing::LikeForLike, ..Unpack::plain() };
    let good = Tar::new()
        .add(&Head::new(b'5', "./").mode(0o700), b"")
        .directory("etc")
        .file("etc/file", b"new")
        .symlink("etc/link", "file");
    nest.unpack_as(&good.end(), &copied).unwrap();
    assert_eq!(fs::read(nest.at("etc/file")).unwrap(), b"new");
    assert_eq!(fs::metadata(nest.at("")).unwrap().mode(), before, "the directory itself is somebody's");
    for (archive, sentence) in [
        (Tar::new().file("etc/deep", b""), "is no directory, and cannot replace"),
        (Tar::new().symlink("etc", "x"), "is no directory, and cannot replace"),
        (Tar::new().directory("etc/file"), "is a directory, and cannot replace"),
        (Tar::new().directory("etc/link"), "is a directory, and cannot replace"),
        (Tar::new().file("x", b"").hard_link("etc/deep", "x"), "is no directory, and cannot replace"),
    ] {
        let error = nest.unpack_as(&archive.end(), &copied).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
        assert!(nest.at("etc/deep").is_dir());
    }
}

#[test]
fn files_go_below_a_directory_and_links_lead_inside_the_tree() {
    let nest = Nest::new();
    fs::create_dir_all(nest.at("var")).unwrap();
    fs::create_dir_all(nest.at("run/lock")).unwrap();
    symlink("/run", nest.at("var/run")).unwrap();
    symlink("../../../../../etc", nest.at("var/out")).unwrap();
    let within = |path: &'static str| Unpack {
        owners: Owners::Caller,
        within: Path::new(path),
        existing: Existing::LikeForLike,
        ..Unpack::plain()
    };
    let archive = Tar::new().file("lock/one", b"1").hard_link("two", "lock/one").end();
    nest.unpack_as(&archive, &within("var/run")).unwrap();
    assert_eq!(fs::read(nest.at("run/two")).unwrap(), b"1");
    assert_eq!(fs::metadata(nest.at("run/lock/one")).unwrap().nlink(), 2);
    fs::create_dir(nest.at("etc")).unwrap();
    nest.unpack_as(&Tar::new().file("passwd", b"in").end(), &within("var/out")).unwrap();
    assert_eq!(fs::read(nest.at("etc/passwd")).unwrap(), b"in", "above the root is nothing");
    symlink("/nowhere", nest.at("var/nowhere")).unwrap();
    let error = nest.unpack_as(&Tar::new().file("x", b"").end(), &within("var/nowhere")).unwrap_err();
    assert!(error.to_string().contains("does not have"), "{error}");
}
