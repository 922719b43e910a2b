//! What is said on a monitor's socket: by its clients, and by itself.
//!
//! The input is one message, which is read as both would.

use bulkhead_shim::protocol::{HEAD, ToClient, ToMonitor};

/// Runs the target.
pub fn run(input: &[u8]) {
    match ToMonitor::decode(input) {
        Ok(message) => {
            let written = message.encode();
            assert_eq!(ToMonitor::decode(&written), Ok(message), "what is read is written as something else");
            if let ToMonitor::Stdin(bytes) = message {
                assert_eq!(Some(bytes), input.get(HEAD..), "bytes are lost");
            }
        }
        Err(error) => crate::check_sentence(&error.to_string()),
    }
    match ToClient::decode(input) {
        Ok(message) => {
            let written = message.encode();
            assert_eq!(ToClient::decode(&written), Ok(message), "what is read is written as something else");
            if let ToClient::Stdout(bytes) | ToClient::Stderr(bytes) = message {
                assert_eq!(Some(bytes), input.get(HEAD..), "bytes are lost");
            }
        }
        Err(error) => crate::check_sentence(&error.to_string()),
    }
}
