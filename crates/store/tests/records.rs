//! Records of containers, volumes and events, also by several processes at once.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};

use bulkhead_store::{
    ContainerRecord, Digest, Durability, Error, Event, Kind, Places, Stage, Store, Subject, VolumeRecord,
};
use bulkhead_testkit::Scratch;

fn places(directory: &Path) -> Places {
    Places { root: directory.join("root"), run: directory.join("run") }
}

fn id(number: usize) -> String {
    Digest::of(&number.to_le_bytes()).hex()
}

fn insert(store: &Store, record: &ContainerRecord) -> Result<Vec<String>, Error> {
    store.insert_container(record, &[], Durability::Process, None)
}

#[test]
fn a_container_is_found_by_id_name_and_prefix() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    let first =
        ContainerRecord { document: r#"{"a":1}"#.into(), ..ContainerRecord::new(&id(1), "web", None) };
    insert(&store, &first).unwrap();
    // A name that looks like the beginning of the first one's id.
    let second = ContainerRecord::new(&id(2), &id(1)[..4], None);
    insert(&store, &second).unwrap();

    assert_eq!(store.container(&first.id).unwrap(), first);
    assert_eq!(store.container("web").unwrap(), first);
    assert_eq!(store.container(&first.id[..12]).unwrap(), first);
    assert_eq!(store.container(&first.id[..4]).unwrap(), second, "a name comes before a prefix");
    for wanted in ["", "nobody", "WEB", &"0".repeat(64), "web'--", "g", "%"] {
        let error = store.container(wanted).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{wanted:?} is {error}");
    }
    assert_eq!(store.containers().unwrap().len(), 2);
}

#[test]
fn a_prefix_of_several_ids_is_ambiguous() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    for number in 0..17 {
        insert(&store, &ContainerRecord::new(&id(number), &format!("c{number}"), None)).unwrap();
    }
    // Of seventeen, two begin with the same digit.
    let ambiguous = (0..16)
        .map(|digit| format!("{digit:x}"))
        .find_map(|digit| store.container(&digit).err().filter(|error| error.kind() == Kind::Ambiguous));
    let error = ambiguous.expect("one digit is ambiguous").to_string();
    assert!(error.contains("is ambiguous: ") && error.contains(" (c"), "{error}");
}

#[test]
fn names_are_unique_until_the_record_goes() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    insert(&store, &ContainerRecord::new(&id(1), "web", None)).unwrap();
    let error = insert(&store, &ContainerRecord::new(&id(2), "web", None)).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { by, .. } if *by == id(1)), "{error}");

    insert(&store, &ContainerRecord::new(&id(2), "other", None)).unwrap();
    assert_eq!(store.rename_container(&id(2), "web", None).unwrap_err().kind(), Kind::Conflict);
    store.rename_container(&id(2), "other", None).unwrap();
    store.rename_container(&id(2), "new", None).unwrap();
    assert_eq!(store.container("new").unwrap().id, id(2));

    assert_eq!(store.begin_removal(&id(1), Durability::Process, |_| Ok(None)).unwrap().before, Stage::Kept);
    assert_eq!(
        store.begin_removal(&id(1), Durability::Process, |_| Ok(None)).unwrap().before,
        Stage::Removing,
        "the second sees that it is not the first"
    );
    assert_eq!(
        insert(&store, &ContainerRecord::new(&id(3), "web", None)).unwrap_err().kind(),
        Kind::Conflict
    );
    store.delete_container(&id(1), None).unwrap();
    store.delete_container(&id(1), None).unwrap();
    insert(&store, &ContainerRecord::new(&id(3), "web", None)).unwrap();
    assert_eq!(
        store.begin_removal(&id(1), Durability::Process, |_| Ok(None)).unwrap_err().kind(),
        Kind::NotFound
    );
}

