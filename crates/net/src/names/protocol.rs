//! What is said to a helper, and what it answers: one message each, over a socket that keeps their boundaries (`SOCK_SEQPACKET`).
//!
//! ```text
//! {"version":1,"do":"serve","container":"4f…","resolvers":["10.9.9.9"]}   with 2 or 3 descriptors
//! {"version":1,"do":"stay","container":"4f…"}                             with none, or as above with 2
//! {"version":1,"do":"leave","container":"4f…"}
//! {"version":1,"do":"greet"}
//! {"version":1,"do":"look"}
//! {"version":1,"do":"end"}
//!                                            {"version":1}
//!                                            {"version":1,"containers":["4f…"]}        to look
//!                                            {"version":1,"error":"there are containers that it serves"}
//! ```
//!
//! `serve` brings the two sockets of a container ([`Sockets`](super::Sockets): for datagrams, and one that listens), which take the
//! place of earlier ones, and the resolvers that its user has chosen, if any. With a third descriptor, such as a pidfd, they are
//! kept until that can be read or has ended. `stay` keeps them until the connection by which it came ends, and nobody else stays
//! for the same container; it may bring them along. What nobody keeps for the length of the grace is given up, `leave` gives up
//! at once. `end` ends a helper that serves nobody, as the grace does.
//!
//! So a monitor does with one message: it connects and says `stay` with its container's sockets. When the connection ends though
//! the container lives, the helper has died: the monitor runs `bulkdns start` again, with the words that it was given
//! ([`Helper::arguments`](super::Helper::arguments)), and says the same once more.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The version of the messages.
pub const VERSION: u32 = 1;
/// How long a message may be, in bytes.
pub const MOST: usize = 4096;

/// What is asked of a helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// Answer a container's questions.
    Serve {
        /// Its id.
        container: String,
        /// Who is asked what is no name of its networks, in place of those that the host asks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        resolvers: Vec<IpAddr>,
    },
    /// Keep its sockets as long as this connection lasts.
    Stay {
        /// Its id.
        container: String,
        /// As above, where sockets come along.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        resolvers: Vec<IpAddr>,
    },
    /// Give its sockets up.
    Leave {
        /// Its id.
        container: String,
    },
    /// Say that it listens.
    Greet,
    /// Say who is served.
    Look,
    /// End, if nobody is served.
    End,
}

/// What a helper answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    what: T,
}

#[derive(Deserialize)]
struct OnlyVersion {
    version: u32,
}

impl Request {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

impl Answer {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

fn encode(what: impl Serialize) -> Vec<u8> {
    // It cannot fail: the keys are texts, and nothing here refuses to be written.
    serde_json::to_vec(&Versioned { version: VERSION, what }).unwrap_or_default()
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, String> {
    let OnlyVersion { version } =
        serde_json::from_slice(bytes).map_err(|error| format!("it has no version: {error}"))?;
    if version != VERSION {
        return Err(format!("it has version {version}, and this program knows {VERSION}"));
    }
    let Versioned { what, .. } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_the_head_of_this_file_says() {
        let container = || "4f".to_owned();
        let resolvers = vec!["10.9.9.9".parse().unwrap()];
        for (text, request) in [
            (
                r#"{"version":1,"do":"serve","container":"4f","resolvers":["10.9.9.9"]}"#,
                Request::Serve { container: container(), resolvers },
            ),
            (
                r#"{"version":1,"do":"stay","container":"4f"}"#,
                Request::Stay { container: container(), resolvers: Vec::new() },
            ),
            (r#"{"version":1,"do":"leave","container":"4f"}"#, Request::Leave { container: container() }),
            (r#"{"version":1,"do":"greet"}"#, Request::Greet),
            (r#"{"version":1,"do":"look"}"#, Request::Look),
            (r#"{"version":1,"do":"end"}"#, Request::End),
        ] {
            assert_eq!(String::from_utf8(request.encode()).unwrap(), text);
            assert_eq!(Request::decode(text.as_bytes()).unwrap(), request);
        }
        assert_eq!(Answer::default().encode(), br#"{"version":1}"#);
        let answer = Answer { error: None, containers: Some(vec![container()]) };
        assert_eq!(answer.encode(), br#"{"version":1,"containers":["4f"]}"#);
        assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
    }

    #[test]
    fn what_is_no_message_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no version"),
            (r#"{"do":"look"}"#, "no version"),
            (r#"{"version":2,"do":"dance"}"#, "version 2"),
            (r#"{"version":1,"do":"dance"}"#, "dance"),
            (r#"{"version":1,"do":"stay"}"#, "container"),
        ] {
            let error = Request::decode(text.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
