//! Transactions for the kernel's packet filter, nf_tables, see nft(8) and `linux/netfilter/nf_tables.h`.
//!
//! A transaction is done as a whole or not at all. What it consists of is written here as the kernel reads it: expressions
//! over registers, where nft(8) has a language.

mod expression;
mod reading;
mod set;

use bulkhead_sys::netlink::message::{APPEND, CREATE, DUMP, EXCLUSIVE, Message, attribute, text};
use bulkhead_sys::netlink::{Family, Refused, Socket};
use rustix::io::Errno;

pub use expression::{Expression, Register, Verdict};
pub use reading::{Jump, Named, Passing};
use reading::{refuses, returns};
pub use set::{Element, Set, SetKind, Value};

use crate::error::{Doing, Result};

/// NFNL_SUBSYS_NFTABLES in the upper byte of a type.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;
const GET_GENERATION: u16 = SUBSYSTEM | 16;

/// NFPROTO_INET: a table for IPv4 and IPv6.
const INET: u8 = 1;
/// The length of struct nfgenmsg.
const BODY: usize = 4;
/// NFTA_LIST_ELEM.
const ITEM: u16 = 1;
/// NFTA_RULE_HANDLE, NFTA_RULE_EXPRESSIONS, NFTA_RULE_POSITION and NFTA_RULE_USERDATA.
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const POSITION: u16 = 6;
const NOTE: u16 = 7;
/// NFTNL_UDATA_RULE_COMMENT: what nft(8) shows as a rule's comment.
const COMMENT: u8 = 0;

/// Where a chain is in the way of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// As they come in.
    Prerouting,
    /// As they go through.
    Forward,
    /// As they go out that came from here.
    Output,
    /// As they go out.
    Postrouting,
}

/// What a chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// It accepts and drops.
    Filter,
    /// It changes addresses, of the first packet of each connection.
    Nat,
}

/// A chain that packets come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it does.
    pub kind: ChainKind,
    /// Where it is.
    pub hook: Hook,
    /// Its place among others there, the least first.
    pub priority: i32,
}

/// Changes that are made together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    messages: Vec<Message>,
    /// What each does, as `make the chain forward`.
    doing: Vec<String>,
}

impl Transaction {
    /// Begins one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Makes a table unless it is there.
    pub fn make_table(&mut self, name: &str) -> &mut Self {
        let mut message = begin(NEW_TABLE, CREATE);
        message.text(1, name);
        self.push(message, || format!("make the table {name}"))
    }

    /// Deletes a table, which must be there, with all that is in it.
    pub fn delete_table(&mut self, name: &str) -> &mut Self {
        let mut message = begin(DELETE_TABLE, 0);
        message.text(1, name);
        self.push(message, || format!("delete the table {name}"))
    }

    /// Makes a chain, whose policy is to accept.
    pub fn make_chain(&mut self, table: &str, chain: Chain<'_>) -> &mut Self {
        let Chain { name, kind, hook, priority } = chain;
        let (kind, hook): (_, u32) = match (kind, hook) {
            (ChainKind::Filter, hook) => ("filter", number_of(hook)),
            (ChainKind::Nat, hook) => ("nat", number_of(hook)),
        };
        let mut message = begin(NEW_CHAIN, EXCLUSIVE);
        message.text(1, table).text(3, name).nest(4, |message| {
            message.attribute(1, &hook.to_be_bytes()).attribute(2, &priority.to_be_bytes());
        });
        message.attribute(5, &1_u32.to_be_bytes()).text(7, kind);
        self.push(message, || format!("make the chain {name}"))
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &str, chain: &str, rule: &[Expression]) -> &mut Self {
        self.append(table, chain, rule, None)
    }

    /// As [`Transaction::add_rule`], with a note, which nft(8) shows as a comment.
    pub fn add_marked_rule(
        &mut self,
        table: &str,
        chain: &str,
        rule: &[Expression],
        note: &str,
    ) -> &mut Self {
        self.append(table, chain, rule, Some(note))
    }

    fn append(&mut self, table: &str, chain: &str, rule: &[Expression], note: Option<&str>) -> &mut Self {
        let mut message = begin(NEW_RULE, APPEND);
        message.text(1, table).text(2, chain).nest(4, |message| write_all(rule, message));
        if let Some(note) = note {
            message.attribute(NOTE, &commented(note));
        }
        self.push(message, || format!("add a rule to the chain {chain}: {rule:?}"))
    }

