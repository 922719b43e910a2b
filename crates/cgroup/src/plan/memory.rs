//! Memory and swap.

use bulkhead_spec::MemoryResources;

use super::{Draft, Occasion, UsageCheck, Value, given, within};
use crate::error::{Error, Result};
use crate::host::Version;

/// The highest swappiness that a cgroup takes.
const SWAPPINESS_MAX: u64 = 100;

impl Draft<'_> {
    pub(super) fn memory(&mut self, memory: &MemoryResources) -> Result<()> {
        let MemoryResources {
            limit,
            reservation,
            swap,
            kernel,
            kernel_tcp,
            swappiness,
            disable_oom_killer,
            use_hierarchy: _, // Every kernel since 5.11 accounts hierarchically and takes nothing else.
            check_before_update,
        } = memory;
        if kernel.is_some() || kernel_tcp.is_some() {
            self.warn("Kernel memory settings are ignored and will be removed");
        }
        // Every 0 is a limit that is not given, as under runc: engines send it for those.
        let bytes = |pointer, value| given(value).map(|value| Bytes::new(pointer, value)).transpose();
        let limit = bytes("/memory/limit", *limit)?;
        let swap = bytes("/memory/swap", *swap)?;
        let reservation = bytes("/memory/reservation", *reservation)?;
        if let (Some(Bytes::Number(limit)), Some(Bytes::Number(swap))) = (limit, swap)
            && swap < limit
        {
            let reason = format!("memory+swap limit {swap} is below the memory limit {limit}");
            return Err(Error::invalid("/memory/swap", reason));
        }
        let swappiness = swappiness.filter(|value| *value != u64::MAX); // -1 of old callers: unset
        if let Some(swappiness) = swappiness {
            within("/memory/swappiness", swappiness, 0, SWAPPINESS_MAX)?;
        }
        let disable_oom_killer = *disable_oom_killer == Some(true);

        match self.version("memory") {
            Version::V1 => {
                self.memory_v1(limit, swap, reservation);
                if disable_oom_killer {
                    self.set(Version::V1, "memory", "memory.oom_control", "1");
                }
                if let Some(swappiness) = swappiness {
                    self.set(Version::V1, "memory", "memory.swappiness", &swappiness);
                }
            }
            Version::V2 => {
                if *check_before_update == Some(true) {
                    self.plan.check = UsageCheck::new(limit, swap);
                }
                self.memory_v2(limit, swap, reservation)?;
                if disable_oom_killer {
                    self.warn("memory.disableOOMKiller is ignored: cgroup v2 has no such setting");
                }
                if swappiness.is_some() {
                    self.warn("memory.swappiness is ignored: cgroup v2 has no such setting");
                }
            }
        }
        Ok(())
    }

    /// The kernel keeps `limit <= memsw.limit` at all times, so the order of the two depends on the values in force:
    /// whichever is refused first is repeated.
    fn memory_v1(&mut self, limit: Option<Bytes>, swap: Option<Bytes>, reservation: Option<Bytes>) {
        if let Some(limit) = limit {
            self.set(Version::V1, "memory", "memory.limit_in_bytes", &limit.v1()).or_later();
        }
        const SWAP_FILE: &str = "memory.memsw.limit_in_bytes";
        match (limit, swap) {
            (_, Some(swap)) => {
                self.set(Version::V1, "memory", SWAP_FILE, &swap.v1()).or_later();
            }
            // Unlimited memory below limited memory+swap is impossible, so the latter is lifted too, if it exists. A
            // new cgroup has no limit to lift.
            (Some(Bytes::Unlimited), None) if self.occasion == Occasion::Update => {
                self.set(Version::V1, "memory", SWAP_FILE, "-1").or_later().if_there();
            }
            _ => {}
        }
        if let Some(reservation) = reservation {
            self.set(Version::V1, "memory", "memory.soft_limit_in_bytes", &reservation.v1());
        }
    }

    /// The specification's swap is the sum with memory, that of v2 is swap alone.
    fn memory_v2(
        &mut self,
        limit: Option<Bytes>,
        swap: Option<Bytes>,
        reservation: Option<Bytes>,
    ) -> Result<()> {
        let alone = match (limit, swap) {
            (Some(Bytes::Unlimited), None) | (_, Some(Bytes::Unlimited)) => {
                Some(Value::Text("max".to_owned()))
            }
            (_, None) => None,
            (Some(Bytes::Unlimited), Some(Bytes::Number(swap))) => Some(Value::Text(swap.to_string())),
            (Some(Bytes::Number(limit)), Some(Bytes::Number(swap))) => {
                Some(Value::Text((swap - limit).to_string()))
            }
            (None, Some(Bytes::Number(swap))) if self.occasion == Occasion::Update => {
                Some(Value::LessMemory(swap))
            }
            (None, Some(Bytes::Number(_))) => {
                let reason = "a limit of memory+swap needs a memory limit on cgroup v2";
                return Err(Error::invalid("/memory/swap", reason));
            }
        };
        if let Some(value) = alone {
            let harmless = matches!(&value, Value::Text(text) if text == "max" || text == "0");
            let write = self.set(Version::V2, "memory", "memory.swap.max", "");
            write.value = value;
            if harmless {
                // Without swap accounting there is nothing to lift or forbid.
                write.if_there();
            }
        }
        if let Some(limit) = limit {
            self.set(Version::V2, "memory", "memory.max", &limit.v2());
        }
        if let Some(reservation) = reservation {
            self.set(Version::V2, "memory", "memory.low", &reservation.v2());
        }
        Ok(())
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    Number(u64),
    Unlimited,
}

