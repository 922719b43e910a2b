//! The host's firewall, where it stands in the way.
//!
//! A drop is final, whichever table decides it: what another table drops that is to be forwarded, ours cannot let through. Such
//! firewalls are told by their chains. One of them has a chain that is made for others' rules, `DOCKER-USER`, and gets four there for each
//! bridge, with a note by which they are found again ([`let_through`]). For the others the command is told by which an administrator lets
//! containers' packets through, since they would forget a rule that is not in their own files.

mod old;
mod zones;

use crate::bridge;
use crate::error::Result;
use crate::nft::{Expression, Filter, FoundChain, Named, Register, Transaction, Verdict};
use crate::rules::Port;

/// NF_INET_FORWARD, and NF_BR_FORWARD.
const FORWARD: u32 = 2;
/// NFPROTO_INET and others: the families whose packets are forwarded.
const INET: u8 = 1;
const IP: u8 = 2;
const BRIDGE: u8 = 7;
const IP6: u8 = 10;
/// Docker's chain for rules of administrators.
const USERS: &str = "DOCKER-USER";
/// The names of docker's bridges, as a rule compares them: a whole one ends with a zero.
const DOCKER: [&[u8]; 2] = [b"docker0\0", b"br-"];
/// How many rules there are in docker's chain for a bridge, of which one without the others opens too much or too little.
const RULES: usize = DOCKER.len() + 2;
/// ufw's, of IPv4 and IPv6.
const UFW_USERS: [&str; 2] = ["ufw-user-forward", "ufw6-user-forward"];

/// The table of firewalld.
const FIREWALLD: &str = "firewalld";
/// The zone that firewalld is told to have, and its policy.
const ZONE: &str = "bulkhead";
const POLICY: &str = "bulkhead-out";

/// Somebody who decides what is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firewall {
    /// Docker's rules, whose policy is to drop.
    Docker(FoundChain),
    /// ufw(8), whose policy is to drop.
    Ufw,
    /// firewalld(1), which refuses what devices send out that are in none of its zones, unless what they send leaves by one that is in
    /// the default zone.
    Firewalld(Published),
    /// Another chain whose policy is to drop, or whose last rule is to refuse.
    Other(FoundChain),
    /// A chain of bridges that drops what goes from one of their ports to another.
    Ports(FoundChain),
    /// The old tables of iptables, whose policy is to drop.
    Old {
        /// The program for their family.
        program: &'static str,
        /// The chain for rules of administrators.
        chain: &'static str,
    },
}

/// What firewalld does with ports that others publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It lets in whatever was sent elsewhere, by whomever.
    LetIn,
    /// It refuses what it was not told of (`StrictForwardPorts`, since 2.3).
    Refused,
}

impl Firewall {
    /// Returns the command by which an administrator lets packets of bridges through whose names begin so, for those where
    /// [`let_through`] does nothing. What an administrator has blocked stays blocked.
    #[must_use]
    pub fn command(&self, prefix: &str) -> Option<String> {
        match self {
            Self::Docker(_) => None,
            Self::Ufw => Some(format!("ufw route allow in on {prefix}+ && ufw route allow out on {prefix}+")),
            // A trusted zone would open the host itself to containers.
            Self::Firewalld(_) => Some(of_firewalld(&[
                format!("--new-zone={ZONE}"),
                format!("--zone={ZONE} --add-interface={prefix}+"),
                format!("--new-policy={POLICY}"),
                format!("--policy={POLICY} --add-ingress-zone={ZONE}"),
                format!("--policy={POLICY} --add-egress-zone=ANY"),
                format!("--policy={POLICY} --set-target=ACCEPT"),
            ])),
            Self::Other(chain) => {
                Some(format!("{} && {}", accept(chain, "iifname", prefix), accept(chain, "oifname", prefix)))
            }
            Self::Ports(chain) => Some(accept(chain, "iifname", bridge::PORTS)),
            Self::Old { program, chain } => {
                let to = |way| format!("{program} -I {chain} {way} {prefix}+ -j ACCEPT");
                let mut command = format!("{} && {}", to("-i"), to("-o"));
                if *chain == USERS {
                    // Docker's own networks are docker's business; what is put there last comes first.
                    for bridges in ["docker0", "br-+"] {
                        let rule = format!(" && {program} -I {chain} -i {prefix}+ -o {bridges} -j RETURN");
                        command.push_str(&rule);
                    }
                }
                Some(command)
            }
        }
    }

