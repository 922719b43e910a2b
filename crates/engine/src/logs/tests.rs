use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::Write as _;

use super::*;

/// A directory with a log, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bh-logs-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("log.json")
    }

    fn say(&self, second: u32) {
        let time = jiff::Timestamp::from_second(second.into()).unwrap();
        let line = format!("{{\"log\":\"{second}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n");
        self.append(&line);
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate(&self) {
        for number in (0..3).rev() {
            let _ = fs::rename(numbered(&self.path(), number), numbered(&self.path(), number + 1));
        }
    }

    fn read(&self, wanted: &Logs) -> Vec<u32> {
        let mut said = Vec::new();
        read(&self.path(), wanted, &mut || Ok(false), &mut |entry| {
            said.push(entry.text.trim().parse().unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
        said
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Six entries in three files.
fn rotated(name: &str) -> Place {
    let place = Place::new(name);
    for second in 1..=6 {
        place.say(second);
        if second == 2 || second == 4 {
            place.rotate();
        }
    }
    place
}

#[test]
fn all_files_are_read_from_the_oldest() {
    assert_eq!(rotated("all").read(&Logs::default()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(Place::new("none").read(&Logs::default()), [] as [u32; 0]);
}

#[test]
fn a_tail_reaches_into_older_files() {
    let place = rotated("tail");
    for tail in 0..=8 {
        let said = place.read(&Logs { tail: Some(tail), ..Logs::default() });
        let expected: Vec<u32> = (1..=6).skip(6_usize.saturating_sub(tail as usize)).collect();
        assert_eq!(said, expected, "the last {tail}");
    }
}

#[test]
fn a_tail_is_found_beyond_a_block() {
    let place = Place::new("blocks");
    let line = |number: u32| {
        format!("{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
    };
    place.append(&(0..10_000).map(line).collect::<String>());
    let said = place.read(&Logs { tail: Some(5_000), ..Logs::default() });
    assert_eq!(said, (5_000..10_000).collect::<Vec<u32>>());
}

#[test]
fn times_cut_both_ends() {
    let place = rotated("times");
    let second = |number: u64| Some(number * 1_000_000_000);
    assert_eq!(place.read(&Logs { since: second(3), until: second(5), ..Logs::default() }), [3, 4, 5]);
}

#[test]
fn a_line_that_is_not_whole_waits_and_nonsense_is_left_out() {
    let place = Place::new("torn");
    place.say(1);
    place.append("nonsense\n");
    place.say(2);
    place.append("{\"log\":\"3");
    assert_eq!(place.read(&Logs::default()), [1, 2]);
}

#[test]
fn a_reader_that_follows_sees_what_comes_across_rotations_until_the_end() {
    let place = rotated("follow");
    let turns = Cell::new(0);
    let mut is_active = || {
        let turn = turns.get() + 1;
        turns.set(turn);
        match turn {
            1 => place.append("{\"log\":\"7\\n\",\"stream\":\"stdout\","),
            2 => {
                place.append("\"time\":\"2026-01-01T00:00:00Z\"}\n");
                place.say(8);
                place.rotate();
            }
            3 => {
                place.say(9);
                place.rotate();
                place.say(10);
                place.rotate();
                place.say(11);
            }
            _ => {}
        }
        Ok(turn < 4)
    };
    let mut said = Vec::new();
    let wanted = Logs { follow: Follow::UntilEnd, ..Logs::default() };
    read(&place.path(), &wanted, &mut is_active, &mut |entry| {
        said.push(entry.text.trim().parse::<u32>().unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(said, (1..=11).collect::<Vec<u32>>());
}

#[test]
fn who_has_seen_enough_ends_the_reading() {
    let place = rotated("enough");
    let mut count = 0;
    let wanted = Logs { follow: Follow::UntilEnd, ..Logs::default() };
    read(&place.path(), &wanted, &mut || Ok(true), &mut |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(count, 3);
}
