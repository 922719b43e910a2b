//! Archives that mean harm, or are broken. Each is refused with a sentence that names what is wrong, and nothing of it
//! stays; `Nest` looks at that and at what lies beside the layer.
//! "Seen to fail" was tried with that protection removed, "must fail" was not.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use bulkhead_store::Digest;
use bulkhead_store::layer::archive::Whole;
use bulkhead_store::layer::{Checked, Kind, Limits, Unpack};

use crate::builder::{Head, Tar, gzip, zstd};
use crate::tree::{Nest, how};

/// Refuses an archive that first makes something harmless: that must go, too.
#[track_caller]
fn refused(add: impl FnOnce(Tar) -> Tar) -> String {
    let archive = Tar::new().directory("etc").file("etc/harmless", b"text");
    Nest::new().refused(&add(archive).end())
}

/// Seen to fail without the check in `Place::of`: the kernel refused (EXDEV), by a sentence of its own.
#[test]
fn names_that_climb_are_refused() {
    for name in
        ["../beside/victim", "etc/../../beside/victim", "etc/..", "..", "/../beside/victim", "etc/../x"]
    {
        let sentence = refused(|tar| tar.file(name, b"owned"));
        assert!(sentence.starts_with(&format!("{name:?} has `..` in its name")), "{sentence}");
    }
    let sentence = refused(|tar| tar.records(&[("path", b"../beside/victim")]).file("innocent", b"owned"));
    assert!(sentence.starts_with("\"../beside/victim\" has `..`"), "{sentence}");
    let sentence = refused(|tar| tar.long(b'L', b"../beside/victim").file("innocent", b"owned"));
    assert!(sentence.starts_with("\"../beside/victim\" has `..`"), "{sentence}");
}

#[test]
fn an_absolute_name_is_one_in_the_layer() {
    let nest = Nest::new();
    let name = nest.path().join("beside/victim");
    let name = name.to_str().unwrap();
    nest.unpack(&Tar::new().long(b'L', name.as_bytes()).file("x", b"mine").end()).unwrap();
    assert_eq!(fs::read_to_string(nest.at(&name[1..])).unwrap(), "mine", "it lies below the layer");
}

/// Must fail with paths that are given to the kernel as they are (`openat`).
#[test]
fn a_link_out_of_the_layer_leads_no_entry_there() {
    let nest = Nest::new();
    let outside = nest.path().join("beside");
    let outside = outside.to_str().unwrap();
    for (target, reason) in [
        (outside, "lies behind a link to"),
        ("../beside", "lies behind a link that leads out of the layer"),
        ("etc/../../beside", "lies behind a link that leads out of the layer"),
        ("nowhere", "lies behind a link to \"nowhere\", which the layer does not have"),
        ("door", "lies behind links that lead to each other"),
        ("etc/harmless", "lies below \"etc/harmless\", which is no directory"),
    ] {
        for add in [
            |tar: Tar| tar.file("door/victim", b"owned"),
            |tar: Tar| tar.directory("door/victim"),
            |tar: Tar| tar.symlink("door/victim", "x"),
            |tar: Tar| tar.hard_link("door/victim", "etc/harmless"),
            |tar: Tar| tar.file("door/.wh.victim", b""),
            |tar: Tar| tar.add(&Head::new(b'6', "door/victim"), b""),
            |tar: Tar| tar.file("door/new/victim", b"owned"),
        ] {
            let archive = Tar::new().directory("etc").file("etc/harmless", b"").symlink("door", target);
            let sentence = nest.refused(&add(archive).end());
            assert!(sentence.contains(reason) && sentence.starts_with("\"door/"), "{target}: {sentence}");
        }
    }
}

/// The deletion of everything beside the layer, by way of a link. Must fail as above.
#[test]
fn an_opaque_directory_behind_a_link_is_not_outside() {
    let nest = Nest::new();
    let sentence =
        nest.refused(&Tar::new().symlink("door", "../beside").file("door/.wh..wh..opq", b"").end());
    assert!(sentence.contains("leads out of the layer"), "{sentence}");
    let sentence = nest.refused(&Tar::new().symlink("door", "/").file("door/.wh..wh..opq", b"").end());
    assert!(sentence.contains("would delete all lower layers, by way of a link"), "{sentence}");
}