    /// Says what it does, as a user notices it.
    #[must_use]
    pub fn effect(&self) -> &'static str {
        match self {
            Self::Docker(_) | Self::Ufw | Self::Other(_) | Self::Old { .. } => {
                "drops what containers send to other hosts, and what comes to their ports"
            }
            Self::Ports(_) => "drops what containers of one network send to each other",
            Self::Firewalld(Published::LetIn) => "refuses what containers send to other hosts",
            Self::Firewalld(Published::Refused) => {
                "refuses what containers send to other hosts, and what comes to ports of theirs that it was not told of"
            }
        }
    }

    /// Returns the command by which an administrator opens a port that is published, where [`Firewall::command`] does not do that.
    #[must_use]
    pub fn port_command(&self, port: &Port) -> Option<String> {
        let Self::Firewalld(Published::Refused) = self else { return None };
        let Port { owner: _, protocol, address: _, port, to } = port;
        let (inside, container) = (to.port(), to.ip());
        // The own table has sent it there before: only the port counts.
        let forward = format!("port={port}:proto={protocol}:toport={inside}:toaddr={container}");
        Some(of_firewalld(&[format!("--add-forward-port={forward}")]))
    }
}

/// The command that has a chain accept whatever comes or goes by devices whose names begin so.
fn accept(FoundChain { family, table, name, .. }: &FoundChain, word: &str, prefix: &str) -> String {
    let family = match *family {
        IP => "ip",
        IP6 => "ip6",
        BRIDGE => "bridge",
        _ => "inet",
    };
    format!("nft insert rule {family} {table} {name} {word} \"{prefix}*\" accept")
}

fn of_firewalld(wishes: &[String]) -> String {
    let wishes = wishes.iter().map(|wish| format!("firewall-cmd --permanent {wish} && "));
    wishes.collect::<String>() + "firewall-cmd --reload"
}

/// Finds who stands in the way of bridges whose names begin so, and was not yet told by [`Firewall::command`] to let them through, or
/// by its administrator.
///
/// # Errors
/// As recv(2).
pub fn in_the_way(filter: &Filter, own: &str, prefix: &str) -> Result<Vec<Firewall>> {
    let mut chains = filter.chains()?;
    for index in 0..chains.len() {
        let chain = &chains[index];
        // Who refuses by the last rule refuses as one whose policy it is; firewalld is known otherwise.
        let is_asked = chain.table != own && !is_of_firewalld(chain, &chains);
        if is_asked && chain.hook == Some((FORWARD, false)) && filter.refuses_the_rest(chain)? {
            chains[index].hook = Some((FORWARD, true));
        }
    }
    let mut found = Vec::new();
    for firewall in find(&chains, own) {
        let was_told = match &firewall {
            Firewall::Docker(_) | Firewall::Firewalld(Published::Refused) | Firewall::Old { .. } => false,
            Firewall::Firewalld(Published::LetIn) => {
                chains.iter().any(|chain| chain.name.contains(POLICY))
                    || zones::let_out(filter, &chains, prefix)?
            }
            Firewall::Other(chain) => filter.passing(chain, Named::Prefix(prefix))?.is_all(),
            Firewall::Ports(chain) => filter.passing(chain, Named::Prefix(bridge::PORTS))?.is_let_in,
            Firewall::Ufw => {
                let users = chains.iter().filter(|chain| UFW_USERS.contains(&chain.name.as_str()));
                let mut all = users.map(|chain| filter.passing(chain, Named::Prefix(prefix)));
                all.try_fold(true, |is_all, passing| Ok(is_all && passing?.is_all()))?
            }
        };
        if !was_told {
            found.push(firewall);
        }
    }
    found.extend(old::in_the_way(prefix)?);
    found.dedup();
    Ok(found)
}

