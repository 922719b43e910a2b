//! What a registry asks for before it answers: the header `WWW-Authenticate` (RFC 9110, section 11.6.1).

/// The longest header that is read, in bytes.
const LONGEST: usize = 8 << 10;

/// One way to authenticate that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token that a service hands out (distribution specification, "Token authentication").
    Bearer {
        /// The service's address.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What the token has to be for.
        scope: Option<String>,
        /// Why the token that was given is not enough.
        error: Option<String>,
    },
}

/// Reads the challenges of one header; those of unknown schemes, and all after something that is none, are left out.
#[must_use]
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.get(..LONGEST).unwrap_or(header).trim_start_matches([' ', '\t', ',']);
    while let Some((scheme, after)) = token(rest) {
        let (parameters, next) = parameters(after);
        found.extend(challenge(scheme, parameters));
        let trimmed = next.trim_start_matches([' ', '\t', ',']);
        if trimmed.len() == rest.len() {
            break;
        }
        rest = trimmed;
    }
    found
}

fn challenge(scheme: &str, parameters: Vec<(&str, String)>) -> Option<Challenge> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope, mut error) = (None, None, None, None);
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            "error" => error = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope, error })
}

/// Reads `name=value, name="value" …` up to the next scheme, and gives what is left.
fn parameters(text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(start) else { return (found, start) };
        // A name without `=` is the next scheme.
        let Some(after) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            return (found, start);
        };
        let after = after.trim_start_matches([' ', '\t']);
        let value = if after.starts_with('"') { quoted(after) } else { token(after).map(owned) };
        let Some((value, after)) = value else { return (found, "") };
        found.push((name, value));
        rest = after;
    }
}

fn owned<'a>((value, rest): (&str, &'a str)) -> (String, &'a str) {
    (value.to_owned(), rest)
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/:".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads a string in quotes, in which a backslash takes the next character as it is.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: &str| text.to_owned();
        Challenge::Bearer { realm: own(realm), service: service.map(own), scope: scope.map(own), error: None }
    }

    #[test]
    fn challenges_of_registries_are_read() {
        for (header, expected) in [
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                 scope=\"repository:library/alpine:pull,push\"",
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/alpine:pull,push"),
                )],
            ),
            ("Basic realm=\"Registry, \\\"private\\\"\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                "Negotiate, Basic realm=x, bearer REALM = https://h/t",
                vec![Challenge::Basic, bearer("https://h/t", None, None)],
            ),
            ("Bearer realm=\"a\", Basic realm=\"b\"", vec![bearer("a", None, None), Challenge::Basic]),
            ("Bearer service=\"no realm\"", vec![]),
            ("Bearer realm=\"not closed", vec![]),
            ("Bearer realm=\"ends with a backslash\\", vec![]),
            ("Digest realm=x, nonce=\"a,b\", Basic", vec![Challenge::Basic]),
            (", , =", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn the_reason_of_a_refused_token_is_kept() {
        let found = parse("Bearer realm=\"r\",error=\"insufficient_scope\"");
        let [Challenge::Bearer { error, .. }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(error.as_deref(), Some("insufficient_scope"));
    }
}
