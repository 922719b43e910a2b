//! The middle: runs of numbers with the same verdict, and a search tree over them.
//!
//! Neighbouring calls mostly share their verdict, so docker's profile, which names 400 calls, is 66 runs on x86-64.
//! A tree over the runs asks one question for each border between two of them:
//!
//! ```text
//! numbers  0……133  134  135   136 … 138  139  140 …      what the tree asks
//! verdict  allow   deny check allow      deny allow …    ≥ 134?  = 139?  …
//! ```
//!
//! Three things keep it small and shallow. A run of a single number inside a longer one is asked for by name
//! (`= 139?`): one question instead of two borders. Trees are balanced by how many numbers lie below a node and not
//! by how many runs: when a filter is loaded the kernel tries each number once (`seccomp_cache_prepare`), so the mean
//! depth over numbers is what loading costs. And x32, which few kernels have, counts next to nothing.

use bulkhead_spec::Arch;

use crate::abi::{X32_BIT, abi};
use crate::bpf;
use crate::ir::{AbiFilter, Filter, Verdict};

/// Tells a program that the kernel has no such call.
const ENOSYS: Verdict = Verdict::Return(bpf::RET_ERRNO | 38);

/// What is returned for calls of an architecture that the filter does not have.
pub(crate) const OTHER_ARCHITECTURE: u32 = bpf::RET_KILL_THREAD;

/// All numbers from `start` up to the start of the next range have one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range<V> {
    pub(crate) start: u32,
    pub(crate) verdict: V,
}

/// Ranges from 0 to the largest number, without two neighbours of the same verdict.
#[derive(Debug)]
pub(crate) struct Ranges<V>(Vec<Range<V>>);

impl<V: Copy + PartialEq> Ranges<V> {
    /// Returns no ranges yet; the first one to be pushed starts at 0.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Gives all numbers from `start` on to `verdict`; `start` must not be less than that of the last range.
    pub(crate) fn push(&mut self, start: u32, verdict: V) {
        if self.0.last().is_some_and(|last| last.start == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.verdict != verdict) {
            self.0.push(Range { start, verdict });
        }
    }

    /// Returns the ranges in ascending order.
    pub(crate) fn as_slice(&self) -> &[Range<V>] {
        &self.0
    }
}

/// The verdicts on all numbers of one architecture, as the kernel counts architectures.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) audit: u32,
    pub(crate) ranges: Ranges<Verdict>,
}

/// Lays out the numbers of each architecture; the native one comes first.
pub(crate) fn sections(filter: &Filter) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::with_capacity(filter.abis.len());
    let find = |arch| filter.abis.iter().find(|abi| abi.arch == arch);
    for abi_filter in &filter.abis {
        let audit = abi(abi_filter.arch).audit;
        if sections.iter().any(|section| section.audit == audit) {
            continue;
        }
        let ranges = match abi_filter.arch {
            Arch::X86_64 | Arch::X32 => x86_64(filter.default, find(Arch::X86_64), find(Arch::X32)),
            _ => plain(filter.default, abi_filter),
        };
        sections.push(Section { audit, ranges });
    }
    sections
}

/// An architecture with one ABI.
fn plain(default: u32, abi_filter: &AbiFilter) -> Ranges<Verdict> {
    let mut ranges = Ranges::with_capacity(2 * abi_filter.calls.len() + 4);
    let mut first = 0;
    if abi_filter.newest.is_some() && matches!(abi_filter.arch, Arch::S390 | Arch::S390x) {
        // On IBM Z a number that does not fit into the instruction arrives as 0. If the kernel does not know the
        // number either, it is still 0 here, and must look like any unknown call. The real call 0 was never for
        // programs.
        ranges.push(0, ENOSYS);
        first = 1;
    }
    push_calls(&mut ranges, first, Verdict::Return(default), abi_filter);
    ranges
}