/// As [`in_the_way`], without those that were told as far as that lasts: by [`let_through`] of these bridges and no others, with our own
/// table's name as its note, and firewalld with `StrictForwardPorts`, which is told of each port besides.
///
/// # Errors
/// As recv(2).
pub fn untold(filter: &Filter, own: &str, prefix: &str, bridges: &[String]) -> Result<Vec<Firewall>> {
    let mut found = Vec::new();
    for firewall in in_the_way(filter, own, prefix)? {
        let was_told = match &firewall {
            Firewall::Docker(users) => Noted::read(filter, users, own)?.is_of(bridges),
            Firewall::Firewalld(Published::Refused) => {
                filter.chains()?.iter().any(|chain| chain.name.contains(POLICY))
            }
            _ => false,
        };
        if !was_told {
            found.push(firewall);
        }
    }
    Ok(found)
}

/// Finds who stands in the way among all chains of the packet filter, but for our own table. The old tables of iptables are not
/// among these.
#[must_use]
pub fn find(chains: &[FoundChain], own: &str) -> Vec<Firewall> {
    let forwards = |chain: &&FoundChain| [INET, IP, IP6, BRIDGE].contains(&chain.family);
    let drops = |chain: &&FoundChain| chain.hook == Some((FORWARD, true)) && chain.table != own;
    let has = |of: &FoundChain, name: &str| beside(of, name, chains).cloned();
    let mut found = Vec::from_iter(chains.iter().filter(forwards).filter(drops).map(|chain| {
        if chain.family == BRIDGE {
            return Firewall::Ports(chain.clone());
        }
        if let Some(users) = has(chain, USERS) {
            return Firewall::Docker(users);
        }
        match UFW_USERS.iter().find_map(|name| has(chain, name)) {
            Some(_) => Firewall::Ufw,
            None => Firewall::Other(chain.clone()),
        }
    }));
    // Its policy is to accept, and its last rule to refuse.
    let firewalld = chains.iter().find(|chain| {
        let is_forward = chain.hook.is_some_and(|(hook, _)| hook == FORWARD);
        is_forward && is_of_firewalld(chain, chains)
    });
    if let Some(chain) = firewalld {
        let is_strict = has(chain, "filter_FORWARD_dnat").or_else(|| has(chain, "FORWARD_dnat")).is_some();
        found.push(Firewall::Firewalld(if is_strict { Published::Refused } else { Published::LetIn }));
    }
    found.dedup();
    found
}

/// Finds a chain of the same table.
fn beside<'a>(of: &FoundChain, name: &str, chains: &'a [FoundChain]) -> Option<&'a FoundChain> {
    chains.iter().find(|chain| chain.table == of.table && chain.family == of.family && chain.name == name)
}

/// Tells whether a chain is of firewalld's table, or of those that it fills by iptables(8).
fn is_of_firewalld(chain: &FoundChain, chains: &[FoundChain]) -> bool {
    chain.table == FIREWALLD || beside(chain, "FORWARD_direct", chains).is_some()
}

