//! Redis, and the benchmark that comes with it.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::place::Room;
use super::program::{self, PATIENCE, free_port};
use super::{Amounts, Error, Result};

/// Clients at a time: the benchmark's own choice.
const CLIENTS: u32 = 50;

/// Requests of the first round, which tells how many fill the time.
const FIRST: f64 = 5000.0;

/// The most that are asked for.
const MOST: f64 = 2e7;

/// Whoever finds the port while it is served can do what the benchmark does, and nothing else.
const SETTINGS: &str = "\
bind 127.0.0.1
save \"\"
appendonly no
maxclients 200
maxmemory 64mb
user default on nopass ~key:* -@all +ping +set +get +config|get
";

pub(super) fn run(room: &Room, seconds: u32) -> Result<Amounts> {
    let port = free_port()?;
    let file = room.join("redis.conf");
    let settings = format!("{SETTINGS}port {port}\ndir {}\n", room.path().display());
    std::fs::write(&file, settings).map_err(Error::io("write redis.conf"))?;
    let mut server = program::start(room, "redis-server", Command::new("/usr/bin/redis-server").arg(&file))?;
    server.ready(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
    let client = |test: &str, requests: f64| {
        let mut command = Command::new("/usr/bin/redis-benchmark");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", test, "--csv"]);
        command.args(["-c", &CLIENTS.to_string(), "-n", &format!("{requests:.0}")]);
        let client = program::start(room, "redis-benchmark", &mut command)?;
        read(&client.finish(PATIENCE + Duration::from_secs(seconds.into()))?, test)
    };
    let mut amounts = Vec::new();
    for (test, rate, tail) in [("SET", "SET", "SET p99"), ("GET", "GET", "GET p99")] {
        let first = client(test, FIRST)?;
        let half = f64::from(seconds) / 2.0;
        let whole = client(test, (first.rate * half).clamp(FIRST, MOST))?;
        amounts.extend([(rate, whole.rate), (tail, whole.p99)]);
    }
    Ok(amounts)
}

/// What the benchmark tells of one test.
#[derive(Debug, PartialEq)]
struct Told {
    /// Requests a second.
    rate: f64,
    /// Milliseconds.
    p99: f64,
}

/// Reads the table that `--csv` prints, whose first line names the columns since Redis 6.2.
fn read(text: &str, test: &str) -> Result<Told> {
    let cells =
        |line: &str| Vec::from_iter(line.split(',').map(|cell| cell.trim().trim_matches('"').to_owned()));
    let lines = Vec::from_iter(text.lines().map(cells));
    let row = lines.iter().find(|row| row.first().is_some_and(|name| name == test));
    let number = |column: &str| {
        let place = lines.first()?.iter().position(|name| name == column)?;
        row?.get(place)?.parse::<f64>().ok()
    };
    match (number("rps"), number("p99_latency_ms")) {
        (Some(rate), Some(p99)) => Ok(Told { rate, p99 }),
        _ => Err(Error::Wrong(format!("redis-benchmark tells no rate and p99 of {test}: {:?}", text.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of redis-benchmark 7.0.15.
    const TOLD: &str = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","58823.53","0.554","0.120","0.511","0.759","1.327","6.887"
"#;

    #[test]
    fn the_table_is_read() {
        assert_eq!(read(TOLD, "SET").unwrap(), Told { rate: 58823.53, p99: 1.327 });
    }

    #[test]
    fn what_is_no_such_table_is_an_error() {
        // Before Redis 6.2 there was no line of names, and no p99.
        for text in [
            "",
            "Could not connect to Redis at 127.0.0.1:1: Connection refused",
            "\"SET\",\"58823.53\"\n",
            "\"test\",\"rps\",\"p99_latency_ms\"\n\"SET\",\"many\",\"1\"\n",
            "\"test\",\"rps\",\"p99_latency_ms\"\n\"SET\"\n",
        ] {
            let error = read(text, "SET").unwrap_err().to_string();
            assert!(error.starts_with("redis-benchmark tells no rate and p99 of SET"), "{text:?}: {error}");
        }
        assert!(read(TOLD, "GET").is_err(), "the row of another test was read");
    }
}
