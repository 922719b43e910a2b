//! What was seen of the kernel while processes ran, and to whom it belongs: pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// A task (a thread, by the kernel's number) and a system call's number, or a function's address.
type Entries = HashMap<(u32, u64), u64, BuildHasherDefault<Mixer>>;

/// A task and a stack of the kernel's, addresses, the innermost first.
type Stacks = HashMap<(u32, Box<[u64]>), u64>;

/// How often each task entered what, in one phase of a sandbox's life.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Functions, by their addresses; empty where they cannot be watched.
    pub(super) functions: Entries,
    /// System calls, by their numbers.
    pub(super) calls: Entries,
    /// Stacks that were sampled, how often each; empty where functions are watched or nothing can be sampled.
    pub(super) stacks: Stacks,
    /// Who made whom.
    pub(super) births: Vec<(u32, u32)>,
    /// Events that the kernel dropped.
    pub(super) lost: u64,
    /// Samples that the kernel dropped.
    pub(super) unsampled: u64,
}

/// What a task is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The program that was to be run.
    Application,
    /// A process that stands between that and the host, by the name of its program.
    Sandbox(String),
    /// The platform's own program or one that works for it, outside, by its name.
    Monitor(String),
}

/// How often something was entered, by number or address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) functions: BTreeMap<u64, u64>,
    pub(super) calls: BTreeMap<u64, u64>,
    /// Stacks that were sampled.
    pub(super) stacks: BTreeMap<Box<[u64]>, u64>,
    pub(super) lost: u64,
    pub(super) unsampled: u64,
}

impl Seen {
    /// All of it together, whoever did it.
    pub(super) fn whole(&self) -> Tally {
        let mut whole = self.nothing();
        whole.add(self, |_| true);
        whole
    }

    /// The tally of a part that entered nothing.
    fn nothing(&self) -> Tally {
        Tally { lost: self.lost, unsampled: self.unsampled, ..Tally::default() }
    }

    /// The life of the application, apart for each part of the report.
    ///
    /// `roles` are those of the tasks that were there when it began; who was born later belongs to its maker. Where the
    /// host runs no process of the application, as under a kernel in user space, what the sandbox's processes do is done
    /// for it, so that it stands for the application, and each of them for itself, too. Of several monitors each has its own part.
    pub(super) fn parts(&self, roles: &BTreeMap<u32, Role>) -> BTreeMap<String, Tally> {
        let makers: HashMap<u32, u32> = self.births.iter().map(|(maker, child)| (*child, *maker)).collect();
        let role = |task: u32| {
            let mut task = task;
            // Numbers may come round again, so that makers could make a circle.
            for _ in 0..=makers.len() {
                match (roles.get(&task), makers.get(&task)) {
                    (Some(role), _) => return Some(role.clone()),
                    (None, Some(maker)) => task = *maker,
                    (None, None) => break,
                }
            }
            // Nobody knows its name any more.
            None
        };
        let tasks = self.functions.keys().chain(self.calls.keys()).map(|(task, _)| *task);
        let tasks = tasks.chain(self.stacks.keys().map(|(task, _)| *task));
        let known: BTreeMap<u32, Option<Role>> = tasks.map(|task| (task, role(task))).collect();
        let is_run = roles.values().any(|role| *role == Role::Application);
        let mut parts: BTreeMap<String, Tally> = BTreeMap::new();
        let mut add = |part: String, wanted: &dyn Fn(Option<&Role>) -> bool| {
            let mut tally = self.nothing();
            tally.add(self, |task| known.get(&task).is_some_and(|role| wanted(role.as_ref())));
            if !tally.functions.is_empty() || !tally.calls.is_empty() || !tally.stacks.is_empty() {
                parts.insert(part, tally);
            }
        };
        add(APPLICATION.to_owned(), &|role| match role {
            Some(Role::Application) => true,
            Some(Role::Sandbox(_)) => !is_run,
            Some(Role::Monitor(_)) | None => false,
        });
        add(MONITOR.to_owned(), &|role| matches!(role, Some(Role::Monitor(_)) | None));
        let others = BTreeSet::from_iter(roles.values());
        let are_several = others.iter().filter(|role| matches!(role, Role::Monitor(_))).count() > 1;
        for role in others {
            match role {
                Role::Sandbox(name) => add(format!("sandbox process {name}"), &|other| other == Some(role)),
                Role::Monitor(name) if are_several => {
                    add(format!("{MONITOR} {name}"), &|other| other == Some(role));
                }
                Role::Monitor(_) | Role::Application => {}
            }
        }
        parts
    }
}

/// The part that isolation is about.
pub(super) const APPLICATION: &str = "application";

/// What stands beside it, outside.
const MONITOR: &str = "monitor";

