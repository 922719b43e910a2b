//! `inspect`: everything about containers, images, networks and volumes.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use bulkhead_engine::Engine;
use bulkhead_engine::name::similar_image;
use bulkhead_engine::store::Kind;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::document;
use crate::failure::Failure;
use crate::home::Home;
use crate::image::not_had;
use crate::output::escape;
use crate::template::{Labels, Subject, Template};
use crate::verbs::Operation;

/// Tell everything about containers, images, networks or volumes
#[derive(Args, Debug)]
pub(crate) struct Any {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Look only for this: container, image, network or volume
    #[arg(long = "type", value_name = "TYPE", hide_possible_values = true)]
    kind: Option<Noun>,
    /// Tell how much a container has written, too
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// Tell everything about containers
#[derive(Args, Debug)]
pub(crate) struct Containers {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Tell how much it has written, too
    #[arg(short, long)]
    size: bool,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

/// Tell everything about images
#[derive(Args, Debug)]
pub(crate) struct Images {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

/// Tell everything about volumes
#[derive(Args, Debug)]
pub(crate) struct Volumes {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

/// Tell everything about networks
#[derive(Args, Debug)]
pub(crate) struct Networks {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Noun {
    Container,
    Image,
    Network,
    Volume,
}

impl Operation for Any {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Any { format, kind, size, names } = self;
        let sizes = Sizes::of(size);
        let engine = home.engine()?;
        show(&names, format.as_deref(), |name| match kind {
            Some(kind) => of_kind(&engine, kind, name, sizes),
            None => of_any(&engine, name, sizes),
        })
    }
}

impl Operation for Containers {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Containers { format, size, names } = self;
        let sizes = Sizes::of(size);
        let engine = home.engine()?;
        show(&names, format.as_deref(), |name| of_kind(&engine, Noun::Container, name, sizes))
    }
}

impl Operation for Images {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        show(&self.names, self.format.as_deref(), |name| of_kind(&engine, Noun::Image, name, Sizes::Untold))
    }
}

impl Operation for Volumes {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        show(&self.names, self.format.as_deref(), |name| of_kind(&engine, Noun::Volume, name, Sizes::Untold))
    }
}

impl Operation for Networks {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        show(&self.names, self.format.as_deref(), |name| of_kind(&engine, Noun::Network, name, Sizes::Untold))
    }
}

/// Prints all that is found. What is not found is told, and the others are printed all the same.
pub(crate) fn show(
    names: &[String],
    format: Option<&str>,
    mut find: impl FnMut(&str) -> Result<Value, Failure>,
) -> Result<ExitCode, Failure> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut found = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match find(name) {
            Ok(document) => found.push(document),
            Err(failure) => {
                code = failure.report();
            }
        }
    }
    let text = match (&template, format) {
        (Some(template), _) => rendered(template, &found)?,
        (None, Some("json")) => Value::from_iter(found.iter().map(document::pruned)).to_string() + "\n",
        (None, _) => pretty(&Value::from_iter(found.iter().map(document::pruned)))?,
    };
    let text = match template {
        None => escape::json(&text),
        Some(_) if io::stdout().is_terminal() => escape::lines(&text),
        Some(_) => text,
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(code)
}

fn rendered(template: &Template, documents: &[Value]) -> Result<String, Failure> {
    let mut text = String::new();
    for document in documents {
        text.push_str(&template.render(Subject { value: document, labels: Labels::None })?);
        text.push('\n');
    }
    Ok(text)
}

/// JSON for people, indented as docker does.
fn pretty(value: &Value) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indented);
    serde::Serialize::serialize(value, &mut serializer).map_err(|error| Failure::new(error.to_string()))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether it is told how much a container has written: all of that must be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    Told,
    Untold,
}

impl Sizes {
    fn of(wanted: bool) -> Sizes {
        if wanted { Sizes::Told } else { Sizes::Untold }
    }
}

fn container(engine: &Engine, name: &str, sizes: Sizes) -> Result<Value, bulkhead_engine::Error> {
    let container = engine.container(name)?;
    let (merged, lower) = (engine.merged(&container)?, engine.lower(&container)?);
    let connected = document::Connections {
        connected: engine.connections_of(&container)?,
        published: engine.ports_of(&container)?,
    };
    let apparmor = engine.apparmor(&container);
    let mut document = document::container(&container, &merged, &lower, &apparmor, &connected);
    if sizes == Sizes::Told {
        let size = engine.size(&container.id)?;
        document["SizeRw"] = size.writable.into();
        document["SizeRootFs"] = size.whole.into();
    }
    Ok(document)
}

fn of_kind(engine: &Engine, kind: Noun, name: &str, sizes: Sizes) -> Result<Value, Failure> {
    Ok(match kind {
        Noun::Container => container(engine, name, sizes)?,
        Noun::Image => {
            let store = engine.store();
            let image = store.image(name).map_err(|error| not_had(store, error))?;
            document::image(&image, &store.lower(&image))
        }
        Noun::Network => document::network_of(&engine.network(name)?),
        Noun::Volume => document::volume(&engine.volume(name)?),
    })
}

/// What is called so: a container first, then an image, a network and a volume, as docker has it.
fn of_any(engine: &Engine, name: &str, sizes: Sizes) -> Result<Value, Failure> {
    let is_missing = |kind: Kind| kind == Kind::NotFound;
    let similar = match container(engine, name, sizes) {
        Ok(document) => return Ok(document),
        Err(error) if !is_missing(error.kind()) => return Err(error.into()),
        Err(bulkhead_engine::Error::Mistyped { similar, .. }) => Some(similar),
        Err(_) => None,
    };
    match engine.store().image(name) {
        Ok(image) => return Ok(document::image(&image, &engine.store().lower(&image))),
        Err(error) if !is_missing(error.kind()) => return Err(error.into()),
        Err(_) => {}
    }
    match engine.network(name) {
        Ok(network) => return Ok(document::network_of(&network)),
        Err(error) if !is_missing(error.kind()) => return Err(error.into()),
        Err(_) => {}
    }
    match engine.volume(name) {
        Ok(volume) => Ok(document::volume(&volume)),
        Err(error) if is_missing(error.kind()) => {
            let failure = Failure::new(format!("no container, image, network or volume is called {name:?}"));
            let near = similar.or_else(|| similar_image(engine.store(), name));
            Err(failure.hint(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "`bulkhead ps -a`, `bulkhead images`, `bulkhead network ls` and `bulkhead volume ls` list what is there"
                    .to_owned(),
            }))
        }
        Err(error) => Err(error.into()),
    }
}