#[test]
fn a_change_is_whole_or_not_at_all() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    insert(&store, &ContainerRecord::new(&id(1), "web", None)).unwrap();
    let told = Event::new(Subject::Container, "update", &id(1));
    let mut before = String::new();
    store
        .update_container(&id(1), Durability::Process, |record| {
            record.pod = Some("pod".into());
            before = std::mem::replace(&mut record.document, r#"{"b":2}"#.into());
            Ok(Some(told.clone()))
        })
        .unwrap();
    assert_eq!(before, "{}");
    let refused = store.update_container(&id(1), Durability::Process, |record| {
        record.document.clear();
        Err::<Vec<_>, _>(Error::Invalid { subject: "it".into(), reason: "is refused".into() })
    });
    assert_eq!(refused.unwrap_err().to_string(), "it is refused");
    assert_eq!(store.container("web").unwrap().document, r#"{"b":2}"#);
    assert_eq!(store.containers_of_pod("pod").unwrap().len(), 1);
    let events = store.events(None, None).unwrap();
    assert_eq!(
        Vec::from_iter(events.iter().map(|event| &event.action[..])),
        ["update"],
        "told with the change"
    );
}

#[test]
fn a_container_of_no_image_and_no_volume_is_refused() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    let image = Digest::of(b"nothing");
    let error = insert(&store, &ContainerRecord::new(&id(1), "web", Some(image))).unwrap_err();
    assert_eq!(error.to_string(), format!("no such image: {image}"));
    let record =
        ContainerRecord { volumes: vec!["data".into()], ..ContainerRecord::new(&id(1), "web", None) };
    assert_eq!(insert(&store, &record).unwrap_err().to_string(), "no such volume: data");
    assert!(store.containers().unwrap().is_empty(), "nothing was recorded");
}

#[test]
fn volumes_come_with_containers_and_stay_while_they_are_used() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    store.insert_volume(&VolumeRecord::new("old")).unwrap();
    assert_eq!(store.insert_volume(&VolumeRecord::new("old")).unwrap_err().kind(), Kind::Conflict);
    let volumes = vec!["new".to_owned(), "old".to_owned()];
    let record = ContainerRecord { volumes: volumes.clone(), ..ContainerRecord::new(&id(1), "web", None) };
    let both = [VolumeRecord::new("old"), VolumeRecord::new("new")];
    let made = store.insert_container(&record, &both, Durability::PowerLoss, None).unwrap();
    assert_eq!(made, ["new"], "only what was not there is new, and to be filled");
    assert_eq!(store.container("web").unwrap().volumes, volumes);

    let data = store.places().volume("new").join("data");
    fs::write(data.join("file"), "kept").unwrap();
    let error = store.delete_volume("new").unwrap_err();
    assert_eq!(error.to_string(), "volume new is in use by container web");
    assert_eq!(store.volume_users("old").unwrap(), ["web"]);

    store.delete_container(&record.id, None).unwrap();
    assert!(data.join("file").exists(), "a volume outlives its container");
    store.delete_volume("new").unwrap();
    assert!(!store.places().volume("new").exists());
    assert_eq!(fs::read_dir(store.places().ingest()).unwrap().count(), 0, "nothing is left of it");
    assert_eq!(store.delete_volume("new").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.volumes().unwrap().len(), 1);
}

#[test]
fn names_of_volumes_are_names_of_files() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    let long = "a".repeat(256);
    for name in ["", ".", "..", "a/b", "/a", "-a", "a b", "ä", "a\n", &long] {
        let error = store.insert_volume(&VolumeRecord::new(name)).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{name:?} is {error}");
    }
    store.insert_volume(&VolumeRecord::new("A-b_c.9")).unwrap();
}

#[test]
fn events_are_listed_by_time_and_followed_by_sequence() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    assert_eq!(store.newest_event().unwrap(), 0);
    for time in 1..=3 {
        let event = Event::new(Subject::Container, "start", &id(1)).with("name", "web");
        store.record_event(&Event { time, ..event }).unwrap();
    }
    let times = |events: Vec<Event>| Vec::from_iter(events.into_iter().map(|event| event.time));
    assert_eq!(times(store.events(Some(2), None).unwrap()), [2, 3]);
    assert_eq!(times(store.events(None, Some(2)).unwrap()), [1, 2]);
    assert_eq!(times(store.events_after(2).unwrap()), [3]);
    assert_eq!(store.events(None, None).unwrap()[0].attributes["name"], "web");
}

