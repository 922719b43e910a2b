//! The back end: from ranges and checks to instructions.
//!
//! BPF jumps forward only, and a conditional jump by at most 255 instructions. The program is therefore written from
//! its end to its start: whatever a jump leads to is already there, and its distance is known. What has moved out of
//! reach gets a stepping stone right behind the jump, a copy of the `return` or an unconditional jump, which has 32
//! bits. Later jumps use the nearest one.

use crate::Error;
use crate::abi::{ByteOrder, abi};
use crate::bpf::{self, Instruction, MAX_INSTRUCTIONS};
use crate::front::{Condition, Test};
use crate::ir::{Check, Filter, Rule, Verdict};
use crate::ranges::{Node, OTHER_ARCHITECTURE, Range, Ranges, Section, Tree, call_weight};

/// Emits the program.
pub(crate) fn emit(filter: &Filter, sections: &[Section]) -> Result<Vec<Instruction>, Error> {
    // All architectures of a filter have one byte order, that of the kernel.
    let order = filter.abis.first().map_or(ByteOrder::Little, |first| abi(first.arch).order);
    let mut emitter = Emitter {
        order,
        default: filter.default,
        reversed: Vec::with_capacity(512),
        returns: Vec::new(),
        checks: vec![None; filter.checks.len()],
    };
    let mut entry = Target::Return(OTHER_ARCHITECTURE);
    let mut starts = Vec::with_capacity(sections.len());
    for section in sections.iter().rev() {
        starts.push((section.audit, emitter.section(filter, section)));
    }
    for (audit, start) in starts {
        entry = emitter.branch(bpf::IF_EQUAL, audit, start, entry);
    }
    emitter.load(bpf::OFFSET_ARCH);
    let mut program = emitter.reversed;
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: program.len() });
    }
    program.reverse();
    Ok(program)
}

/// What a jump leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The end of the filter with this value.
    Return(u32),
    /// The check with this index, which must have been emitted.
    Check(u32),
    /// The instruction at this place, counted from the end of the program.
    Place(usize),
}

impl From<Verdict> for Target {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Return(value) => Self::Return(value),
            Verdict::Check(index) => Self::Check(index),
        }
    }
}

struct Emitter {
    order: ByteOrder,
    default: u32,
    /// The program so far, its last instruction first.
    reversed: Vec<Instruction>,
    /// Where each value is returned, at the nearest place.
    returns: Vec<(u32, usize)>,
    /// Where each check begins, or a stepping stone to it.
    checks: Vec<Option<usize>>,
}

impl Emitter {
    /// Emits the search over the numbers of an architecture, behind it the checks that it is the first to need.
    fn section(&mut self, filter: &Filter, section: &Section) -> Target {
        for range in section.ranges.as_slice() {
            if let Verdict::Check(index) = range.verdict
                && self.checks[index as usize].is_none()
            {
                let start = self.check(&filter.checks[index as usize]);
                self.checks[index as usize] = Some(self.place(start));
            }
        }
        self.search(section.ranges.as_slice(), call_weight, bpf::OFFSET_NUMBER)
    }

    /// Emits a search for the word at `offset`; nothing if all words have the same verdict.
    fn search<V>(&mut self, ranges: &[Range<V>], weight: impl Fn(u32, u32) -> u32, offset: u32) -> Target
    where
        V: Copy + PartialEq + Into<Target>,
    {
        let tree = Tree::new(ranges, weight);
        match self.node(&tree, tree.root()) {
            target @ Target::Place(_) if ranges.len() > 1 => {
                debug_assert_eq!(
                    target,
                    Target::Place(self.reversed.len() - 1),
                    "a search is followed by its load"
                );
                self.load(offset)
            }
            target => target,
        }
    }

    /// Emits the part of a search below a node. Its first instruction is the last one emitted.
    fn node<V: Copy + PartialEq + Into<Target>>(&mut self, tree: &Tree<V>, index: usize) -> Target {
        match tree.node(index) {
            Node::Leaf(verdict) => verdict.into(),
            Node::Single { number, equal, other } => {
                let other = self.node(tree, other);
                self.branch(bpf::IF_EQUAL, number, equal.into(), other)
            }
            Node::Border { at, below, above } => {
                let above = self.node(tree, above);
                let below = self.node(tree, below);
                self.branch(bpf::IF_GREATER_OR_EQUAL, at, above, below)
            }
        }
    }

