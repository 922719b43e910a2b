//! No message makes the helper for names panic, and none is answered or believed that must not be.
//!
//! The input is a question, with its length in front as 16 bits, little-endian, and behind it what claims to be its answer.

use bulkhead_net::names::book::{Book, Verdict};
use bulkhead_net::names::message::{self, Code, Query, Transport, Unreadable, kind};
use bulkhead_net::names::protocol::{Answer, Request};
use bulkhead_net::names::{Member, Table};

/// Runs the target.
pub fn run(input: &[u8]) {
    drop((Request::decode(input), Answer::decode(input), Table::parse(input)));
    let Some((length, rest)) = input.split_first_chunk() else { return };
    let (question, claimed) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let query = match Query::read(question) {
        Ok(query) => query,
        Err(Unreadable::Nothing) => return,
        Err(Unreadable::Refused(code)) => {
            let refusal = message::refuse(question, code).unwrap_or_default();
            assert_eq!(
                (refusal.len(), refusal.get(..2)),
                (12, question.get(..2)),
                "a header with its number"
            );
            return;
        }
    };
    for transport in [Transport::Udp, Transport::Tcp] {
        let Verdict::Answered(answer) = book().answer("a", &query, transport) else {
            assert!(query.name().is_none_or(|name| name != "b" && name != "b.n") || !query.is_of_internet());
            continue;
        };
        assert!(query.is_answered_by(&answer, query.id()), "{answer:?}");
        assert!(answer.len() <= 4096 && answer[2] & 0x80 != 0);
        let asks_address = matches!(query.kind, kind::A | kind::AAAA) && query.objection().is_none();
        let is_name = query.name().is_some_and(|name| name == "b");
        assert!(!(asks_address && is_name) || answer[7] == 1, "it has one of each family: {answer:?}");
    }
    let refused = query.answer(Code::Failed, Transport::Udp).finished();
    assert!(message::is_refusal(&refused) && refused.len() <= question.len() + 11);
    if query.is_answered_by(claimed, [7, 7]) {
        assert!(claimed.len() >= 12 && claimed[..2] == [7, 7] && claimed[2] & 0x80 != 0);
    }
}

fn book() -> Book {
    let member = |container: &str, addresses: &[&str]| Member {
        container: container.to_owned(),
        addresses: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        names: vec![container.to_owned()],
        ..Member::default()
    };
    let members = vec![member("a", &["10.0.0.2"]), member("b", &["10.0.0.3", "fd00::3"])];
    let mut book = Book::default();
    book.put("n".to_owned(), Table { name: "n".to_owned(), is_internal: false, members });
    book
}
