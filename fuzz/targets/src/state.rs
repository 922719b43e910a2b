//! No state file makes its reader panic, and what was read is written so that it reads the same.

use bulkhead_runtime::id::ContainerId;
use bulkhead_runtime::state::State;

/// Runs the target; the input is the text of a state file.
pub fn run(input: &[u8]) {
    let (Ok(text), Ok(id)) = (std::str::from_utf8(input), ContainerId::new("c")) else { return };
    match State::from_json(&id, text) {
        Ok(state) => {
            let again =
                state.to_json().map(|text| String::from_utf8(text).map(|text| State::from_json(&id, &text)));
            assert!(matches!(&again, Ok(Ok(Ok(read))) if *read == state), "{state:?} is read as {again:?}");
        }
        Err(error) => super::check_sentence(&error.to_string()),
    }
}
