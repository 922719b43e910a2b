//! What the words of a template mean.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Error;
use super::functions::{self, Function};
use super::scan::{Kind, Token};

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipe),
    /// `{{$name := pipe}}`, and `=` for one that is there.
    Set {
        at: usize,
        name: String,
        binding: Binding,
        pipe: Pipe,
    },
    /// `if` with each `else if`, and what follows `else`.
    If {
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    With {
        variable: Option<String>,
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        key: Option<String>,
        item: Option<String>,
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `{{template "name" pipe}}`; without a pipe it is about nothing.
    Template {
        at: usize,
        name: String,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

/// A template and those that it defines.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) nodes: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

/// Whether a variable is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    New,
    Known,
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) commands: Vec<Command>,
}

/// A term, or a function with its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) head: Head,
    pub(super) arguments: Vec<Term>,
}

/// What a command begins with.
#[derive(Debug)]
pub(super) enum Head {
    Function(Function),
    Term(Term),
}

/// Something with a value, and the fields of it that are meant.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) at: usize,
    pub(super) base: Base,
    /// Names with their places.
    pub(super) fields: Vec<(usize, String)>,
}

/// Where a term begins.
#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Call(Function),
    Pipe(Pipe),
}

/// Reads all parts.
///
/// # Errors
/// What is in the wrong place, or has no end.
pub(super) fn parse(tokens: &[Token]) -> Result<Parsed, Error> {
    let mut parser = Parser { tokens, next: 0, loops: 0, depth: 0, defined: BTreeMap::new() };
    let (nodes, end) = parser.body()?;
    match end {
        End::Text => Ok(Parsed { nodes, defined: parser.defined }),
        End::Else(at) => Err(Error::new(at, "else without if, with or range")),
        End::Close(at) => Err(Error::new(at, "end without if, with or range")),
    }
}

/// Words that begin something else than a value.
const KEYWORDS: &[&str] =
    &["if", "with", "range", "else", "end", "break", "continue", "define", "template", "block"];