/// A directory becomes a link when the unpacker has it open already. Must fail with `forget` left out
/// of `make_room`.
#[test]
fn a_directory_that_becomes_a_link_is_looked_up_again() {
    let sentence = refused(|tar| {
        tar.directory("d").file("d/one", b"1").symlink("d", "../beside").file("d/victim", b"owned")
    });
    assert!(sentence.starts_with("\"d/victim\" lies behind a link that leads out"), "{sentence}");

    let nest = Nest::new();
    let archive =
        Tar::new().directory("d").file("d/one", b"1").symlink("d", "e").directory("e").file("d/two", b"2");
    nest.unpack(&archive.end()).unwrap();
    assert_eq!(fs::read_to_string(nest.at("e/two")).unwrap(), "2", "a link in the layer is followed");
    assert!(!nest.at("e/one").exists(), "what was in the directory went with it");
}

/// Must fail with times that are set by path.
#[test]
fn a_link_in_the_place_of_a_directory_leads_no_attribute_outside() {
    let nest = Nest::new();
    let archive = Tar::new()
        .directory("d")
        .directory("d/beside")
        .add(&Head::new(b'5', "d/beside/victim").mode(0o777), b"")
        .symlink("d", "..");
    nest.unpack(&archive.end()).unwrap();
    assert!(fs::symlink_metadata(nest.at("d")).unwrap().is_symlink(), "the later entry counts");
}

#[test]
fn a_hard_link_leads_only_to_files_of_the_layer() {
    for (target, reason) in [
        ("../beside/victim", "is a hard link to \"../beside/victim\", which has `..` in its name"),
        ("/etc/passwd", "is a hard link to \"/etc/passwd\", which the layer does not have"),
        ("nowhere/x", "is a hard link into \"nowhere\", which the layer does not have"),
        ("", "is a hard link to the layer's root"),
        ("etc", "make the hard link \"trap\""),
    ] {
        let sentence = refused(|tar| tar.hard_link("trap", target));
        assert!(sentence.contains(reason), "{target}: {sentence}");
    }
    // By way of a link: what it leads to is not the layer's.
    let sentence = refused(|tar| tar.symlink("door", "../beside").hard_link("trap", "door/victim"));
    assert!(sentence.starts_with("\"trap\" lies behind a link that leads out"), "{sentence}");
    // To a link: the link itself gets another name, and what it leads to none.
    let nest = Nest::new();
    nest.unpack(&Tar::new().symlink("door", "../beside/victim").hard_link("trap", "door").end()).unwrap();
    assert!(fs::symlink_metadata(nest.at("trap")).unwrap().is_symlink(), "a link stays a link");
}

/// A file is written through a link that has its name: must fail with O_EXCL and O_NOFOLLOW left out.
#[test]
fn a_file_replaces_a_link_instead_of_following_it() {
    let nest = Nest::new();
    nest.unpack(&Tar::new().symlink("x", "../beside/victim").file("x", b"mine").end()).unwrap();
    assert!(fs::symlink_metadata(nest.at("x")).unwrap().is_file(), "the link made way");
    assert_eq!(fs::read(nest.at("x")).unwrap(), b"mine");
}

#[test]
fn nothing_stands_in_the_place_of_the_root() {
    for head in [Head::new(b'0', "./"), Head::new(b'2', "."), Head::new(b'1', "/"), Head::new(b'6', "")] {
        let sentence = refused(|tar| tar.add(&head, b""));
        let name = String::from_utf8(head.name).unwrap();
        assert!(sentence.contains("would stand in the place of the layer's root"), "{name:?}: {sentence}");
    }
}

#[test]
fn the_root_is_not_deleted() {
    for (name, reason) in [
        (".wh..wh..opq", "would delete all lower layers"),
        ("./.wh..wh..opq", "would delete all lower layers"),
        (".wh.", "would delete the directory that it lies in"),
        (".wh..", "would delete the directory that it lies in, or the one above"),
        (".wh...", "would delete the directory that it lies in, or the one above"),
        ("etc/.wh...", "would delete the directory that it lies in, or the one above"),
        (".wh.etc/passwd", "lies below \".wh.etc\", which is a deletion and no directory"),
    ] {
        let sentence = refused(|tar| tar.file(name, b""));
        assert!(
            sentence.contains(reason) && sentence.starts_with(&format!("{name:?}")),
            "{name}: {sentence}"
        );
    }
}

/// What overlayfs would read: a device that deletes, a redirect into other layers.
#[test]
fn the_overlays_own_marks_are_refused() {
    let sentence = refused(|tar| tar.add(&Head::new(b'3', "dev/zero"), b""));
    assert!(sentence.starts_with("\"dev/zero\" is the device 0:0, by which the overlay"), "{sentence}");
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.metacopy"] {
        let record = format!("SCHILY.xattr.{name}");
        let sentence = refused(|tar| tar.records(&[(&record, b"/etc")]).directory("usr"));
        assert!(
            sentence.contains(&format!("has the attribute {name:?}, which is the overlay's own")),
            "{sentence}"
        );
    }
}