    /// Puts a rule with a note behind all others of somebody's chain, or before the one that has this handle.
    pub fn put_rule(
        &mut self,
        chain: &FoundChain,
        rule: &[Expression],
        note: &str,
        before: Option<u64>,
    ) -> &mut Self {
        let flags = if before.is_some() { CREATE } else { APPEND };
        let mut message = Message::new(NEW_RULE, flags, &[chain.family, 0, 0, 0]);
        message.text(1, &chain.table).text(2, &chain.name).nest(4, |message| write_all(rule, message));
        if let Some(handle) = before {
            message.attribute(POSITION, &handle.to_be_bytes());
        }
        message.attribute(NOTE, &commented(note));
        self.push(message, || format!("put a rule into the chain {} of {}", chain.name, chain.table))
    }

    /// Deletes a rule of somebody's chain.
    pub fn delete_rule(&mut self, chain: &FoundChain, handle: u64) -> &mut Self {
        let mut message = Message::new(DELETE_RULE, 0, &[chain.family, 0, 0, 0]);
        message.text(1, &chain.table).text(2, &chain.name).attribute(HANDLE, &handle.to_be_bytes());
        self.push(message, || format!("delete a rule of the chain {} of {}", chain.name, chain.table))
    }

    /// Makes a set or a map.
    pub fn make_set(&mut self, table: &str, set: &Set) -> &mut Self {
        let mut message = begin(NEW_SET, EXCLUSIVE);
        message.text(1, table).text(2, set.name);
        // Within a transaction sets have numbers of the caller's.
        let id = u32::try_from(self.messages.len() + 1).unwrap_or(u32::MAX);
        message.attribute(10, &id.to_be_bytes());
        set.write(&mut message);
        self.push(message, || format!("make the set {}", set.name))
    }

    /// Puts elements into a set; those that are there already stay, if they lead to the same.
    pub fn add_elements(&mut self, table: &str, set: &Set, elements: &[Element]) -> &mut Self {
        self.elements(NEW_ELEMENTS, CREATE, table, set, elements)
    }

    /// Takes elements, which must be there, out of a set.
    pub fn delete_elements(&mut self, table: &str, set: &Set, elements: &[Element]) -> &mut Self {
        self.elements(DELETE_ELEMENTS, 0, table, set, elements)
    }

    fn elements(&mut self, kind: u16, flags: u16, table: &str, set: &Set, elements: &[Element]) -> &mut Self {
        // The attribute that holds them has 64 KiB at most, and each of them less than 400 bytes.
        for some in elements.chunks(150) {
            let mut message = begin(kind, flags);
            message.text(1, table).text(2, set.name).nest(3, |message| {
                for element in some {
                    message.nest(ITEM, |message| element.write(message));
                }
            });
            self.push(message, || format!("change the elements of the set {}", set.name));
        }
        self
    }

    fn push(&mut self, message: Message, doing: impl FnOnce() -> String) -> &mut Self {
        self.messages.push(message);
        self.doing.push(doing());
        self
    }
}

/// The packet filter of a network namespace.
#[derive(Debug)]
pub struct Filter(Socket);

impl Filter {
    /// Opens that of the calling thread's namespace.
    ///
    /// # Errors
    /// As socket(2), above all EPROTONOSUPPORT from a kernel without netfilter.
    pub fn open() -> Result<Self> {
        Socket::open(Family::Netfilter).map(Self).doing(|| "connect to the kernel's packet filter")
    }