/// x86-64 and x32, told apart by bit 30, so that the numbers fall into four quarters. Without x32 its quarters are
/// refused like an unknown architecture, all but −1, which is what a tracer writes to skip a call.
fn x86_64(default: u32, x86_64: Option<&AbiFilter>, x32: Option<&AbiFilter>) -> Ranges<Verdict> {
    let default = Verdict::Return(default);
    let refused = Verdict::Return(OTHER_ARCHITECTURE);
    let enosys = |abi: Option<&AbiFilter>| abi.and_then(|abi| abi.newest).map(|_| ENOSYS);
    let calls = x86_64.iter().chain(&x32).map(|abi| 2 * abi.calls.len()).sum::<usize>();
    let mut ranges = Ranges::with_capacity(calls + 8);
    match x86_64 {
        Some(abi) => push_calls(&mut ranges, 0, default, abi),
        None => ranges.push(0, refused),
    }
    match x32 {
        Some(abi) => push_calls(&mut ranges, X32_BIT, default, abi),
        None => ranges.push(X32_BIT, refused),
    }
    ranges.push(2 * X32_BIT, enosys(x86_64).unwrap_or(if x32.is_some() { default } else { refused }));
    ranges.push(3 * X32_BIT, if x32.is_some() { enosys(x32).unwrap_or(default) } else { refused });
    if x32.is_none() {
        ranges.push(u32::MAX, default);
    }
    ranges
}

/// Pushes the calls of one ABI whose numbers are `first` or larger.
fn push_calls(ranges: &mut Ranges<Verdict>, first: u32, default: Verdict, abi: &AbiFilter) {
    ranges.push(first, default);
    let newest = abi.newest.unwrap_or(u32::MAX);
    for &(number, verdict) in abi.calls.iter().filter(|call| (first..=newest).contains(&call.0)) {
        ranges.push(number, verdict);
        ranges.push(number + 1, default);
    }
    if abi.newest.is_some() {
        ranges.push(newest + 1, ENOSYS);
    }
}

/// A binary search over ranges.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    nodes: Vec<Node<V>>,
}

/// A question of the search; children are indices.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node<V> {
    /// The answer.
    Leaf(V),
    /// Is the number `at` or larger?
    Border { at: u32, below: usize, above: usize },
    /// Is it this one?
    Single { number: u32, equal: V, other: usize },
}

impl<V: Copy + PartialEq> Tree<V> {
    /// Builds a tree over `ranges`, balanced by `weight` of a range's first and last number.
    pub(crate) fn new(ranges: &[Range<V>], weight: impl Fn(u32, u32) -> u32) -> Self {
        let leaves = leaves(ranges);
        let mut weights = Vec::with_capacity(leaves.len() + 1);
        weights.push(0);
        let mut sum = 0;
        for leaf in &leaves {
            let last = ranges.get(leaf.end).map_or(u32::MAX, |next| next.start - 1);
            sum += weight(ranges[leaf.start].start, last).max(1);
            weights.push(sum);
        }
        let nodes = Vec::with_capacity(2 * ranges.len());
        let mut builder = Builder { ranges, leaves: &leaves, weights: &weights, nodes };
        builder.build(0, leaves.len());
        Self { nodes: builder.nodes }
    }

    /// Returns the index of the first question.
    pub(crate) fn root(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Returns a node.
    pub(crate) fn node(&self, index: usize) -> Node<V> {
        self.nodes[index]
    }
}

/// Weighs calls for a tree over their numbers.
pub(crate) fn call_weight(first: u32, last: u32) -> u32 {
    /// Runs of real calls are shorter; what is longer lies between or above the calls and is never made.
    const LONGEST: u32 = 128;
    if first >= X32_BIT { 1 } else { (last - first).saturating_add(1).min(LONGEST) }
}

/// The most single numbers that are asked for by name in one leaf.
const SINGLES: usize = 3;

/// Cuts ranges into groups, each one run with at most [`SINGLES`] single numbers inside: an odd number of ranges, of
/// which every second one belongs to the run.
fn leaves<V: PartialEq>(ranges: &[Range<V>]) -> Vec<std::ops::Range<usize>> {
    let mut leaves = Vec::with_capacity(ranges.len());
    let mut start = 0;
    while start < ranges.len() {
        let mut end = start + 1;
        while end - start < 2 * SINGLES
            && let [single, after, ..] = &ranges[end..]
            && after.start == single.start + 1
            && after.verdict == ranges[start].verdict
        {
            end += 2;
        }
        leaves.push(start..end);
        start = end;
    }
    leaves
}

struct Builder<'a, V> {
    ranges: &'a [Range<V>],
    leaves: &'a [std::ops::Range<usize>],
    /// The weight of all leaves before each one, and of all of them.
    weights: &'a [u32],
    nodes: Vec<Node<V>>,
}

