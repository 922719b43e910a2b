//! Many commands at once on the same names.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{WELL, is_whole, leaves_nothing};
use crate::shop::{IMAGE, shop};

/// How many commands are there at once.
const COMMANDS: usize = 200;

#[test]
fn two_hundred_commands_at_once_on_the_same_names() {
    let shop = shop!();
    shop.service("bystander", "sleep 1000");
    let bystander = shop.inspect("bystander")["State"]["Pid"].clone();
    let parent = shop.parent();
    let run = ["run", "--cgroup-parent", &parent, "--stop-timeout", "1"];
    let mut running = Vec::new();
    for number in 0..COMMANDS {
        let name = ["one", "two", "three"][number % 3];
        let other = ["two", "three", "one"][number % 3];
        let words: Vec<&str> = match number / 3 % 20 {
            0..=2 => [&run[..], &["-d", "--name", name, IMAGE, "sleep", "1000"]].concat(),
            3 => [&run[..], &["--rm", "-v", "shared:/data", IMAGE, "sh", "-c", "echo x >> /data/file"]]
                .concat(),
            4 => [&run[..], &["--rm", "--name", name, IMAGE, "true"]].concat(),
            5 => vec!["create", "--name", name, "--cgroup-parent", &parent, IMAGE, "true"],
            6 => vec!["start", name],
            7 => vec!["stop", "-t", "0", name],
            8 => vec!["rm", "-f", "-v", name],
            9 => vec!["rm", name],
            10 => vec!["kill", name],
            11 => vec!["restart", "-t", "0", name],
            12 => vec!["pause", name],
            13 => vec!["unpause", name],
            14 => vec!["rename", name, other],
            15 => vec!["exec", name, "true"],
            16 => vec!["ps", "-a"],
            17 => vec!["system", "check"],
            18 => vec!["tag", IMAGE, "busybox:again"],
            _ => vec!["rmi", "busybox:again"],
        };
        running.push(shop.bulkhead(&words).timeout(Duration::from_secs(240)).spawn());
    }
    let mut codes = BTreeMap::<i32, usize>::new();
    for command in running {
        let output = command.wait();
        *codes.entry(output.code()).or_default() += 1;
        let is_fine = [0, 1, 125, 126, 127, 137].contains(&output.code());
        let is_calm = ["panicked", "is locked", "is busy", "UNIQUE", "constraint"]
            .iter()
            .all(|word| !output.stderr.contains(word));
        assert!(is_fine && is_calm, "{output}");
        let is_told = output.code() == 0 || output.stderr.contains("error: ") || output.code() == 137;
        assert!(is_told, "a failure has a sentence: {output}");
    }
    println!("codes {codes:?}");
    assert!(codes[&0] > COMMANDS / 4, "some of them can be done: {codes:?}");
    assert_eq!(shop.inspect("bystander")["State"]["Pid"], bystander, "nobody touched it");
    is_whole(&shop, "the crowd");
    for name in ["one", "two", "three", "bystander"] {
        shop.bulkhead(&["rm", "-f", "-v", name]).output();
    }
    assert_eq!(shop.said(&["ps", "-aq"]), "");
    assert_eq!(shop.said(&["system", "check"]), WELL);
    leaves_nothing(&shop, "the crowd");
}