#[test]
fn an_owner_that_nobody_is_is_refused() {
    let sentence = refused(|tar| tar.add(&Head::new(b'0', "x").owner(u64::from(u32::MAX), 0), b""));
    assert!(sentence.starts_with("\"x\" belongs to 4294967295:0, which is no owner"), "{sentence}");
    let sentence = refused(|tar| tar.records(&[("uid", b"-1")]).file("x", b""));
    assert!(sentence.starts_with("\"x\" belongs to -1:0, which is no owner"), "{sentence}");
}

#[test]
fn bombs_meet_limits() {
    let nest = Nest::new();
    let small = Limits { bytes: 100_000, entries: 10, name: 50, depth: 5, ratio: 400, memory: 1000 };
    let limited = Unpack { limits: small, ..how() };
    let many = (0..20).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), b""));
    let deep = Tar::new().file("1/2/3/4/5/6", b"");
    let wide = (0..9).fold(Tar::new(), |tar, number| tar.directory(&format!("{number}{}", "x".repeat(40))));
    let mut sparse = Head::new(b'0', "x");
    sparse.size = 0;
    let holes = Tar::new()
        .records(&[
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.size", b"200000"),
            ("GNU.sparse.map", b"0,0"),
        ])
        .add(&sparse, b"");
    for (archive, reason) in [
        (Tar::new().file("big", &[7; 200_000]), "more than 100000 bytes"),
        (holes, "at \"x\", the layer has more than 100000 bytes"),
        (many, "at \"f10\", the layer has more than 10 entries"),
        (deep, "more than 5 directories below each other"),
        (Tar::new().file(&"y".repeat(51), b""), "more than 50 bytes in a name"),
        (wide, "more than 1000 bytes of names and attributes of directories"),
    ] {
        for archive in [archive.clone().end(), gzip(&archive.clone().end()), zstd(&archive.end())] {
            let sentence = nest.refused_as(&archive, &limited);
            assert!(sentence.contains(reason), "{sentence}");
            assert!(sentence.ends_with("needs a higher limit"), "{sentence}");
        }
    }
}

/// 1.5 GB of zeros in some 50 KB: must fail with the check of the ratio left out.
#[test]
fn a_bomb_is_known_by_its_ratio() {
    let nest = Nest::new();
    let size = 1_500_000_000_u64;
    let mut head = Head::new(b'0', "zeros");
    head.size = size;
    let block = Tar::new().add(&head, b"").cut();
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, &block).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size + 1024), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 200_000, "the bomb has {} bytes", bomb.len());
    let sentence = nest.refused(&bomb);
    assert!(sentence.contains("more than 400 bytes for each compressed one"), "{sentence}");
}

#[test]
fn an_archive_that_is_cut_is_refused() {
    let whole = Tar::new().file("a", &[1; 600]).directory("d").end();
    let nest = Nest::new();
    for (length, reason) in [
        (100, "ends at byte 100 within a header"),
        (512, "ends at byte 512 within a file"),
        (1000, "ends at byte 1000 within a file"),
        (1200, "ends at byte 1200 without the mark of an end"),
        (1536, "ends at byte 1536 without the mark of an end"),
        (2048, "ends at byte 2048 without the mark of an end"),
    ] {
        let sentence = nest.refused(&whole[..length]);
        assert!(
            sentence.starts_with("the archive was cut: it") && sentence.contains(reason),
            "{length}: {sentence}"
        );
    }
    assert_eq!(nest.refused(&[]), "the archive is empty: it ends before it has begun");
    for whole in [gzip(&whole), zstd(&whole)] {
        let sentence = nest.refused(&whole[..whole.len() - 3]);
        assert!(sentence.contains("stream is damaged"), "{sentence}");
    }
    // One that is known by its digest may do without a mark: some programs write none.
    let known = Unpack { diff_id: Some(Digest::of(&whole[..2048])), ..how() };
    assert_eq!(nest.unpack_as(&whole[..2048], &known).unwrap().entries, 2);
    // Nor do all of them pad the last file.
    let nest = Nest::new();
    let known = Unpack { whole: Whole::Known, ..how() };
    assert_eq!(nest.unpack_as(&whole[..1112], &known).unwrap().size, 600);
    let sentence = Nest::new().refused_as(&whole[..1111], &known);
    assert!(sentence.contains("ends at byte 1111 within a file"), "{sentence}");
}

#[test]
fn headers_for_nothing_are_refused() {
    for archive in [
        Tar::new().records(&[("path", b"x")]).cut(),
        Tar::new().records(&[("path", b"x")]).end(),
        Tar::new().long(b'L', b"x").end(),
    ] {
        let sentence = Nest::new().refused(&archive);
        assert!(sentence.contains("behind a header for an entry that is not there"), "{sentence}");
    }
}

