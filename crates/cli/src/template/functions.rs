//! The functions of templates: Go's own and docker's.

use std::cmp::Ordering;

use serde_json::Value;

use crate::output::escape::query;

/// A value, or none: what a label has that is not there. With it goes how nothing is shown where the value is that.
#[derive(Debug, Clone)]
pub(super) struct Item(pub(super) Option<Value>, pub(super) Nil);

/// How Go shows nothing: by the type of the field that has it, which JSON does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nil {
    Pointer,
    List,
    Map,
    Text,
}

/// Docker's fields that are lists, and may be nothing.
const LISTS: &[&str] = &[
    "Aliases",
    "Authorization",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Capabilities",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "GenericResources",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "RemoteManagers",
    "ReadonlyPaths",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
    "Warnings",
];

/// Those that are maps.
const MAPS: &[&str] = &[
    "Annotations",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "Ports",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Those that are texts.
const TEXTS: &[&str] = &["Gateway", "IPRange", "StopSignal"];

impl Nil {
    /// By the name of the field.
    fn of(name: &str) -> Nil {
        match name {
            // The bindings of a port, such as `80/tcp`.
            _ if LISTS.contains(&name) || name.contains('/') => Nil::List,
            _ if MAPS.contains(&name) => Nil::Map,
            _ if TEXTS.contains(&name) => Nil::Text,
            _ => Nil::Pointer,
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Nil::Pointer => "<nil>",
            Nil::List => "[]",
            Nil::Map => "map[]",
            Nil::Text => "",
        }
    }
}

/// What a function makes of its arguments; an error is a fragment.
pub(super) type Function = fn(&[Item]) -> Result<Item, String>;

/// Every function by its name.
pub(super) const ALL: &[(&str, Function)] = &[
    ("and", and),
    ("or", or),
    ("not", |items| Ok(truth(!one("not", items)?.is_true()))),
    ("len", len),
    ("index", index),
    ("slice", slice),
    ("eq", |items| compared("eq", items, |order| order == Some(Ordering::Equal))),
    ("ne", |items| compared("ne", items, |order| order != Some(Ordering::Equal))),
    ("lt", |items| ordered("lt", items, Ordering::is_lt)),
    ("le", |items| ordered("le", items, Ordering::is_le)),
    ("gt", |items| ordered("gt", items, Ordering::is_gt)),
    ("ge", |items| ordered("ge", items, Ordering::is_ge)),
    ("print", |items| Ok(text(printed(items)))),
    ("println", |items| Ok(text(Vec::from_iter(items.iter().map(Item::shown)).join(" ") + "\n"))),
    ("printf", printf),
    ("json", |items| Ok(text(one("json", items)?.json()))),
    ("lower", |items| Ok(text(string("lower", one("lower", items)?)?.to_lowercase()))),
    ("upper", |items| Ok(text(string("upper", one("upper", items)?)?.to_uppercase()))),
    ("title", |items| Ok(text(title(string("title", one("title", items)?)?)))),
    ("split", split),
    ("join", join),
    ("pad", pad),
    ("truncate", truncate),
    ("html", |items| Ok(text(html(&together("html", items)?)))),
    ("urlquery", |items| Ok(text(query(&together("urlquery", items)?)))),
];

/// Finds a function.
pub(super) fn named(name: &str) -> Option<Function> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
}

impl Item {
    /// A value.
    pub(super) fn some(value: Value) -> Item {
        Item(Some(value), Nil::Pointer)
    }

    /// The value of a field.
    pub(super) fn field(name: &str, value: Value) -> Item {
        Item(Some(value), Nil::of(name))
    }

    /// No value.
    pub(super) fn none() -> Item {
        Item(None, Nil::Pointer)
    }

    /// What Go's templates take for true: all but nothing, false, zero and what is empty.
    pub(super) fn is_true(&self) -> bool {
        match &self.0 {
            None | Some(Value::Null) => false,
            Some(Value::Bool(bool)) => *bool,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(values)) => !values.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
        }
    }

    /// As Go prints it.
    pub(super) fn shown(&self) -> String {
        self.0.as_ref().map_or_else(|| "<no value>".to_owned(), |value| shown(value, self.1))
    }

    fn json(&self) -> String {
        self.0.as_ref().map_or_else(|| "null".to_owned(), Value::to_string)
    }
}

fn shown(value: &Value, nil: Nil) -> String {
    match value {
        Value::Null => nil.shown().to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(values) => {
            let values = values.iter().map(|value| shown(value, Nil::Pointer));
            format!("[{}]", Vec::from_iter(values).join(" "))
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}:{}", shown(value, Nil::of(key))));
            format!("map[{}]", Vec::from_iter(pairs).join(" "))
        }
    }
}

/// Names a kind of value.
pub(super) fn told(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn text(text: String) -> Item {
    Item::some(Value::String(text))
}

fn truth(bool: bool) -> Item {
    Item::some(Value::Bool(bool))
}

fn one<'a>(name: &str, items: &'a [Item]) -> Result<&'a Item, String> {
    match items {
        [item] => Ok(item),
        _ => Err(format!("{name} takes one argument, not {}", items.len())),
    }
}