#[test]
fn old_events_are_forgotten() {
    let scratch = Scratch::new();
    let store = Store::open(&places(scratch.path())).unwrap();
    for _ in 0..4096 + 512 {
        store.record_event(&Event::new(Subject::Image, "pull", "a")).unwrap();
    }
    let kept = store.events(None, None).unwrap().len();
    assert!((4096..4096 + 256).contains(&kept), "{kept} are kept");
}

#[test]
fn a_database_from_the_future_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let places = places(scratch.path());
    drop(Store::open(&places).unwrap());
    let database = rusqlite::Connection::open(places.database()).unwrap();
    database.pragma_update(None, "user_version", 1000).unwrap();
    drop(database);
    let error = Store::open(&places).unwrap_err();
    assert!(matches!(error, Error::Future { found: 1000, .. }), "{error}");
    assert!(error.to_string().ends_with("use the program that made it, or a newer one"), "{error}");
    let database = rusqlite::Connection::open(places.database()).unwrap();
    let version: u32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1000);
}

#[test]
fn files_are_their_owners_alone_whatever_the_umask() {
    let scratch = Scratch::new();
    let places = places(scratch.path());
    let store = Store::open(&places).unwrap();
    insert(&store, &ContainerRecord::new(&id(1), "web", None)).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(&places.root).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let expected = match entry.path() {
            // Part of every container's root, and closed to others by the directory above.
            path if Some(&path) == places.mountpoints().as_ref() => 0o755,
            path if path.is_dir() => 0o700,
            _ => 0o600,
        };
        assert_eq!(mode, expected, "the mode of {:?}", entry.path());
        seen += usize::from(entry.path().is_file());
    }
    assert_eq!(seen, 4, "the database, its log, the log's index, and the reserve");
}

/// Two hundred containers by twenty processes, each name wanted by all of them: every name is one's, and nobody fails
/// otherwise.
#[test]
fn of_many_processes_that_want_a_name_one_gets_it() {
    const WRITER: &str = "BULKHEAD_STORE_WRITER";
    if let Some(arguments) = std::env::var_os(WRITER) {
        write_all(arguments.to_str().unwrap());
        return;
    }
    let scratch = Scratch::new();
    // Also the making of the database is everybody's.
    let spawn = |writer: usize| -> Child {
        let test = "of_many_processes_that_want_a_name_one_gets_it";
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([test, "--exact"]).env(WRITER, format!("{writer} {}", scratch.path().display()));
        again.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let writers = Vec::from_iter((0..20).map(spawn));
    for mut writer in writers {
        assert!(writer.wait().unwrap().success(), "a writer failed");
    }
    let store = Store::open(&places(scratch.path())).unwrap();
    let mut names = Vec::from_iter(store.containers().unwrap().into_iter().map(|record| record.name));
    names.sort();
    let expected = Vec::from_iter((0..200).map(|number| format!("name{number:03}")));
    assert_eq!(names, expected);
    let won: i64 = store.newest_event().unwrap();
    assert_eq!(won, 200, "each name was won once");
}

fn write_all(arguments: &str) {
    let (writer, directory) = arguments.split_once(' ').unwrap();
    let writer: usize = writer.parse().unwrap();
    for number in 0..200 {
        // Each name by its own short-lived opening, as commands have it.
        let store = Store::open(&places(Path::new(directory))).unwrap();
        let record = ContainerRecord::new(&id(writer * 1000 + number), &format!("name{number:03}"), None);
        match insert(&store, &record) {
            Ok(_) => store.record_event(&Event::new(Subject::Container, "create", &record.id)).unwrap(),
            Err(Error::NameTaken { .. }) => {}
            Err(error) => panic!("writer {writer}: {error:?}"),
        }
    }
}