#[test]
fn data_behind_the_end_is_refused() {
    let archive = Tar::new().file("a", b"a").end();
    let nest = Nest::new();
    let mut padded = archive.clone();
    padded.resize(10_240, 0);
    assert_eq!(nest.unpack(&padded).unwrap().length, 10_240, "zeros are what tar pads with");

    let nest = Nest::new();
    for more in [&b"x"[..], &Tar::new().file("b", b"").end()] {
        let sentence = nest.refused(&[&padded, more].concat());
        assert_eq!(sentence, "something other than zeros follows the end of the archive, at byte 10240");
    }
    for stream in [[gzip(&archive), b"more".to_vec()].concat(), [zstd(&archive), b"more".to_vec()].concat()] {
        let sentence = nest.refused(&stream);
        assert!(sentence.contains("stream is damaged"), "{sentence}");
    }
    let sentence = nest.refused(&[&[0; 512][..], &archive].concat());
    assert!(sentence.contains("header at byte 0 is empty, and another one follows"), "{sentence}");
}

#[test]
fn other_bytes_than_promised_are_refused() {
    let archive = Tar::new().file("a", b"a").end();
    let packed = gzip(&archive);
    let nest = Nest::new();
    let other = Digest::of(b"other");
    let sentence = nest.refused_as(&packed, &Unpack { diff_id: Some(other), ..how() });
    assert_eq!(sentence, format!("the layer has digest {} instead of {other}", Digest::of(&archive)));

    // The blob's own digest and size, while it arrives.
    let directory = fs::File::open(nest.layer()).unwrap();
    for (digest, size, reason) in [
        (other, None, format!("the blob has digest {} instead of {other}", Digest::of(&packed))),
        (Digest::of(&packed), Some(7), format!("the blob has at least {} bytes instead of 7", packed.len())),
        (
            Digest::of(&packed),
            Some(7000),
            format!("the blob has only {} bytes instead of 7000", packed.len()),
        ),
    ] {
        let checked = Checked::new(packed.as_slice(), digest, size);
        let directory = std::os::fd::AsFd::as_fd(&directory);
        let error = bulkhead_store::layer::unpack(checked, directory, &how()).unwrap_err();
        assert_eq!(error.to_string(), reason);
        assert_eq!(error.kind(), Kind::Damaged, "another copy may be right");
        assert_eq!(fs::read_dir(nest.layer()).unwrap().count(), 0, "nothing of it stays");
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let nest = Nest::new();
    let mut wrong = Tar::new().file("a", b"a").end();
    wrong[5] = b'x';
    for (bytes, reason) in [
        (vec![b'x'; 2048], "this is no tar archive: the header at byte 0 has no checksum"),
        (wrong, "the header at byte 0 has a wrong checksum"),
        (b"\xfd7zXZ\0 and so on".to_vec(), "the archive is compressed with xz"),
        (Tar::new().add(&Head::new(b'M', "x"), b"").end(), "belongs to an archive of several volumes"),
        (Tar::new().add(&Head::new(b'Z', "x"), b"").end(), "is of a kind that no layer has"),
    ] {
        let sentence = nest.refused(&bytes);
        assert!(sentence.contains(reason), "{sentence}");
    }
    let mut huge = Head::new(b'x', "x");
    huge.size = 2 << 20;
    let sentence = nest.refused(&Tar::new().add(&huge, &vec![0; 2 << 20]).end());
    assert!(sentence.contains("has more than 1 MiB of records"), "{sentence}");
    let mut endless = Head::new(b'0', "x");
    endless.size = u64::MAX >> 1;
    let sentence = nest.refused(&Tar::new().add(&endless, b"").end());
    assert!(sentence.contains("at \"x\", the layer has more than"), "{sentence}");
}

/// A name that would move the cursor of whoever reads the sentence.
#[test]
fn sentences_are_harmless_themselves() {
    let sentence = refused(|tar| tar.file("../\x1b[2J\r\n", b""));
    assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
}

/// What is there already is not what an archive is unpacked over by accident.
#[test]
fn a_set_user_id_program_does_not_come_through_a_link() {
    let nest = Nest::new();
    let archive = Tar::new().add(&Head::new(b'0', "su").mode(0o4755), b"").hard_link("other", "su");
    nest.unpack(&archive.end()).unwrap();
    assert_eq!(fs::metadata(nest.at("other")).unwrap().mode() & 0o7777, 0o4755, "both names are of one file");
}