    /// Makes changes, all or none.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn commit(&self, transaction: Transaction) -> Result<()> {
        self.commit_at(None, transaction)
    }

    /// As [`Filter::commit`], if nobody has changed anything since a generation.
    ///
    /// # Errors
    /// ERESTART if somebody has.
    pub fn commit_at(&self, generation: Option<u32>, transaction: Transaction) -> Result<()> {
        let Transaction { messages, doing } = transaction;
        let Err(Refused { index, errno }) = self.0.tell_at(generation, messages) else { return Ok(()) };
        let doing = index.and_then(|index| doing.get(index)).cloned();
        call(errno).doing(|| doing.unwrap_or_else(|| "change the packet filter".to_owned()))
    }

    /// Returns the number of the filter's generation, which each change by whomever raises.
    ///
    /// # Errors
    /// As recv(2).
    pub fn generation(&self) -> Result<u32> {
        let bodies = self.0.ask(begin(GET_GENERATION, 0).acknowledged());
        let bodies = bodies.or_else(call).doing(|| "look at the packet filter's generation")?;
        let number = bodies
            .iter()
            .find_map(|body| Some(u32::from_be_bytes(attribute(body.get(BODY..)?, 1)?.try_into().ok()?)));
        number.map_or_else(|| call(Errno::PROTO).doing(|| "look at the packet filter's generation"), Ok)
    }

    /// Returns the number of its network namespace ([`Socket::namespace`]).
    #[must_use]
    pub fn namespace(&self) -> Option<u64> {
        self.0.namespace()
    }

    /// Tells whether a table is there.
    ///
    /// # Errors
    /// As recv(2).
    pub fn has_table(&self, name: &str) -> Result<bool> {
        let mut message = begin(GET_TABLE, 0);
        message.text(1, name);
        match self.0.ask(message.acknowledged()) {
            Err(Errno::NOENT) => Ok(false),
            Ok(_) => Ok(true),
            Err(errno) => call(errno).doing(|| format!("look for the table {name}")),
        }
    }

    /// Lists what all tables hook into the way of packets: family, table and name of each chain with its hook.
    ///
    /// # Errors
    /// As recv(2).
    pub fn chains(&self) -> Result<Vec<FoundChain>> {
        // NFPROTO_UNSPEC: of every family.
        let bodies = self.0.ask(Message::new(GET_CHAIN, DUMP, &[0; BODY]));
        let bodies = bodies.or_else(call).doing(|| "list the chains of the packet filter")?;
        Ok(bodies.iter().filter_map(|body| FoundChain::read(body)).collect())
    }

    /// Lists the rules of a chain that have a note: their handles and the notes.
    ///
    /// # Errors
    /// As recv(2).
    pub fn noted_rules(&self, chain: &FoundChain) -> Result<Vec<(u64, String)>> {
        let bodies = self.rules(chain)?;
        Ok(bodies.iter().filter_map(|body| noted(body, chain)).collect())
    }

    /// Lists the notes of all rules in a table; an empty one for a rule without. Without the table there are none.
    ///
    /// # Errors
    /// As recv(2).
    pub fn notes(&self, table: &str) -> Result<Vec<String>> {
        let mut message = begin(GET_RULE, DUMP);
        message.text(1, table);
        let bodies = self.0.ask(message).or_else(call);
        let bodies = bodies.doing(|| format!("list the rules of the table {table}"))?;
        // An old kernel lists those of other tables, too.
        let rules = bodies.iter().filter_map(|body| body.get(BODY..));
        let rules = rules.filter(|rest| attribute(rest, 1).map(text).is_some_and(|of| of == table));
        Ok(rules.map(|rest| note_of(rest).unwrap_or_default()).collect())
    }

    /// Looks which rules of a chain let everything pass of some devices.
    ///
    /// # Errors
    /// As recv(2).
    pub fn passing(&self, chain: &FoundChain, named: Named<'_>) -> Result<Passing> {
        let mut passing = Passing::default();
        for body in self.rules(chain)?.iter().filter_map(|body| of_chain(body, chain)) {
            passing.add(attribute(body, EXPRESSIONS).unwrap_or_default(), named);
        }
        Ok(passing)
    }

    /// Lists where rules of a chain send packets on to, of those that ask for nothing but a device.
    ///
    /// # Errors
    /// As recv(2).
    pub fn jumps(&self, chain: &FoundChain) -> Result<Vec<Jump>> {
        let bodies = self.rules(chain)?;
        let rules = bodies.iter().filter_map(|body| attribute(of_chain(body, chain)?, EXPRESSIONS));
        Ok(rules.filter_map(Jump::read).collect())
    }

    /// Looks whether the last rule of a chain sends all back to where the chain was called, and returns its handle.
    ///
    /// # Errors
    /// As recv(2).
    pub fn last_return(&self, chain: &FoundChain) -> Result<Option<u64>> {
        let bodies = self.rules(chain)?;
        let last = bodies.iter().filter_map(|body| of_chain(body, chain)).next_back();
        let handle = last.filter(|rest| returns(attribute(rest, EXPRESSIONS).unwrap_or_default()));
        Ok(handle.and_then(|rest| Some(u64::from_be_bytes(attribute(rest, HANDLE)?.try_into().ok()?))))
    }

    /// Tells whether the last rule of a chain refuses all that comes to it.
    ///
    /// # Errors
    /// As recv(2).
    pub fn refuses_the_rest(&self, chain: &FoundChain) -> Result<bool> {
        let bodies = self.rules(chain)?;
        let last = bodies.iter().filter_map(|body| of_chain(body, chain)).next_back();
        Ok(last.is_some_and(|rest| refuses(attribute(rest, EXPRESSIONS).unwrap_or_default())))
    }

    /// Lists the rules of a chain, and under an old kernel those of others.
    fn rules(&self, chain: &FoundChain) -> Result<Vec<Vec<u8>>> {
        let mut message = Message::new(GET_RULE, DUMP, &[chain.family, 0, 0, 0]);
        message.text(1, &chain.table).text(2, &chain.name);
        let bodies = self.0.ask(message).or_else(call);
        bodies.doing(|| format!("list the rules of the chain {} of {}", chain.name, chain.table))
    }

    /// Lists the elements of a set.
    ///
    /// # Errors
    /// As recv(2); ENOENT when it or its table is not there.
    pub fn elements(&self, table: &str, set: &Set) -> Result<Vec<Element>> {
        let mut message = begin(GET_ELEMENTS, DUMP);
        message.text(1, table).text(2, set.name);
        let bodies = self.0.ask(message);
        let bodies = bodies.or_else(call).doing(|| format!("list the elements of the set {}", set.name))?;
        let lists = bodies.iter().filter_map(|body| attribute(body.get(BODY..)?, 3));
        Ok(lists.flat_map(Element::read_all).collect())
    }
}

