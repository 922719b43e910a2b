//! Bare against bare under the noise that neighbours and short turns have.

use std::collections::BTreeMap;

use crate::plan::{AGAIN, Axis, BARE, Limits, Pair, Plan, Quantity, RATE_KEPT, TAIL_KEPT, Task};
use crate::record::{Finding, Line, Run, Turn, VERSION};
use crate::report::findings::{Findings, TrialEnd};
use crate::report::{tables, words};
use crate::results::Results;
use crate::stats::{FEWEST_PAIRS, Prng};

const VICTIMS: [&str; 3] = ["cpu", "fork", "tcp-latency"];
const ANTAGONISTS: [&str; 3] = ["cpu", "memory-bandwidth", "fork"];

/// Only two bare processes, of which the second is `bias` times as good.
struct Restless {
    prng: Prng,
    /// Standard deviation of the logarithm of whatever is read once.
    noise: f64,
    bias: f64,
}

impl Restless {
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.prng.next_bits() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
    }

    fn reading(&mut self) -> f64 {
        (self.normal() * self.noise).exp()
    }

    fn run(&mut self) -> Findings {
        let tasks = Vec::from_iter(plan().tasks);
        let begun =
            Run { version: VERSION, plan: plan(), environment: BTreeMap::new(), platforms: Vec::new() };
        let mut lines = vec![Line::Run(begun)];
        for block in 0..FEWEST_PAIRS {
            for (platform, factor) in [(BARE, 1.0), (AGAIN, self.bias)] {
                // A victim's reading alone is shared by all that it meets, and what is late slows down its turns.
                let alone = VICTIMS.map(|_| (self.reading(), self.reading()));
                for task in &tasks {
                    let amount =
                        |name: &str, value: f64| Finding::Amount { quantity: name.to_owned(), value };
                    let findings = match &task.pair {
                        Some(pair) => {
                            let victim = VICTIMS.iter().position(|name| *name == pair.victim).unwrap();
                            let (rate, late) = (self.reading(), self.reading());
                            let kept = 0.3 * factor * rate / alone[victim].0;
                            let tail = kept * late / alone[victim].1;
                            vec![amount(RATE_KEPT, kept), amount(TAIL_KEPT, tail)]
                        }
                        None => {
                            let wall = self.reading();
                            let cpu = wall * (0.1 * self.normal()).exp();
                            vec![amount("to exit", wall / factor), amount("CPU", cpu / factor)]
                        }
                    };
                    lines.push(Line::Turn(Turn {
                        task: task.name.clone(),
                        platform: platform.to_owned(),
                        block,
                        began: None,
                        seconds: 0.1,
                        disturbance: None,
                        noise: None,
                        findings,
                    }));
                }
            }
        }
        Findings::of(&Results::of(lines).unwrap())
    }
}

/// As a short run has it: five rows with a verdict, and nine pairs.
fn plan() -> Plan {
    let task = |name: String, axis: Axis, pair: Option<Pair>, quantities: Vec<Quantity>| Task {
        name,
        axis,
        says: String::new(),
        pair,
        rate: None,
        quantities,
        least: 6,
        most: 6,
    };
    let rows = (0..5).map(|number| {
        let quantities = vec![Quantity::less("to exit", "ms"), Quantity::less("CPU", "ms").beside()];
        task(format!("row {number}"), Axis::Performance, None, quantities)
    });
    let pairs = VICTIMS.iter().flat_map(|victim| ANTAGONISTS.iter().map(move |other| (victim, other)));
    let pairs = pairs.map(|(victim, antagonist)| {
        let pair = Pair {
            victim: (*victim).to_owned(),
            antagonist: (*antagonist).to_owned(),
            limits: Limits::With,
            floor: None,
        };
        let kept = [RATE_KEPT, TAIL_KEPT].map(|name| Quantity::more(name, "").beside()).to_vec();
        task(format!("{victim} beside {antagonist}, with limits"), Axis::Noninterference, Some(pair), kept)
    });
    Plan { platforms: vec![BARE.to_owned(), AGAIN.to_owned()], tasks: rows.chain(pairs).collect(), seed: 1 }
}

/// How many of so many runs end so, by axis.
fn ended(noise: f64, bias: f64, runs: u64, end: TrialEnd) -> [usize; 2] {
    let mut counts = [0; 2];
    for seed in 0..runs {
        let found = Restless { prng: Prng::new(seed), noise, bias }.run();
        for (count, axis) in counts.iter_mut().zip([Axis::Performance, Axis::Noninterference]) {
            let trial = found.trials.iter().find(|trial| trial.axis == axis).unwrap();
            *count += usize::from(trial.end == end);
        }
    }
    counts
}

#[test]
fn what_is_not_there_is_found_in_few_of_many_runs() {
    for noise in [0.1, 0.2, 0.4, 0.8] {
        let failed = ended(noise, 1.0, 400, TrialEnd::Failed);
        // One in twenty is what is allowed, and 29 of 400 are more than that by chance once in fifty times.
        assert!(failed.iter().all(|failed| *failed <= 29), "noise of {noise}: {failed:?} of 400 failed");
    }
}

#[test]
fn what_is_there_is_found() {
    for (noise, bias) in [(0.02, 1.2), (0.1, 2.0), (0.2, 3.0)] {
        let failed = ended(noise, bias, 40, TrialEnd::Failed);
        assert!(failed.iter().all(|failed| *failed >= 34), "{bias} under {noise}: {failed:?} of 40 failed");
    }
}

#[test]
fn single_pairs_are_no_verdict_and_are_not_called_one() {
    let found = Restless { prng: Prng::new(7), noise: 0.8, bias: 1.0 }.run();
    let apart = found.rows.iter().filter(|row| row.axis == Axis::Noninterference);
    let apart = apart.filter_map(|row| row.cell(AGAIN)?.against_bare).map(|against| against.ratio.estimate);
    assert!(apart.clone().any(|ratio| !(0.5..2.0).contains(&ratio)), "{:?}", Vec::from_iter(apart));
    let said = words::opening(&found);
    let said = said.iter().find(|sentence| sentence.text.starts_with("Noninterference:")).unwrap();
    assert!(
        said.text.contains("in the mean of all pairs") && said.text.contains("A single pair"),
        "{said:?}"
    );
    let table = tables::raw(&found, Axis::Noninterference);
    assert!(table.rows.iter().all(|row| row[5] == "–"), "{:?}", table.rows);
    let costs = tables::raw(&found, Axis::Performance);
    let has_verdict =
        |quantity: &str| costs.rows.iter().any(|row| row[0].contains(quantity) && row[5] != "–");
    assert!(has_verdict("to exit") && !has_verdict("CPU"), "{:?}", costs.rows);
}