fn two<'a>(name: &str, items: &'a [Item]) -> Result<[&'a Item; 2], String> {
    match items {
        [first, second] => Ok([first, second]),
        _ => Err(format!("{name} takes two arguments, not {}", items.len())),
    }
}

fn string<'a>(name: &str, item: &'a Item) -> Result<&'a str, String> {
    match &item.0 {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{name} wants a text, not {}", told(other))),
        None => Ok(""),
    }
}

fn number(name: &str, item: &Item) -> Result<usize, String> {
    let number = item.0.as_ref().and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{name} wants a whole number, not {}", item.shown()))
}

fn and(items: &[Item]) -> Result<Item, String> {
    let item = items.iter().find(|item| !item.is_true()).or(items.last());
    item.cloned().ok_or_else(|| "and takes arguments".to_owned())
}

fn or(items: &[Item]) -> Result<Item, String> {
    let item = items.iter().find(|item| item.is_true()).or(items.last());
    item.cloned().ok_or_else(|| "or takes arguments".to_owned())
}

fn len(items: &[Item]) -> Result<Item, String> {
    let length = match &one("len", items)?.0 {
        None | Some(Value::Null) => 0,
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(values)) => values.len(),
        Some(Value::Object(map)) => map.len(),
        Some(other) => return Err(format!("len of {}", told(other))),
    };
    Ok(Item::some(Value::from(length)))
}

fn index(items: &[Item]) -> Result<Item, String> {
    let [first, keys @ ..] = items else { return Err("index takes arguments".to_owned()) };
    let mut item = first.clone();
    for key in keys {
        item = match &item.0 {
            Some(Value::Array(values)) => {
                let at = number("index", key)?;
                let value = values.get(at);
                let value = value.ok_or_else(|| format!("index {at} of a list of {}", values.len()))?;
                Item::some(value.clone())
            }
            Some(Value::Object(map)) => {
                let key = string("index", key)?;
                map.get(key).map_or_else(Item::none, |value| Item::field(key, value.clone()))
            }
            None | Some(Value::Null) => Item::none(),
            Some(other) => return Err(format!("index of {}", told(other))),
        };
    }
    Ok(item)
}

fn slice(items: &[Item]) -> Result<Item, String> {
    let [item, ends @ ..] = items else { return Err("slice takes arguments".to_owned()) };
    let length = match &item.0 {
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(values)) => values.len(),
        _ => return Err("slice wants a text or a list".to_owned()),
    };
    let begin = ends.first().map_or(Ok(0), |end| number("slice", end))?;
    let end = ends.get(1).map_or(Ok(length), |end| number("slice", end))?;
    let outside = || format!("slice {begin} to {end} of {length}");
    let value = match &item.0 {
        Some(Value::String(text)) => Value::from(text.get(begin..end).ok_or_else(outside)?),
        Some(Value::Array(values)) => Value::from(values.get(begin..end).ok_or_else(outside)?),
        _ => return Err("slice wants a text or a list".to_owned()),
    };
    Ok(Item::some(value))
}

/// How two values of a kind stand to each other.
fn order(first: &Item, second: &Item) -> Option<Ordering> {
    match (&first.0, &second.0) {
        (Some(Value::Number(first)), Some(Value::Number(second))) => {
            first.as_f64()?.partial_cmp(&second.as_f64()?)
        }
        (Some(Value::String(first)), Some(Value::String(second))) => Some(first.cmp(second)),
        (first, second) => (first == second).then_some(Ordering::Equal),
    }
}

/// The first against any of the others, as Go's `eq`.
fn compared(name: &str, items: &[Item], wanted: fn(Option<Ordering>) -> bool) -> Result<Item, String> {
    let [first, others @ ..] = items else { return Err(format!("{name} takes two arguments")) };
    if others.is_empty() {
        return Err(format!("{name} takes two arguments, not 1"));
    }
    Ok(truth(others.iter().any(|other| wanted(order(first, other)))))
}

fn ordered(name: &str, items: &[Item], wanted: fn(Ordering) -> bool) -> Result<Item, String> {
    let [first, second] = two(name, items)?;
    let order = order(first, second)
        .ok_or_else(|| format!("{name} cannot compare {} with {}", first.shown(), second.shown()))?;
    Ok(truth(wanted(order)))
}

/// Go's `print`: a space between two of which neither is a text.
fn printed(items: &[Item]) -> String {
    let is_text = |item: &Item| matches!(item.0, Some(Value::String(_)));
    let mut printed = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 && !is_text(item) && !is_text(&items[index - 1]) {
            printed.push(' ');
        }
        printed.push_str(&item.shown());
    }
    printed
}

/// What Go's functions that escape make of their arguments first.
fn together(name: &str, items: &[Item]) -> Result<String, String> {
    if items.is_empty() { Err(format!("{name} takes arguments")) } else { Ok(printed(items)) }
}

