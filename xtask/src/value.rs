//! The values of options that have a few names to choose from, or are numbers.

use anyhow::{Context as _, Result};
use lexopt::{Parser, ValueExt as _};

/// Takes one of all that there are, by its name.
pub(crate) fn named<T: Copy>(parser: &mut Parser, all: &[T], name: fn(T) -> &'static str) -> Result<T> {
    let value = parser.value()?.string()?;
    all.iter().copied().find(|&item| value == name(item)).with_context(|| {
        let names = Vec::from_iter(all.iter().map(|&item| name(item)));
        format!("{value} is none of {}", names.join(", "))
    })
}

/// Takes a number that is not below zero.
pub(crate) fn number<T: TryFrom<u64>>(parser: &mut Parser) -> Result<T> {
    let value = parser.value()?.string()?;
    let number = value.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
    number.with_context(|| format!("{value} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser(value: &str) -> Parser {
        let mut parser = Parser::from_args([format!("--option={value}")]);
        assert!(parser.next().unwrap().is_some());
        parser
    }

    #[test]
    fn a_name_is_one_of_all() {
        let colour =
            |value: &str| named(&mut parser(value), &[1, 2], |n| if n == 1 { "red" } else { "blue" });
        assert_eq!(colour("blue").unwrap(), 2);
        assert_eq!(colour("green").unwrap_err().to_string(), "green is none of red, blue");
    }

    #[test]
    fn a_number_fits_where_it_goes() {
        assert_eq!(number::<u64>(&mut parser("7")).unwrap(), 7);
        for value in ["many", "-1", "", "300"] {
            assert!(number::<u8>(&mut parser(value)).is_err(), "{value:?} is no number of a byte");
        }
    }
}
