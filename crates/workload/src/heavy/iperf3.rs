//! iperf3: how much goes through a TCP connection.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::place::Room;
use super::program::{self, PATIENCE, free_port};
use super::{Amounts, Error, Result};

const PROGRAM: &str = "/usr/bin/iperf3";

pub(super) fn run(room: &Room, seconds: u32) -> Result<Amounts> {
    let port = free_port()?.to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["--server", "--one-off", "--forceflush", "--bind", "127.0.0.1", "--port", &port]);
    let mut server = program::start(room, "iperf3-server", &mut command)?;
    // It serves one client, so that nobody may try whether it does.
    server.ready(|printed| printed.contains("Server listening"))?;
    let mut command = Command::new(PROGRAM);
    command.args(["--client", "127.0.0.1", "--port", &port, "--time", &seconds.to_string(), "--json"]);
    let client = program::start(room, "iperf3", &mut command)?;
    let printed = client.finish(PATIENCE + Duration::from_secs(seconds.into()))?;
    server.finish(PATIENCE)?;
    read(&printed)
}

/// Reads what `--json` prints: what the receiver had counts.
fn read(text: &str) -> Result<Amounts> {
    let wrong = |why: String| Error::Wrong(format!("iperf3 tells no rate: {why}"));
    let told: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if let Some(error) = told.get("error").and_then(Value::as_str) {
        return Err(wrong(error.to_owned()));
    }
    let rate = told.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    let rate = rate.ok_or_else(|| wrong("there is no end/sum_received/bits_per_second".to_owned()))?;
    Ok(vec![("rate", rate / 1e9)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of iperf 3.12, without what is not read.
    const TOLD: &str = r#"{"start":{"version":"iperf 3.12"},"end":{"sum_sent":{"bits_per_second":12755838318.5,"retransmits":0},
        "sum_received":{"start":0,"end":1.000077,"seconds":1.000077,"bytes":1592918016,"bits_per_second":12742362966.0}}}"#;

    #[test]
    fn the_receiver_s_rate_is_read() {
        assert_eq!(read(TOLD).unwrap(), [("rate", 12.742362966)]);
    }

    #[test]
    fn an_error_is_told_also_beside_a_good_exit() {
        let refused = r#"{"start":{"connected":[]},"intervals":[],"end":{},"error":"unable to connect to server: Connection refused"}"#;
        for (text, expected) in [
            (refused, "unable to connect to server: Connection refused"),
            (r#"{"end":{}}"#, "there is no end/sum_received/bits_per_second"),
            (r#"{"end":{"sum_received":{"bits_per_second":"much"}}}"#, "there is no end/sum_received"),
            ("", "EOF"),
            ("iperf3: error", "expected value"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