    /// Emits a check of arguments.
    fn check(&mut self, check: &Check) -> Target {
        let largest = if check.wide { u64::MAX } else { u64::from(u32::MAX) };
        let Some(argument) = single_argument(&check.rules, largest) else { return self.rules(check) };
        let values = argument_ranges(&check.rules, self.default, largest);
        if check.wide {
            return self.search_argument(argument, &values);
        }
        let mut words = Ranges::with_capacity(values.len());
        for (start, action) in values {
            words.push(start as u32, Target::Return(action));
        }
        self.search_word(argument, Half::Lower, &words)
    }

    /// Emits a search over all values of an argument, upper half first.
    fn search_argument(&mut self, argument: u8, values: &[(u64, u32)]) -> Target {
        let mut upper = Ranges::with_capacity(values.len());
        let mut rest = values;
        while let [(first, action), ..] = *rest {
            let half = (first >> 32) as u32;
            let same = rest.iter().take_while(|(start, _)| (start >> 32) as u32 == half).count();
            let (inside, after) = rest.split_at(same);
            if first as u32 == 0 && same == 1 {
                upper.push(half, Target::Return(action));
            } else {
                // The half begins in the middle of a range if no range begins with it.
                let before = values[..values.len() - rest.len()].last().map_or(action, |&(_, action)| action);
                let mut lower = Ranges::with_capacity(same + 1);
                lower.push(0, Target::Return(before));
                for &(start, action) in inside {
                    lower.push(start as u32, Target::Return(action));
                }
                let target = self.search_word(argument, Half::Lower, &lower);
                upper.push(half, target);
                if let (Some(next), Some(&(_, last))) = (half.checked_add(1), inside.last()) {
                    upper.push(next, Target::Return(last));
                }
            }
            rest = after;
        }
        self.search_word(argument, Half::Upper, &upper)
    }

    /// Emits a search over one half of an argument.
    fn search_word(&mut self, argument: u8, half: Half, ranges: &Ranges<Target>) -> Target {
        let offset = self.offset(argument, half);
        self.search(ranges.as_slice(), |_, _| 1, offset)
    }

    /// Emits rules one after the other.
    fn rules(&mut self, check: &Check) -> Target {
        let mut otherwise = Target::Return(self.default);
        for rule in check.rules.iter().rev() {
            let mut matched = Target::Return(rule.action);
            for condition in rule.conditions.iter().rev() {
                let (holds, fails) =
                    if condition.negated { (otherwise, matched) } else { (matched, otherwise) };
                matched = self.condition(condition, check.wide, holds, fails);
            }
            otherwise = matched;
        }
        otherwise
    }

    /// Emits the comparison of a condition; `negated` is already in the targets.
    fn condition(&mut self, condition: &Condition, wide: bool, holds: Target, fails: Target) -> Target {
        let halves = |of: u64| ((of >> 32) as u32, of as u32);
        let (upper, lower) = halves(condition.value);
        let (upper_mask, lower_mask) = halves(condition.mask);
        let upper_offset = self.offset(condition.argument, Half::Upper);
        let lower_offset = self.offset(condition.argument, Half::Lower);
        let code = match condition.test {
            Test::Equal => {
                let rest = self.equal(lower_offset, lower_mask, lower, holds, fails);
                return if wide { self.equal(upper_offset, upper_mask, upper, rest, fails) } else { rest };
            }
            Test::Greater => bpf::IF_GREATER,
            Test::GreaterOrEqual => bpf::IF_GREATER_OR_EQUAL,
        };
        self.branch(code, lower, holds, fails);
        let rest = self.load(lower_offset);
        if !wide {
            return rest;
        }
        let not_greater = self.branch(bpf::IF_EQUAL, upper, rest, fails);
        self.branch(bpf::IF_GREATER, upper, holds, not_greater);
        self.load(upper_offset)
    }