/// A chain of somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundChain {
    /// The family of its table, NFPROTO_*: 1 both, 2 IPv4, 10 IPv6.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is, for one that packets come to by themselves: NF_INET_* and whether its policy is to drop.
    pub hook: Option<(u32, bool)>,
}

impl FoundChain {
    fn read(body: &[u8]) -> Option<Self> {
        let (family, rest) = (*body.first()?, body.get(BODY..)?);
        let big = |value: &[u8]| Some(u32::from_be_bytes(value.try_into().ok()?));
        let drops = attribute(rest, 5).and_then(big) == Some(0);
        let hook = attribute(rest, 4).and_then(|hook| attribute(hook, 1)).and_then(big);
        Some(Self {
            family,
            table: text(attribute(rest, 1)?),
            name: text(attribute(rest, 3)?),
            hook: hook.map(|hook| (hook, drops)),
        })
    }
}

/// Names the call of a failure.
pub(crate) fn call<T>(errno: Errno) -> bulkhead_sys::Result<T> {
    Err(bulkhead_sys::Error::new("sendmsg(AF_NETLINK, NETLINK_NETFILTER)", errno))
}

/// Writes the expressions of a rule.
fn write_all(rule: &[Expression], message: &mut Message) {
    for expression in rule {
        message.nest(ITEM, |message| expression.write(message));
    }
}

/// Writes a note as nft(8) writes a comment: type, length, text, NUL. Beyond 253 bytes it is cut off.
fn commented(note: &str) -> Vec<u8> {
    let text = Vec::from_iter(note.bytes().take(253).chain([0]));
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[COMMENT, length][..], &text].concat()
}

/// Reads a rule's handle and note.
fn noted(body: &[u8], chain: &FoundChain) -> Option<(u64, String)> {
    let rest = of_chain(body, chain)?;
    let handle = u64::from_be_bytes(attribute(rest, HANDLE)?.try_into().ok()?);
    Some((handle, note_of(rest)?))
}

/// Reads a rule's note.
fn note_of(rest: &[u8]) -> Option<String> {
    let [COMMENT, length, note @ ..] = attribute(rest, NOTE)? else { return None };
    Some(text(note.get(..usize::from(*length))?))
}

/// The attributes of a rule, if it is one of a chain: before Linux 5.11 the rules of all chains are listed.
fn of_chain<'b>(body: &'b [u8], chain: &FoundChain) -> Option<&'b [u8]> {
    let rest = body.get(BODY..)?;
    let is_of_it = text(attribute(rest, 1)?) == chain.table && text(attribute(rest, 2)?) == chain.name;
    is_of_it.then_some(rest)
}

/// Begins a message about an `inet` table.
fn begin(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &[INET, 0, 0, 0])
}

/// NF_INET_*.
fn number_of(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}
