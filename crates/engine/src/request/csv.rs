//! Values of several fields: `type=bind,source=/a,target=/b`, read as one record of comma-separated values (RFC 4180).

use super::Malformed;

/// Splits a value into its fields. A field that begins with a quotation mark goes on to the next one and may hold commas; two
/// marks inside stand for one.
pub(super) fn fields(noun: &'static str, text: &str) -> Result<Vec<String>, Malformed> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(noun, text, quoted)?,
            None => match rest.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (rest.to_owned(), None),
            },
        };
        if !rest.starts_with('"') && field.contains('"') {
            let reason = format!("field {field:?} has a quotation mark, and does not begin with one");
            return Err(Malformed::new(noun, text, reason));
        }
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Reads what follows an opening mark: the field, and what stands behind the comma after it.
fn quoted_field<'a>(
    noun: &'static str,
    text: &str,
    quoted: &'a str,
) -> Result<(String, Option<&'a str>), Malformed> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(Malformed::new(noun, text, "a quotation mark is not closed"));
        };
        field.push_str(part);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if after.is_empty() {
            return Ok((field, None));
        } else if let Some(after) = after.strip_prefix(',') {
            return Ok((field, Some(after)));
        } else {
            return Err(Malformed::new(noun, text, "a comma follows a closing quotation mark"));
        }
    }
}

/// Splits a field at its first `=`; one without has no value.
pub(super) fn key_value(field: &str) -> (&str, Option<&str>) {
    field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_separated_by_commas_outside_quotation_marks() {
        let table: &[(&str, &[&str])] = &[
            ("", &[""]),
            ("a", &["a"]),
            ("a,b=c,", &["a", "b=c", ""]),
            (r#""device=0,1""#, &["device=0,1"]),
            (r#"a,"b,""c""",d"#, &["a", r#"b,"c""#, "d"]),
            (r#""","#, &["", ""]),
        ];
        for (text, expected) in table {
            assert_eq!(fields("value", text).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn a_stray_quotation_mark_is_told() {
        for text in [r#"a"b"#, r#""a"#, r#""a"b"#, r#"x="y,z""#] {
            assert!(fields("value", text).is_err(), "{text}");
        }
    }
}