impl<V: Copy> Builder<'_, V> {
    /// Adds the nodes for the leaves from `start` up to `end` and returns the index of the uppermost.
    fn build(&mut self, start: usize, end: usize) -> usize {
        if end - start == 1 {
            return self.leaf(self.leaves[start].clone());
        }
        let half = self.weights[start].midpoint(self.weights[end]);
        let above = self.weights[start + 1..end].partition_point(|&weight| weight < half) + start + 1;
        let nearer = above > start + 1 && half - self.weights[above - 1] < self.weights[above].abs_diff(half);
        let middle = (if nearer { above - 1 } else { above }).min(end - 1);
        let below = self.build(start, middle);
        let above = self.build(middle, end);
        let at = self.ranges[self.leaves[middle].start].start;
        self.push(Node::Border { at, below, above })
    }

    fn leaf(&mut self, group: std::ops::Range<usize>) -> usize {
        let mut node = self.push(Node::Leaf(self.ranges[group.start].verdict));
        for single in group.skip(1).step_by(2) {
            let Range { start: number, verdict: equal } = self.ranges[single];
            node = self.push(Node::Single { number, equal, other: node });
        }
        node
    }

    fn push(&mut self, node: Node<V>) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(u32, char)]) -> Ranges<char> {
        let mut ranges = Ranges::with_capacity(0);
        for &(start, verdict) in of {
            ranges.push(start, verdict);
        }
        ranges
    }

    fn search(tree: &Tree<char>, number: u32) -> (char, usize) {
        let (mut at, mut questions) = (tree.root(), 0);
        loop {
            at = match tree.node(at) {
                Node::Leaf(verdict) => return (verdict, questions),
                Node::Single { number: single, equal, .. } if number == single => {
                    return (equal, questions + 1);
                }
                Node::Single { other, .. } => other,
                Node::Border { at, below, above } => {
                    if number >= at {
                        above
                    } else {
                        below
                    }
                }
            };
            questions += 1;
        }
    }

    #[test]
    fn neighbours_of_one_verdict_become_one_range() {
        let merged = ranges(&[(0, 'a'), (5, 'b'), (5, 'a'), (7, 'a'), (9, 'c'), (9, 'b'), (10, 'b')]);
        assert_eq!(merged.as_slice(), ranges(&[(0, 'a'), (9, 'b')]).as_slice());
    }

    #[test]
    fn a_tree_answers_like_the_ranges_it_was_built_from() {
        let cases: [&[(u32, char)]; 5] = [
            &[(0, 'a')],
            &[(0, 'a'), (1, 'b')],
            &[(0, 'a'), (4, 'b'), (5, 'a'), (9, 'c'), (10, 'a'), (12, 'd'), (13, 'a'), (20, 'b')],
            &[(0, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (4, 'e'), (5, 'f'), (6, 'g'), (u32::MAX, 'h')],
            &[(0, 'a'), (100, 'b'), (u32::MAX - 1, 'c'), (u32::MAX, 'b')],
        ];
        for case in cases {
            let tree = Tree::new(
                case.iter().map(|&(start, verdict)| Range { start, verdict }).collect::<Vec<_>>().as_slice(),
                |_, _| 1,
            );
            for number in (0..200).chain(u32::MAX - 3..=u32::MAX) {
                let expected = case.iter().rfind(|range| range.0 <= number).unwrap().1;
                assert_eq!(search(&tree, number).0, expected, "{number} in {case:?}");
            }
        }
    }

    #[test]
    fn a_single_number_inside_a_run_costs_one_question() {
        let tree = Tree::new(ranges(&[(0, 'a'), (7, 'b'), (8, 'a')]).as_slice(), |_, _| 1);
        assert_eq!(search(&tree, 7), ('b', 1));
        assert_eq!(search(&tree, 8), ('a', 1));
    }

    #[test]
    fn long_runs_lie_near_the_root() {
        let mut uneven = vec![(0, 'a')];
        uneven.extend((0..32).map(|i| (200 + 2 * i, if i % 2 == 0 { 'b' } else { 'c' })));
        let tree = Tree::new(ranges(&uneven).as_slice(), call_weight);
        assert!(search(&tree, 100).1 <= 2, "{:?}", search(&tree, 100));
        assert!((200..264).all(|number| search(&tree, number).1 <= 8));
    }
}