/// Has docker's rules let packets of these bridges through, and of no others with this note, behind all that an administrator has there. In
/// the language of iptables(8), for the bridge `bh-0123456789ab`, with all bridges of containers beginning with `bh-`:
///
/// ```text
/// -o bh-0123456789ab -j ACCEPT
/// -i bh-0123456789ab -o docker0 -j RETURN
/// -i bh-0123456789ab -o br-+ -j RETURN
/// -i bh-0123456789ab ! -o bh-+ -j ACCEPT
/// ```
///
/// Whoever accepts there decides for all of docker's rules: so what comes to docker's networks is left to docker, and what comes to another
/// bridge of containers to the rules of that one, which may want none. What networks keep from each other is decided by our own table.
///
/// # Errors
/// What the kernel refuses.
pub fn let_through(
    filter: &Filter,
    users: &FoundChain,
    (prefix, bridges): (&'static str, &[String]),
    note: &str,
) -> Result<()> {
    let noted = Noted::read(filter, users, note)?;
    // Older docker ends the chain by a rule that sends all back.
    let end = filter.last_return(users)?;
    let mut transaction = Transaction::new();
    for (handle, bridge) in &noted.rules {
        let is_kept = bridge.as_ref().is_some_and(|of| bridges.contains(of) && noted.count(of) == RULES);
        if !is_kept {
            transaction.delete_rule(users, *handle);
        }
    }
    for bridge in bridges.iter().filter(|bridge| noted.count(bridge) != RULES) {
        for rule in rules_for(bridge, prefix) {
            transaction.put_rule(users, &rule, &format!("{note} {bridge}"), end);
        }
    }
    if transaction.is_empty() { Ok(()) } else { filter.commit(transaction) }
}

fn rules_for(bridge: &str, prefix: &'static str) -> Vec<Vec<Expression>> {
    use Expression::{Count, End, Is, IsDevice, IsNot, LoadInput, LoadOutput};
    const NAME: Register = Register(0);
    let mut name = [0; 16];
    // It has 15 bytes at most.
    name.iter_mut().zip(bridge.bytes().take(15)).for_each(|(to, byte)| *to = byte);
    let ends = |verdict| [Count, End(verdict)];
    let from = [LoadInput(NAME), IsDevice(NAME, name), LoadOutput(NAME)];
    let mut rules = vec![[&[LoadOutput(NAME), IsDevice(NAME, name)][..], &ends(Verdict::Accept)].concat()];
    rules.extend(DOCKER.map(|theirs| [&from[..], &[Is(NAME, theirs)], &ends(Verdict::Return)].concat()));
    let elsewhere = [IsNot(NAME, prefix.as_bytes())];
    rules.push([&from[..], &elsewhere, &ends(Verdict::Accept)].concat());
    rules
}

/// Takes the rules with this note out of docker's, whatever bridges they are of.
///
/// # Errors
/// What the kernel refuses.
pub fn take_back(filter: &Filter, users: &FoundChain, note: &str) -> Result<()> {
    let mut transaction = Transaction::new();
    for (handle, _) in Noted::read(filter, users, note)?.rules {
        transaction.delete_rule(users, handle);
    }
    if transaction.is_empty() { Ok(()) } else { filter.commit(transaction) }
}

/// Rules with a note of ours: their handles, and the bridges that they are of.
struct Noted {
    /// Those of earlier versions were of all bridges together.
    rules: Vec<(u64, Option<String>)>,
}

impl Noted {
    fn read(filter: &Filter, users: &FoundChain, note: &str) -> Result<Self> {
        let ours = |found: &str| match found.strip_prefix(note)? {
            "" => Some(None),
            rest => rest.strip_prefix(' ').map(|bridge| Some(bridge.to_owned())),
        };
        let noted = filter.noted_rules(users)?.into_iter();
        Ok(Self { rules: noted.filter_map(|(handle, found)| Some((handle, ours(&found)?))).collect() })
    }

    fn count(&self, bridge: &str) -> usize {
        self.rules.iter().filter(|(_, of)| of.as_deref() == Some(bridge)).count()
    }

    /// Tells whether they are all of those of these bridges, and no others.
    fn is_of(&self, bridges: &[String]) -> bool {
        self.rules.len() == RULES * bridges.len() && bridges.iter().all(|bridge| self.count(bridge) == RULES)
    }
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
        assert_eq!(
            found(&[&firewalld, &other]),
            [Firewall::Other(other.clone()), Firewall::Firewalld(Published::LetIn)]
        );
        let strict = chain(1, "firewalld", "filter_FORWARD_dnat", None);
        assert_eq!(found(&[&firewalld, &strict]), [Firewall::Firewalld(Published::Refused)]);
        let direct = chain(V4, "filter", "FORWARD_direct", None);
        assert_eq!(found(&[&forward(false), &direct]), [Firewall::Firewalld(Published::LetIn)]);
        let bridge = chain(BRIDGE, "b", "forward", Some((FORWARD, true)));
        assert_eq!(found(&[&bridge]), [Firewall::Ports(bridge.clone())]);
        let command = Firewall::Ports(bridge).command("bh-").unwrap();
        assert_eq!(command, "nft insert rule bridge b forward iifname \"bv-*\" accept");
        assert_eq!(
            found(&[&chain(3, "arp", "forward", Some((FORWARD, true)))]),
            [],
            "no packets of containers"
        );
        let v6 = chain(10, "filter", "FORWARD", Some((FORWARD, true)));
        assert_eq!(found(&[&v6, &users]), [Firewall::Other(v6.clone())], "another table of that name");
        assert_eq!(
            Firewall::Other(other).command("bh-").unwrap(),
            "nft insert rule inet mine fwd iifname \"bh-*\" accept && nft insert rule inet mine fwd oifname \"bh-*\" accept"
        );
    }
}