    /// Emits `(word & mask) == value`.
    fn equal(&mut self, offset: u32, mask: u32, value: u32, holds: Target, fails: Target) -> Target {
        match mask {
            0 => return holds,
            u32::MAX => self.branch(bpf::IF_EQUAL, value, holds, fails),
            _ if value == 0 => self.branch(bpf::IF_ANY_BIT, mask, fails, holds),
            _ => {
                self.branch(bpf::IF_EQUAL, value, holds, fails);
                self.push(Instruction::new(bpf::AND, mask))
            }
        };
        self.load(offset)
    }

    fn offset(&self, argument: u8, half: Half) -> u32 {
        let second = match self.order {
            ByteOrder::Little => half == Half::Upper,
            ByteOrder::Big => half == Half::Lower,
        };
        bpf::OFFSET_ARGUMENTS + 8 * u32::from(argument) + if second { 4 } else { 0 }
    }

    /// Emits a conditional jump in front of everything so far.
    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        let yes = self.within_reach(yes);
        let no = self.within_reach(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Instruction { code, jt, jf, k })
    }

    /// Emits a load of a word in front of everything so far.
    fn load(&mut self, offset: u32) -> Target {
        self.push(Instruction::new(bpf::LOAD, offset))
    }

    /// Returns the place of `target` after making sure that the next jump but one reaches it: the other side of a
    /// conditional jump may still need a stepping stone.
    fn within_reach(&mut self, target: Target) -> usize {
        if let Some(place) = self.known(target)
            && self.distance(place) < usize::from(u8::MAX)
        {
            return place;
        }
        let stone = match target {
            Target::Return(value) => Instruction::new(bpf::RETURN, value),
            Target::Check(_) | Target::Place(_) => {
                let distance = self.known(target).map_or(0, |place| self.distance(place));
                Instruction::new(bpf::JUMP, distance as u32)
            }
        };
        let place = self.reversed.len();
        self.reversed.push(stone);
        match target {
            Target::Return(value) => {
                self.returns.retain(|known| known.0 != value);
                self.returns.push((value, place));
            }
            Target::Check(index) => self.checks[index as usize] = Some(place),
            Target::Place(_) => {}
        }
        place
    }

    fn known(&self, target: Target) -> Option<usize> {
        match target {
            Target::Return(value) => self.returns.iter().find(|known| known.0 == value).map(|known| known.1),
            Target::Check(index) => self.checks[index as usize],
            Target::Place(place) => Some(place),
        }
    }

    /// Returns the place of a target, emitting it if it is nowhere yet.
    fn place(&mut self, target: Target) -> usize {
        match target {
            Target::Place(place) => place,
            Target::Return(_) | Target::Check(_) => self.within_reach(target),
        }
    }

    /// How many instructions a jump skips that is emitted next.
    fn distance(&self, place: usize) -> usize {
        self.reversed.len() - 1 - place
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::Place(self.reversed.len() - 1)
    }
}

/// The two words of an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Lower,
    Upper,
}

/// Returns the argument that all rules are about, if it is one and `all_bits` of it are compared.
fn single_argument(rules: &[Rule], all_bits: u64) -> Option<u8> {
    let argument = rules.first()?.conditions.first()?.argument;
    let simple = |rule: &Rule| matches!(&rule.conditions[..], [only] if only.argument == argument && only.mask == all_bits);
    rules.iter().all(simple).then_some(argument)
}

