//! The host's firewall, where it stands in the way.
//!
//! A drop is final, whichever table decides it: what another table drops that is to be forwarded, ours cannot let through. Such
//! firewalls are told by their chains. One of them has a chain that is made for others' rules, `DOCKER-USER`, and gets two there,
//! with a note by which they are found again; for the others the command is told by which an administrator lets containers'
//! packets through, since they would forget a rule that is not in their own files.

use crate::error::Result;
use crate::nft::{Expression, Filter, FoundChain, Register, Transaction, Verdict};

/// NF_INET_FORWARD.
const FORWARD: u32 = 2;
/// Docker's chain for rules of administrators.
const USERS: &str = "DOCKER-USER";

/// Somebody who decides what is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firewall {
    /// Docker's rules, whose policy is to drop.
    Docker(FoundChain),
    /// ufw(8), whose policy is to drop.
    Ufw,
    /// firewalld(1).
    Firewalld,
    /// Another chain whose policy is to drop.
    Other(FoundChain),
}

impl Firewall {
    /// Returns the command by which an administrator lets packets of bridges through whose names begin so, for those where
    /// [`let_through`] does nothing.
    #[must_use]
    pub fn command(&self, prefix: &str) -> Option<String> {
        match self {
            Self::Docker(_) => None,
            Self::Ufw => Some(format!("ufw route allow in on {prefix}+ && ufw route allow out on {prefix}+")),
            Self::Firewalld => Some(
                "firewall-cmd --permanent --zone=trusted --add-interface=BRIDGE && firewall-cmd --reload"
                    .to_owned(),
            ),
            Self::Other(chain) => {
                let family = match chain.family {
                    1 => "inet",
                    2 => "ip",
                    10 => "ip6",
                    _ => "netdev",
                };
                let FoundChain { table, name, .. } = chain;
                let to =
                    |word| format!("nft insert rule {family} {table} {name} {word} \"{prefix}*\" accept");
                Some(format!("{} && {}", to("iifname"), to("oifname")))
            }
        }
    }
}

/// Finds who stands in the way among all chains of the packet filter, but for our own table.
#[must_use]
pub fn find(chains: &[FoundChain], own: &str) -> Vec<Firewall> {
    let drops = |chain: &&FoundChain| chain.hook == Some((FORWARD, true)) && chain.table != own;
    let has = |of: &FoundChain, name: &str| {
        chains
            .iter()
            .find(|chain| chain.table == of.table && chain.family == of.family && chain.name == name)
            .cloned()
    };
    let mut found = Vec::from_iter(chains.iter().filter(drops).map(|chain| {
        if let Some(users) = has(chain, USERS) {
            return Firewall::Docker(users);
        }
        match has(chain, "ufw-user-forward").or_else(|| has(chain, "ufw6-user-forward")) {
            Some(_) => Firewall::Ufw,
            None => Firewall::Other(chain.clone()),
        }
    }));
    // Its policy is to accept, and its last rule to refuse.
    if chains
        .iter()
        .any(|chain| chain.table == "firewalld" && chain.hook.is_some_and(|(hook, _)| hook == FORWARD))
    {
        found.push(Firewall::Firewalld);
    }
    found.dedup();
    found
}

/// Has docker's rules let packets of bridges through whose names begin so, unless they do. What networks keep from each other
/// is decided by our own table.
///
/// # Errors
/// What the kernel refuses.
pub fn let_through(filter: &Filter, users: &FoundChain, prefix: &'static str, note: &str) -> Result<()> {
    if filter.noted_rules(users)?.iter().any(|(_, found)| found == note) {
        return Ok(());
    }
    const NAME: Register = Register(0);
    let mut transaction = Transaction::new();
    for load in [Expression::LoadInput(NAME), Expression::LoadOutput(NAME)] {
        let name = Expression::Is(NAME, prefix.as_bytes());
        let rule = [load, name, Expression::Count, Expression::End(Verdict::Accept)];
        transaction.insert_rule(users, &rule, note);
    }
    filter.commit(transaction)
}

/// Takes the rules with this note out of docker's.
///
/// # Errors
/// What the kernel refuses.
pub fn take_back(filter: &Filter, users: &FoundChain, note: &str) -> Result<()> {
    let mut transaction = Transaction::new();
    for (handle, found) in filter.noted_rules(users)? {
        if found == note {
            transaction.delete_rule(users, handle);
        }
    }
    if transaction.is_empty() { Ok(()) } else { filter.commit(transaction) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NFPROTO_IPV4.
    const V4: u8 = 2;

    fn chain(family: u8, table: &str, name: &str, hook: Option<(u32, bool)>) -> FoundChain {
        FoundChain { family, table: table.to_owned(), name: name.to_owned(), hook }
    }

    #[test]
    fn who_drops_what_is_forwarded_is_told_by_its_chains() {
        let forward = |drops| chain(V4, "filter", "FORWARD", Some((FORWARD, drops)));
        let users = chain(V4, "filter", USERS, None);
        let ufw = chain(V4, "filter", "ufw-user-forward", None);
        let own = chain(1, "bulkhead", "forward", Some((FORWARD, true)));
        let firewalld = chain(1, "firewalld", "filter_FORWARD", Some((FORWARD, false)));
        let other = chain(1, "mine", "fwd", Some((FORWARD, true)));
        let found = |chains: &[&FoundChain]| {
            find(&Vec::from_iter(chains.iter().map(|chain| (*chain).clone())), "bulkhead")
        };
        assert_eq!(found(&[&forward(false), &users, &own]), []);
        assert_eq!(found(&[&forward(true), &users]), [Firewall::Docker(users.clone())]);
        assert_eq!(found(&[&forward(true), &ufw]), [Firewall::Ufw]);
        assert_eq!(found(&[&forward(true)]), [Firewall::Other(forward(true))]);
        assert_eq!(found(&[&firewalld, &other]), [Firewall::Other(other.clone()), Firewall::Firewalld]);
        let v6 = chain(10, "filter", "FORWARD", Some((FORWARD, true)));
        assert_eq!(found(&[&v6, &users]), [Firewall::Other(v6.clone())], "another table of that name");
        assert_eq!(
            Firewall::Other(other).command("bh-").unwrap(),
            "nft insert rule inet mine fwd iifname \"bh-*\" accept && nft insert rule inet mine fwd oifname \"bh-*\" accept"
        );
    }
}