impl Tally {
    fn add(&mut self, seen: &Seen, wanted: impl Fn(u32) -> bool) {
        for (entries, counts) in [(&seen.functions, &mut self.functions), (&seen.calls, &mut self.calls)] {
            for ((task, code), count) in entries {
                if wanted(*task) {
                    *counts.entry(*code).or_default() += count;
                }
            }
        }
        for ((task, stack), count) in &seen.stacks {
            if wanted(*task) {
                *self.stacks.entry(stack.clone()).or_default() += count;
            }
        }
    }
}

/// Mixes the bits of a small key, many million times: nobody hostile chooses the keys.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        // The table takes the upper bits, too.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(calls: &[(u32, u64, u64)], births: &[(u32, u32)]) -> Seen {
        let calls = calls.iter().map(|(task, call, count)| ((*task, *call), *count)).collect();
        let stacks = births.iter().map(|(_, child)| ((*child, Box::from([7, 8])), 1)).collect();
        Seen { calls, births: births.to_vec(), stacks, lost: 2, unsampled: 3, ..Seen::default() }
    }

    fn monitor(name: &str) -> Role {
        Role::Monitor(name.to_owned())
    }

    fn told(parts: &BTreeMap<String, Tally>) -> Vec<(&str, Vec<(u64, u64)>)> {
        let calls = |tally: &Tally| tally.calls.iter().map(|(call, count)| (*call, *count)).collect();
        parts.iter().map(|(part, tally)| (part.as_str(), calls(tally))).collect()
    }

    #[test]
    fn children_belong_to_their_makers() {
        let seen = seen(
            &[(10, 1, 5), (11, 1, 1), (12, 0, 3), (13, 7, 2), (20, 61, 4), (99, 39, 1)],
            &[(11, 12), (10, 11), (20, 13)],
        );
        let roles = [(10, Role::Application), (20, monitor("runtime"))].into();
        let parts = seen.parts(&roles);
        assert_eq!(
            told(&parts),
            [("application", vec![(0, 3), (1, 6)]), ("monitor", vec![(7, 2), (39, 1), (61, 4)])]
        );
        assert_eq!((parts["monitor"].lost, parts["monitor"].unsampled), (2, 3));
        let stacks = |part: &str| {
            Vec::from_iter(parts[part].stacks.iter().map(|(stack, count)| (stack.to_vec(), *count)))
        };
        assert_eq!(
            (stacks("application"), stacks("monitor")),
            (vec![(vec![7, 8], 2)], vec![(vec![7, 8], 1)])
        );
        assert_eq!(seen.whole().calls.values().sum::<u64>(), 16);
    }

    #[test]
    fn a_kernel_of_its_own_stands_for_the_application() {
        let seen = seen(&[(30, 202, 7), (31, 202, 1), (32, 0, 5), (20, 61, 4)], &[(30, 31)]);
        let sandbox = |name: &str| Role::Sandbox(name.to_owned());
        let roles = [(30, sandbox("sentry")), (32, sandbox("gofer")), (20, monitor("runtime"))].into();
        assert_eq!(
            told(&seen.parts(&roles)),
            [
                ("application", vec![(0, 5), (202, 8)]),
                ("monitor", vec![(61, 4)]),
                ("sandbox process gofer", vec![(0, 5)]),
                ("sandbox process sentry", vec![(202, 8)]),
            ]
        );
    }

    #[test]
    fn a_process_beside_the_application_is_none_of_it() {
        let seen = seen(&[(10, 1, 5), (30, 61, 1)], &[]);
        let roles = [(10, Role::Application), (30, Role::Sandbox("init".to_owned()))].into();
        assert_eq!(
            told(&seen.parts(&roles)),
            [("application", vec![(1, 5)]), ("sandbox process init", vec![(61, 1)])]
        );
    }

    #[test]
    fn several_monitors_are_told_apart_and_together() {
        let seen = seen(&[(10, 1, 5), (20, 61, 4), (21, 61, 1), (22, 7, 2), (99, 39, 1)], &[(20, 22)]);
        let roles = [
            (10, Role::Application),
            (20, monitor("daemon")),
            (21, monitor("client")),
            (23, monitor("idle")),
        ];
        assert_eq!(
            told(&seen.parts(&roles.into())),
            [
                ("application", vec![(1, 5)]),
                ("monitor", vec![(7, 2), (39, 1), (61, 5)]),
                ("monitor client", vec![(61, 1)]),
                ("monitor daemon", vec![(7, 2), (61, 4)]),
            ]
        );
    }

    #[test]
    fn makers_in_a_circle_end() {
        let seen = seen(&[(1, 1, 1)], &[(1, 2), (2, 1)]);
        assert_eq!(told(&seen.parts(&BTreeMap::new())), [("monitor", vec![(1, 1)])]);
    }
}