impl Bytes {
    fn new(pointer: &str, value: i64) -> Result<Self> {
        match (value, u64::try_from(value)) {
            (-1, _) => Ok(Self::Unlimited),
            (_, Ok(number)) => Ok(Self::Number(number)),
            _ => Err(Error::invalid(pointer, format!("{value} is neither a number of bytes nor -1"))),
        }
    }

    fn v1(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Unlimited => "-1".to_owned(),
        }
    }

    fn v2(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Unlimited => "max".to_owned(),
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Unlimited => None,
        }
    }
}

impl UsageCheck {
    fn new(limit: Option<Bytes>, swap: Option<Bytes>) -> Option<Self> {
        let (memory, memory_and_swap) = (limit.and_then(Bytes::number), swap.and_then(Bytes::number));
        (memory.is_some() || memory_and_swap.is_some()).then_some(Self { memory, memory_and_swap })
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::*;

    #[test]
    fn a_sum_of_nothing_is_no_limit() {
        let json = r#"{"memory": {"swap": 0}}"#;
        for host in [unified(), legacy()] {
            assert_eq!(create(&host, json), [""; 0]);
            assert_eq!(update(&host, json), [""; 0]);
        }
        let json = r#"{"memory": {"limit": 100, "swap": 0}}"#;
        assert_eq!(create(&unified(), json), ["memory.max 100"]);
    }

    #[test]
    fn v1_writes_the_specifications_numbers() {
        let json = r#"{"memory": {"limit": 100, "swap": 300, "reservation": 50, "swappiness": 0,
            "disableOOMKiller": true, "useHierarchy": true}}"#;
        assert_eq!(
            create(&legacy(), json),
            [
                "memory.limit_in_bytes 100 [or later]",
                "memory.memsw.limit_in_bytes 300 [or later]",
                "memory.soft_limit_in_bytes 50",
                "memory.oom_control 1",
                "memory.swappiness 0",
            ]
        );
    }

    #[test]
    fn v2_separates_swap_from_memory() {
        for (json, expected) in [
            (r#"{"limit": 100, "swap": 300}"#, vec!["memory.swap.max 200", "memory.max 100"]),
            (r#"{"limit": 100, "swap": 100}"#, vec!["memory.swap.max 0 [if there]", "memory.max 100"]),
            (r#"{"limit": 100, "swap": -1}"#, vec!["memory.swap.max max [if there]", "memory.max 100"]),
            (r#"{"limit": 100}"#, vec!["memory.max 100"]),
            (r#"{"limit": 100, "swap": 0}"#, vec!["memory.max 100"]),
            (r#"{"limit": -1}"#, vec!["memory.swap.max max [if there]", "memory.max max"]),
            (r#"{"limit": -1, "swap": 5}"#, vec!["memory.swap.max 5", "memory.max max"]),
            (r#"{"swap": -1}"#, vec!["memory.swap.max max [if there]"]),
            (r#"{"reservation": -1}"#, vec!["memory.low max"]),
            (r#"{"reservation": 7}"#, vec!["memory.low 7"]),
            (r#"{"limit": 0, "swap": 0, "reservation": 0}"#, vec![]),
        ] {
            assert_eq!(create(&unified(), &format!(r#"{{"memory": {json}}}"#)), expected, "{json}");
        }
    }

    #[test]
    fn an_update_may_know_only_the_sum() {
        let json = r#"{"memory": {"swap": 300}}"#;
        assert_eq!(update(&unified(), json), ["memory.swap.max 300-memory"]);
        assert_eq!(
            refused(&unified(), json),
            "/memory/swap: a limit of memory+swap needs a memory limit on cgroup v2"
        );
    }

    #[test]
    fn lifting_the_memory_limit_lifts_that_of_swap() {
        assert_eq!(
            update(&legacy(), r#"{"memory": {"limit": -1}}"#),
            ["memory.limit_in_bytes -1 [or later]", "memory.memsw.limit_in_bytes -1 [if there] [or later]"]
        );
    }

    #[test]
    fn impossible_amounts_are_refused_with_their_place() {
        for (json, message) in [
            (r#"{"limit": -2}"#, "/memory/limit: -2 is neither a number of bytes nor -1"),
            (r#"{"reservation": -5}"#, "/memory/reservation: -5 is neither a number of bytes nor -1"),
            (r#"{"limit": 10, "swap": 9}"#, "/memory/swap: memory+swap limit 9 is below the memory limit 10"),
            (r#"{"swappiness": 101}"#, "/memory/swappiness: 101 is not in the range from 0 to 100"),
        ] {
            for host in [legacy(), unified()] {
                assert_eq!(refused(&host, &format!(r#"{{"memory": {json}}}"#)), message);
            }
        }
    }

    #[test]
    fn what_is_ignored_is_said() {
        let kernel = "Kernel memory settings are ignored and will be removed";
        let json = r#"{"memory": {"kernel": 1, "kernelTCP": 2}}"#;
        assert_eq!(warned(&legacy(), json), [kernel]);
        assert_eq!(create(&legacy(), json), Vec::<String>::new());
        let json = r#"{"memory": {"disableOOMKiller": true, "swappiness": 3}}"#;
        assert_eq!(warned(&unified(), json).len(), 2, "v2 has neither");
        assert_eq!(warned(&unified(), r#"{"memory": {"disableOOMKiller": false}}"#).len(), 0);
    }
}
