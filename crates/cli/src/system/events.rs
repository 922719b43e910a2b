//! `events`.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use bulkhead_engine::store::Event;
use bulkhead_engine::{EVENT_FILTERS, Events, Filters, Follow};
use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::output::escape;
use crate::output::quantity::{now, rfc3339};
use crate::template::{Labels, Subject, Template};
use crate::verbs::Operation;
use crate::when::moment;

/// Tell what happens to containers, images and volumes
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only those that fit, such as container=web or event=die
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as json, or by a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Also those that happened from this time on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// None after this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Operation for Options {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Options { filter, format, since, until } = self;
        let template = match format.as_deref() {
            Some(text) if !is_json(text) && !text.is_empty() => Some(Template::parse(text)?),
            None | Some(_) => None,
        };
        let now = now();
        let until = until.map(|text| moment(&text, now)).transpose()?;
        let wanted = Events {
            since: since.map(|text| moment(&text, now)).transpose()?,
            until,
            filters: Filters::parse(&filter, &EVENT_FILTERS)?,
            // What ends before now has all happened.
            follow: if until.is_some_and(|until| until <= now) { Follow::No } else { Follow::UntilEnd },
        };
        let mut failed = None;
        let print = |event: &Event| -> Result<(), Failure> {
            let text = match (&template, format.as_deref()) {
                (Some(template), _) => {
                    template.render(Subject { value: &fields(event), labels: Labels::None })?
                }
                (None, Some(text)) if is_json(text) => document(event).to_string(),
                (None, _) => line(event),
            };
            let text = if io::stdout().is_terminal() { escape::lines(&text) } else { text };
            Ok(writeln!(io::stdout(), "{text}")?)
        };
        home.engine()?.events(&wanted, &mut |event| match print(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

/// Docker's line: time, kind, what happened, id, and the rest in brackets.
fn line(event: &Event) -> String {
    let attributes = event.attributes.iter().map(|(key, value)| format!("{key}={value}"));
    let attributes = Vec::from_iter(attributes).join(", ");
    let time = rfc3339(u64::try_from(event.time).unwrap_or(0));
    format!("{time} {} {} {} ({attributes})", event.subject.text(), event.action, event.id)
}

/// Whether a format is that of docker's API, by its name or as a template.
fn is_json(format: &str) -> bool {
    matches!(format.replace(' ', "").as_str(), "json" | "{{json.}}")
}

/// What docker's API tells.
fn document(event: &Event) -> Value {
    let Event { sequence: _, time, subject, action, id, attributes } = event;
    let mut document = json!({
        "status": action,
        "id": id,
        "Type": subject.text(),
        "Action": action,
        "Actor": { "ID": id, "Attributes": attributes },
        "scope": "local",
        "time": time / 1_000_000_000,
        "timeNano": time,
    });
    // Docker leaves it out of what has no image.
    if !origin(event).is_empty() {
        document["from"] = json!(origin(event));
    }
    document
}

/// What a template sees: the fields of docker's type.
fn fields(event: &Event) -> Value {
    let Event { sequence: _, time, subject, action, id, attributes } = event;
    json!({
        "Status": action,
        "ID": id,
        "From": origin(event),
        "Type": subject.text(),
        "Action": action,
        "Actor": { "ID": id, "Attributes": attributes },
        "Scope": "local",
        "Time": time / 1_000_000_000,
        "TimeNano": time,
    })
}

/// The image of a container.
fn origin(event: &Event) -> &str {
    event.attributes.get("image").map_or("", String::as_str)
}
