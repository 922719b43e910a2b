//! A template with values in it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::functions::{self, Item};
use super::parse::{Base, Binding, Command, Head, Node, Parsed, Pipe, Term};
use super::{Error, Labels, Subject};

/// Fills in all parts.
pub(super) fn render(parsed: &Parsed, subject: Subject<'_>) -> Result<String, Error> {
    let root = Item::some(subject.value.clone());
    let mut evaluation = Evaluation {
        subject,
        defined: &parsed.defined,
        variables: vec![(String::new(), root.clone())],
        depth: 0,
        text: String::new(),
    };
    evaluation.body(&parsed.nodes, &root)?;
    Ok(evaluation.text)
}

/// How deep templates may stand in each other.
const DEEPEST: usize = 100;

/// How a sequence of parts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Through,
    Break,
    Continue,
}

struct Evaluation<'a> {
    subject: Subject<'a>,
    /// The templates that have names.
    defined: &'a BTreeMap<String, Vec<Node>>,
    /// The innermost last. `$` is the one without a name.
    variables: Vec<(String, Item)>,
    /// How many templates this one stands in.
    depth: usize,
    text: String,
}

impl<'a> Evaluation<'a> {
    fn body(&mut self, nodes: &[Node], dot: &Item) -> Result<Flow, Error> {
        let known = self.variables.len();
        let mut flow = Flow::Through;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::Through {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Item) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Print(pipe) => {
                let item = self.pipe(pipe, dot)?;
                self.text.push_str(&item.shown());
            }
            Node::Set { at, name, binding, pipe } => {
                let item = self.pipe(pipe, dot)?;
                self.set(*at, name, *binding, item)?;
            }
            Node::If { branches, otherwise } => {
                for (pipe, body) in branches {
                    if self.pipe(pipe, dot)?.is_true() {
                        return self.body(body, dot);
                    }
                }
                return self.body(otherwise, dot);
            }
            Node::With { variable, pipe, body, otherwise } => {
                let item = self.pipe(pipe, dot)?;
                if !item.is_true() {
                    return self.body(otherwise, dot);
                }
                let known = self.variables.len();
                self.variables.extend(variable.iter().map(|name| (name.clone(), item.clone())));
                let flow = self.body(body, &item);
                self.variables.truncate(known);
                return flow;
            }
            Node::Range { key, item, pipe, body, otherwise } => {
                let names = [key.as_deref(), item.as_deref()];
                return self.range(names, pipe, [body, otherwise], dot);
            }
            Node::Template { at, name, pipe } => {
                let item = pipe.as_ref().map_or_else(|| Ok(Item::none()), |pipe| self.pipe(pipe, dot))?;
                self.template(*at, name, &item)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    /// Fills in a template that has a name. It sees nothing but its own `$`.
    fn template(&mut self, at: usize, name: &str, item: &Item) -> Result<(), Error> {
        let defined: &'a [Node] = self
            .defined
            .get(name)
            .ok_or_else(|| Error::new(at, format!("no template {name:?} is defined")))?;
        if self.depth >= DEEPEST {
            let text = format!("template {name:?} stands in {DEEPEST} others, itself perhaps");
            return Err(Error::new(at, text));
        }
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), item.clone())]);
        self.depth += 1;
        let flow = self.body(defined, item);
        self.depth -= 1;
        self.variables = outer;
        flow.map(drop)
    }

    fn set(&mut self, at: usize, name: &str, binding: Binding, item: Item) -> Result<(), Error> {
        match binding {
            Binding::New => self.variables.push((name.to_owned(), item)),
            Binding::Known => {
                let variable = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                variable.ok_or_else(|| no_variable(at, name))?.1 = item;
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        [key, item]: [Option<&str>; 2],
        pipe: &Pipe,
        [body, otherwise]: [&[Node]; 2],
        dot: &Item,
    ) -> Result<Flow, Error> {
        let at = pipe.commands.first().map_or(1, |command| command.at);
        let pairs: Vec<(Value, Item)> = match self.pipe(pipe, dot)?.0 {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => {
                let items = values.into_iter().map(Item::some).enumerate();
                items.map(|(index, item)| (Value::from(index), item)).collect()
            }
            Some(Value::Object(map)) => {
                let items = map.into_iter().map(|(key, value)| (Item::field(&key, value), key));
                items.map(|(item, key)| (Value::String(key), item)).collect()
            }
            Some(other) => return Err(Error::new(at, format!("range over {}", functions::told(&other)))),
        };
        if pairs.is_empty() {
            return self.body(otherwise, dot);
        }
        let known = self.variables.len();
        for (index, value) in pairs {
            self.variables.extend(key.map(|name| (name.to_owned(), Item::some(index))));
            self.variables.extend(item.map(|name| (name.to_owned(), value.clone())));
            let flow = self.body(body, &value)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Item) -> Result<Item, Error> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_else(Item::none))
    }

    /// One command; `piped` is the value of the one before.
    fn command(&mut self, command: &Command, dot: &Item, piped: Option<Item>) -> Result<Item, Error> {
        let Command { at, head, arguments } = command;
        let mut values = Vec::new();
        for argument in arguments {
            values.push(self.term(argument, dot)?);
        }
        values.extend(piped);
        match head {
            Head::Function(function) => function(&values).map_err(|text| Error::new(*at, text)),
            Head::Term(term) if values.is_empty() => self.term(term, dot),
            Head::Term(term) => self.method(term, &values),
        }
    }

    /// `.Label "name"`, the one field that takes an argument.
    fn method(&self, term: &Term, arguments: &[Item]) -> Result<Item, Error> {
        let no_function = || Error::new(term.at, "this is no function, and takes no arguments");
        let (Base::Dot, [(_, name)], [Item(Some(Value::String(label)), _)]) =
            (&term.base, &*term.fields, arguments)
        else {
            return Err(no_function());
        };
        let value = match self.subject.labels {
            Labels::Of(labels) if name == "Label" => labels.get(label).cloned().unwrap_or_else(|| "".into()),
            Labels::Titles if name == "Label" => {
                label.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ").into()
            }
            _ => return Err(no_function()),
        };
        Ok(Item::some(value))
    }

    fn term(&mut self, term: &Term, dot: &Item) -> Result<Item, Error> {
        let Term { at, base, fields } = term;
        let mut item = match base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let variable = self.variables.iter().rev().find(|(known, _)| known == name);
                variable.ok_or_else(|| no_variable(*at, name))?.1.clone()
            }
            Base::Literal(value) => Item::some(value.clone()),
            Base::Call(function) => function(&[]).map_err(|text| Error::new(*at, text))?,
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        for (at, name) in fields {
            item = field(*at, &item, name)?;
        }
        Ok(item)
    }
}

fn no_variable(at: usize, name: &str) -> Error {
    Error::new(at, format!("there is no variable ${name}"))
}

/// A field of an object. In an object whose keys all begin with a capital, as those of docker's types do, one that is not
/// there is a mistake; in any other, such as labels, it has no value.
fn field(at: usize, item: &Item, name: &str) -> Result<Item, Error> {
    let Item(Some(value), _) = item else {
        return Err(Error::new(at, format!("no value has a field {name}")));
    };
    let Value::Object(map) = value else {
        return Err(Error::new(at, format!("{} has no field {name}", functions::told(value))));
    };
    if let Some(value) = map.get(name) {
        return Ok(Item::field(name, value.clone()));
    }
    let is_record =
        !map.is_empty() && map.keys().all(|key| key.starts_with(|first: char| first.is_ascii_uppercase()));
    if !is_record {
        return Ok(Item::none());
    }
    let names = Vec::from_iter(map.keys().map(String::as_str)).join(", ");
    Err(Error::new(at, format!("there is no field {name}: there are {names}")))
}