/// What ends a sequence of parts.
enum End {
    Text,
    /// Behind the word `else`, which begins here.
    Else(usize),
    Close(usize),
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    loops: usize,
    /// In how many bodies this place is.
    depth: usize,
    defined: BTreeMap<String, Vec<Node>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    /// Where the next word begins, or the last one.
    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |token| token.at)
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let found = self.peek() == Some(kind);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, kind: &Kind, told: &str) -> Result<(), Error> {
        if self.take(kind) { Ok(()) } else { Err(Error::new(self.at(), format!("{told} is expected here"))) }
    }

    /// Parts up to `else`, `end` or the end of the template.
    fn body(&mut self) -> Result<(Vec<Node>, End), Error> {
        self.depth += 1;
        let body = self.parts();
        self.depth -= 1;
        body
    }

    fn parts(&mut self) -> Result<(Vec<Node>, End), Error> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.get(self.next) {
            self.next += 1;
            let node = match &token.kind {
                Kind::Text(text) => Node::Text(text.clone()),
                _ => match self.action(token.at)? {
                    Action::Node(node) => node,
                    Action::Nothing => continue,
                    Action::End(end) => return Ok((nodes, end)),
                },
            };
            nodes.push(node);
        }
        Ok((nodes, End::Text))
    }

    /// What stands behind `{{`, which begins at `open`.
    fn action(&mut self, open: usize) -> Result<Action, Error> {
        let at = self.at();
        let Some(Kind::Name(word)) = self.peek() else {
            return Ok(Action::Node(self.printed(open)?));
        };
        let keyword = word.as_str();
        if !KEYWORDS.contains(&keyword) {
            return Ok(Action::Node(self.printed(open)?));
        }
        self.next += 1;
        match keyword {
            "define" if self.depth > 1 => Err(Error::new(at, "define stands in something else")),
            "define" => self.define(at).map(|()| Action::Nothing),
            "template" => self.template(at).map(Action::Node),
            "block" => self.block(at).map(Action::Node),
            "if" => self.branches(at).map(Action::Node),
            "with" => self.with(at).map(Action::Node),
            "range" => self.range(at).map(Action::Node),
            "else" => Ok(Action::End(End::Else(at))),
            "end" => self.close().map(|()| Action::End(End::Close(at))),
            _ if self.loops == 0 => Err(Error::new(at, format!("{keyword} outside of range"))),
            "break" => self.close().map(|()| Action::Node(Node::Break)),
            _ => self.close().map(|()| Action::Node(Node::Continue)),
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        self.expect(&Kind::Close, "}}")
    }

    /// A pipeline whose value is shown, or becomes a variable's.
    fn printed(&mut self, open: usize) -> Result<Node, Error> {
        if self.take(&Kind::Close) {
            return Err(Error::new(open, "there is nothing between the braces"));
        }
        let at = self.at();
        let node = match self.variable() {
            Some((name, binding)) => Node::Set { at, name, binding, pipe: self.pipe()? },
            None => Node::Print(self.pipe()?),
        };
        self.close()?;
        Ok(node)
    }

    /// `$name :=` or `$name =`, if that comes next.
    fn variable(&mut self) -> Option<(String, Binding)> {
        let Some(Kind::Variable(name)) = self.peek() else { return None };
        let binding = match self.tokens.get(self.next + 1).map(|token| &token.kind)? {
            Kind::Declare => Binding::New,
            Kind::Assign => Binding::Known,
            _ => return None,
        };
        self.next += 2;
        Some((name.clone(), binding))
    }

    fn branches(&mut self, at: usize) -> Result<Node, Error> {
        let mut branches = Vec::new();
        loop {
            let pipe = self.pipe()?;
            self.close()?;
            let (body, end) = self.body()?;
            branches.push((pipe, body));
            match end {
                End::Close(_) => return Ok(Node::If { branches, otherwise: Vec::new() }),
                End::Text => return Err(unended("if", at)),
                End::Else(_) if self.take(&Kind::Name("if".to_owned())) => {}
                End::Else(_) => return Ok(Node::If { branches, otherwise: self.otherwise("if", at)? }),
            }
        }
    }

    fn with(&mut self, at: usize) -> Result<Node, Error> {
        let variable = self.variable().map(|(name, _)| name);
        let pipe = self.pipe()?;
        self.close()?;
        let (body, otherwise) = self.rest("with", at)?;
        Ok(Node::With { variable, pipe, body, otherwise })
    }

    fn range(&mut self, at: usize) -> Result<Node, Error> {
        let (key, item) = match (self.peek(), self.tokens.get(self.next + 1).map(|token| &token.kind)) {
            (Some(Kind::Variable(key)), Some(Kind::Comma)) => {
                self.next += 2;
                let (item, _) =
                    self.variable().ok_or_else(|| Error::new(self.at(), "$name := is expected here"))?;
                (Some(key.clone()), Some(item))
            }
            _ => (None, self.variable().map(|(name, _)| name)),
        };
        let pipe = self.pipe()?;
        self.close()?;
        self.loops += 1;
        let parts = self.rest("range", at);
        self.loops -= 1;
        let (body, otherwise) = parts?;
        Ok(Node::Range { key, item, pipe, body, otherwise })
    }

    /// The name of a template, in quotes.
    fn template_name(&mut self) -> Result<String, Error> {
        match self.peek() {
            Some(Kind::Quoted(name)) => {
                self.next += 1;
                Ok(name.clone())
            }
            _ => Err(Error::new(self.at(), "the name of a template is expected here, in quotes")),
        }
    }

    /// `{{define "name"}}`: the parts up to its end are the template's, which is shown by `template` alone.
    fn define(&mut self, at: usize) -> Result<(), Error> {
        let name = self.template_name()?;
        self.close()?;
        let nodes = self.definition("define", at)?;
        self.defined.insert(name, nodes);
        Ok(())
    }

    fn template(&mut self, at: usize) -> Result<Node, Error> {
        let name = self.template_name()?;
        let pipe = if self.peek() == Some(&Kind::Close) { None } else { Some(self.pipe()?) };
        self.close()?;
        Ok(Node::Template { at, name, pipe })
    }

    /// `{{block "name" pipe}}`: a definition that is shown where it stands.
    fn block(&mut self, at: usize) -> Result<Node, Error> {
        let name = self.template_name()?;
        let pipe = self.pipe()?;
        self.close()?;
        let nodes = self.definition("block", at)?;
        self.defined.insert(name.clone(), nodes);
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    /// The body of a definition, which is in no loop.
    fn definition(&mut self, what: &str, at: usize) -> Result<Vec<Node>, Error> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.body();
        self.loops = loops;
        match body? {
            (nodes, End::Close(_)) => Ok(nodes),
            (_, End::Text) => Err(unended(what, at)),
            (_, End::Else(at)) => Err(Error::new(at, format!("else in {what}"))),
        }
    }

    /// The body of `what`, which began at `at`, and what follows its `else`.
    fn rest(&mut self, what: &str, at: usize) -> Result<(Vec<Node>, Vec<Node>), Error> {
        let (body, end) = self.body()?;
        match end {
            End::Close(_) => Ok((body, Vec::new())),
            End::Text => Err(unended(what, at)),
            End::Else(_) => Ok((body, self.otherwise(what, at)?)),
        }
    }

    /// What follows the word `else`.
    fn otherwise(&mut self, what: &str, at: usize) -> Result<Vec<Node>, Error> {
        self.close()?;
        match self.body()? {
            (body, End::Close(_)) => Ok(body),
            (_, End::Else(again)) => Err(Error::new(again, format!("a second else of one {what}"))),
            (_, End::Text) => Err(unended(what, at)),
        }
    }

    fn pipe(&mut self) -> Result<Pipe, Error> {
        let mut commands = vec![self.command()?];
        while self.take(&Kind::Pipe) {
            let command = self.command()?;
            if let Head::Term(Term { at, base, fields }) = &command.head
                && !(matches!(base, Base::Dot) && fields.len() == 1)
            {
                return Err(Error::new(*at, "a function is expected behind |"));
            }
            commands.push(command);
        }
        Ok(Pipe { commands })
    }

    fn command(&mut self) -> Result<Command, Error> {
        let at = self.at();
        let head = match self.peek() {
            Some(Kind::Name(name)) if !is_constant(name) => {
                self.next += 1;
                Head::Function(function(at, name)?)
            }
            _ => Head::Term(self.term()?),
        };
        let mut arguments = Vec::new();
        while !matches!(self.peek(), None | Some(Kind::Pipe | Kind::Close | Kind::Right)) {
            arguments.push(self.term()?);
        }
        Ok(Command { at, head, arguments })
    }

    fn term(&mut self) -> Result<Term, Error> {
        let at = self.at();
        let missing = || Error::new(at, "a field, a variable, a value or a function is expected here");
        let token = self.tokens.get(self.next).ok_or_else(missing)?;
        let mut fields = Vec::new();
        let base = match &token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push((at, name.clone()));
                Base::Dot
            }
            Kind::Variable(name) => Base::Variable(name.clone()),
            Kind::Quoted(text) => Base::Literal(Value::String(text.clone())),
            Kind::Number(number) => Base::Literal(Value::Number(number.clone())),
            Kind::Name(name) if is_constant(name) => Base::Literal(match name.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::Null,
            }),
            Kind::Name(name) => Base::Call(function(at, name)?),
            Kind::Left => {
                self.next += 1;
                let pipe = self.pipe()?;
                if self.peek() != Some(&Kind::Right) {
                    return Err(Error::new(at, "( without )"));
                }
                Base::Pipe(pipe)
            }
            _ => return Err(missing()),
        };
        self.next += 1;
        // A field that follows without a space belongs to the term: only then does it begin where that ends. The scanner
        // gives no ends, but two fields in a row that are meant apart stand at least one character further.
        while let Some(Token { at, kind: Kind::Field(name) }) = self.tokens.get(self.next)
            && *at == self.end_of_last()
        {
            fields.push((*at, name.clone()));
            self.next += 1;
        }
        Ok(Term { at, base, fields })
    }

    /// The place behind the last word that was taken, for words after which a field can follow.
    fn end_of_last(&self) -> usize {
        let Some(Token { at, kind }) = self.next.checked_sub(1).and_then(|last| self.tokens.get(last)) else {
            return 0;
        };
        match kind {
            Kind::Field(name) | Kind::Variable(name) => at + 1 + name.chars().count(),
            Kind::Right => at + 1,
            _ => 0,
        }
    }
}

/// What stands between braces.
enum Action {
    Node(Node),
    /// A definition, of which nothing is shown here.
    Nothing,
    End(End),
}

fn unended(what: &str, at: usize) -> Error {
    Error::new(at, format!("{what} without {{{{end}}}}"))
}

fn is_constant(name: &str) -> bool {
    matches!(name, "true" | "false" | "nil")
}

fn function(at: usize, name: &str) -> Result<Function, Error> {
    functions::named(name).ok_or_else(|| {
        let names = Vec::from_iter(functions::ALL.iter().map(|(name, _)| *name)).join(", ");
        Error::new(at, format!("there is no function {name}: there are {names}"))
    })
}
