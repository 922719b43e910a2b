//! What registries and others say, made fit to be shown.

use serde::Deserialize;

/// The longest sentence of a stranger that is shown, in characters.
const LONGEST: usize = 300;

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// One line without what could move a cursor, and not endless.
pub(crate) fn cleaned(text: &str) -> String {
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    let text: String = text.trim().chars().take(LONGEST).map(printable).collect();
    text.trim().to_owned()
}

/// The message of an error's body (distribution specification, "Error Codes"), its code without one, or nothing.
pub(crate) fn of_body(body: &[u8]) -> String {
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let fault = errors.into_iter().next();
    fault.map_or_else(String::new, |Fault { code, message }| {
        cleaned(if message.is_empty() { &code } else { &message })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_errors_become_one_harmless_line() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#,
                "repository name not known",
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (r#"{"errors":[{"message":"\u001b[2Jgone\nand more"}]}"#, "[2Jgone and more"),
            (r#"{"errors":[]}"#, ""),
            (r#"{"errors":null}"#, ""),
            ("<html>", ""),
        ] {
            assert_eq!(of_body(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(cleaned(&"x".repeat(1000)).len(), LONGEST);
    }
}