/// Returns where the verdict on an argument changes, from 0 on, and to what.
fn argument_ranges(rules: &[Rule], default: u32, largest: u64) -> Vec<(u64, u32)> {
    let mut borders = vec![0];
    for condition in rules.iter().flat_map(|rule| &rule.conditions) {
        if condition.test != Test::Greater {
            borders.push(condition.value);
        }
        if condition.test != Test::GreaterOrEqual && condition.value < largest {
            borders.push(condition.value + 1);
        }
    }
    borders.sort_unstable();
    borders.dedup();
    let mut ranges: Vec<(u64, u32)> = Vec::with_capacity(borders.len());
    for border in borders {
        let matching =
            rules.iter().find(|rule| rule.conditions.iter().all(|condition| condition.holds(border)));
        let action = matching.map_or(default, |rule| rule.action);
        if ranges.last().is_none_or(|last| last.1 != action) {
            ranges.push((border, action));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use bulkhead_spec::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompSyscall};

    use crate::interpret::{Data, Interpreter};
    use crate::{Error, compile, default_profile, name, names, number};

    /// A profile that allows calls with some values of their first argument.
    fn checked(rules: impl Iterator<Item = (&'static str, Operator, u64)>) -> Seccomp {
        let rule = |(name, op, value): (&str, _, _)| SeccompSyscall {
            names: vec![name.to_owned()],
            action: Action::Allow,
            errno_ret: None,
            args: vec![SeccompArg { index: 0, value, value_two: value, op }],
        };
        Seccomp { syscalls: rules.map(rule).collect(), architectures: Vec::new(), ..default_profile() }
    }

    #[test]
    fn jumps_of_any_length_arrive() {
        // Every call has a check of its own, so that the checks alone are longer than a jump.
        let calls: Vec<&str> = names().filter(|name| number(Arch::X86_64, name).is_some()).collect();
        for op in [Operator::Eq, Operator::MaskedEq, Operator::Gt] {
            let value = |index: usize| 8 * (index as u64 + 1) + 0x7_0000_0000;
            let profile = checked(calls.iter().enumerate().map(|(index, &name)| (name, op, value(index))));
            let program = compile(&profile, Arch::X86_64).unwrap();
            assert!(program.instructions.len() > 1500, "{}", program.instructions.len());
            let filter = Interpreter::new(&program.instructions).unwrap();
            for (index, name) in calls.iter().enumerate() {
                let value = value(index);
                let mut call = Data::new(Arch::X86_64, number(Arch::X86_64, name).unwrap());
                for argument in [0, value, value + 1, value - 1, value + 16] {
                    call.arguments[0] = argument;
                    let allowed = match op {
                        Operator::Eq => argument == value,
                        Operator::MaskedEq => argument & value == value,
                        _ => argument > value,
                    };
                    let expected = if allowed { 0x7fff_0000 } else { 0x0005_0001 };
                    assert_eq!(filter.run(&call).value, expected, "{name} {op} {argument:#x}");
                }
            }
        }
    }

    #[test]
    fn a_program_that_the_kernel_would_not_take_is_refused() {
        let values = (0..3900).map(|value| ("read", Operator::Eq, 2 * value));
        let error = compile(&checked(values), Arch::X86_64).err().unwrap();
        let Error::TooLong { instructions } = error else { panic!("{error}") };
        assert!(instructions > 4096, "{instructions}");
        assert_eq!(error.pointer(), "/syscalls");
    }

    #[test]
    fn many_values_of_one_argument_are_searched() {
        let program =
            compile(&checked((0..500).map(|value| ("read", Operator::Eq, 2 * value))), Arch::X86_64).unwrap();
        let filter = Interpreter::new(&program.instructions).unwrap();
        for value in 0..1100 {
            let mut call = Data::new(Arch::X86_64, 0);
            call.arguments[0] = value;
            let outcome = filter.run(&call);
            let expected = if value < 1000 && value % 2 == 0 { 0x7fff_0000 } else { 0x0005_0001 };
            assert_eq!(outcome.value, expected, "{value}");
            assert!(outcome.steps < 25, "{} steps for {value}", outcome.steps);
        }
    }

    #[test]
    fn the_default_profile_is_small_and_shallow() {
        let program = compile(&default_profile(), Arch::X86_64).unwrap();
        assert!(program.instructions.len() <= 260, "{} instructions", program.instructions.len());
        let filter = Interpreter::new(&program.instructions).unwrap();
        for number in 0..=471 {
            let steps = filter.run(&Data::new(Arch::X86_64, number)).steps;
            assert!(steps <= 20, "{steps} for {number}: {:?}", name(Arch::X86_64, number));
        }
    }
}