/// Text as a part of HTML, in Go's words for what would be no text there.
fn html(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            '\0' => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

fn printf(items: &[Item]) -> Result<Item, String> {
    let [format, arguments @ ..] = items else { return Err("printf takes a format".to_owned()) };
    let format = string("printf", format)?;
    let mut arguments = arguments.iter();
    let mut printed = String::new();
    let mut rest = format.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            printed.push(letter);
            continue;
        }
        let mut take = |wanted: fn(char) -> bool| {
            let mut taken = String::new();
            while let Some(letter) = rest.next_if(|letter| wanted(*letter)) {
                taken.push(letter);
            }
            taken
        };
        let flags = take(|letter| "-+0 ".contains(letter));
        let width = take(|letter| letter.is_ascii_digit()).parse().unwrap_or(0);
        let precision = take(|letter| letter == '.' || letter.is_ascii_digit());
        let precision = precision.strip_prefix('.').map(|digits| digits.parse().unwrap_or(0));
        let verb = rest.next().ok_or("printf: % at the end of the format")?;
        if verb == '%' {
            printed.push('%');
            continue;
        }
        let item = arguments.next().ok_or_else(|| format!("printf: no argument is left for %{verb}"))?;
        let shown = formatted(verb, item, precision)?;
        printed.push_str(&filled(&shown, &flags, width));
    }
    match arguments.len() {
        0 => Ok(text(printed)),
        left => Err(format!("printf: the format has no place for {left} of the arguments")),
    }
}

fn formatted(verb: char, item: &Item, precision: Option<usize>) -> Result<String, String> {
    let whole = || {
        let whole = item.0.as_ref().and_then(Value::as_i64);
        whole.ok_or_else(|| format!("printf: %{verb} wants a whole number, not {}", item.shown()))
    };
    let cut = |text: String| match precision {
        Some(length) => text.chars().take(length).collect(),
        None => text,
    };
    Ok(match verb {
        's' | 'v' => cut(item.shown()),
        'q' => format!("{:?}", cut(item.shown())),
        't' => match item.0 {
            Some(Value::Bool(bool)) => bool.to_string(),
            _ => return Err(format!("printf: %t wants true or false, not {}", item.shown())),
        },
        'd' => whole()?.to_string(),
        'x' => match &item.0 {
            Some(Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            _ => format!("{:x}", whole()?),
        },
        'f' => {
            let number = item.0.as_ref().and_then(Value::as_f64);
            let number = number.ok_or_else(|| format!("printf: %f wants a number, not {}", item.shown()))?;
            format!("{number:.*}", precision.unwrap_or(6))
        }
        _ => return Err(format!("printf: %{verb} is not there: %s %v %q %d %x %f %t %% are")),
    })
}

/// Fills a text up to a width: with spaces before it, `-` behind it, `0` zeros behind its sign.
fn filled(shown: &str, flags: &str, width: usize) -> String {
    let missing = width.saturating_sub(shown.chars().count());
    if flags.contains('-') {
        return format!("{shown}{}", " ".repeat(missing));
    }
    if flags.contains('0') {
        let (sign, digits) = shown.strip_prefix('-').map_or(("", shown), |digits| ("-", digits));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{shown}", " ".repeat(missing))
}

/// Every word with a capital.
fn title(words: &str) -> String {
    let mut titled = String::new();
    let mut before = ' ';
    for letter in words.chars() {
        if before.is_alphanumeric() {
            titled.push(letter);
        } else {
            titled.extend(letter.to_uppercase());
        }
        before = letter;
    }
    titled
}

fn split(items: &[Item]) -> Result<Item, String> {
    let [whole, separator] = two("split", items)?;
    let (whole, separator) = (string("split", whole)?, string("split", separator)?);
    Ok(Item::some(Value::from_iter(whole.split(separator))))
}

fn join(items: &[Item]) -> Result<Item, String> {
    let [list, separator] = two("join", items)?;
    let separator = string("join", separator)?;
    match &list.0 {
        None | Some(Value::Null) => Ok(text(String::new())),
        Some(Value::Array(values)) => {
            let values = values.iter().map(|value| shown(value, Nil::Pointer));
            Ok(text(Vec::from_iter(values).join(separator)))
        }
        Some(other) => Err(format!("join wants a list, not {}", told(other))),
    }
}

/// Spaces before and behind.
fn pad(items: &[Item]) -> Result<Item, String> {
    let [whole, before, behind] = items else {
        return Err(format!("pad takes three arguments, not {}", items.len()));
    };
    let (before, behind) = (number("pad", before)?, number("pad", behind)?);
    Ok(text(format!("{}{}{}", " ".repeat(before), string("pad", whole)?, " ".repeat(behind))))
}

fn truncate(items: &[Item]) -> Result<Item, String> {
    let [whole, length] = two("truncate", items)?;
    let length = number("truncate", length)?;
    Ok(text(string("truncate", whole)?.chars().take(length).collect()))
}
