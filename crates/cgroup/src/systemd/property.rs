//! From the limits of a plan to the properties of a unit.
//!
//! The files of the cgroup are the truth for the kernel, and the runtime writes them itself. But a limit that
//! systemd does not know, too, would be lifted by it: at a `daemon-reload`, or when a neighbour's properties change.
//! So every write for which there is a property is told to systemd as well. Device rules are not: systemd attaches a
//! program of its own only where a unit has some, and ours stays in place beside that of nobody.

use std::borrow::Cow;

use super::wire::Writer;
use crate::error::Result;
use crate::plan::{Plan, Value as FileValue, Write};

/// systemd's number for "no limit".
const INFINITY: u64 = u64::MAX;
/// systemd keeps a quota as whole percents of a CPU: microseconds per second in steps of this.
const QUOTA_STEP: u64 = 10_000;
const SECOND: u64 = 1_000_000;
/// The period of a new cgroup, in microseconds.
const PERIOD_DEFAULT: u64 = 100_000;
/// CPUs and memory nodes beyond it are no list but a mistake; the kernel has at most 8192.
const LAST_OF_LIST: usize = 8191;

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name, systemd's.
    pub name: String,
    /// What it is set to.
    pub value: Value,
}

/// A value with its D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// A number of 32 bits, with a sign.
    I32(i32),
    /// A number of 32 bits.
    U32(u32),
    /// A number of 64 bits, with a sign.
    I64(i64),
    /// A number of 64 bits.
    U64(u64),
    /// Several texts.
    Texts(Vec<String>),
    /// Several numbers.
    Numbers(Vec<u32>),
    /// The numbers of the bits that are set.
    Bits(Vec<u8>),
    /// Paths of devices with a number for each.
    OfDevice(String, u64),
}

impl Property {
    pub(crate) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value }
    }

    pub(crate) fn text(name: &str, text: &str) -> Self {
        Self::new(name, Value::Text(text.to_owned()))
    }
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Bool(_) => "b",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Texts(_) => "as",
            Self::Numbers(_) => "au",
            Self::Bits(_) => "ay",
            Self::OfDevice(..) => "a(st)",
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Text(text) => writer.string(text),
            Self::Bool(value) => writer.bool(*value),
            Self::I32(value) => writer.u32(value.cast_unsigned()),
            Self::U32(value) => writer.u32(*value),
            Self::I64(value) => writer.u64(value.cast_unsigned()),
            Self::U64(value) => writer.u64(*value),
            Self::Texts(texts) => writer.array(4, |items| texts.iter().for_each(|text| items.string(text))),
            Self::Numbers(all) => writer.array(4, |items| all.iter().for_each(|number| items.u32(*number))),
            Self::Bits(bytes) => writer.array(1, |items| bytes.iter().for_each(|byte| items.byte(*byte))),
            Self::OfDevice(path, number) => writer.array(8, |items| {
                items.string(path);
                items.u64(*number);
            }),
        }
    }
}

/// Lays properties out as `a(sv)`.
pub fn encode(properties: &[Property], writer: &mut Writer) {
    writer.array(8, |items| {
        for Property { name, value } in properties {
            items.align(8);
            items.string(name);
            items.signature(value.signature());
            value.write(items);
        }
    });
}

/// Tells whether systemd `version` knows a property with such a value. 247, the oldest that is meant to work, knows all
/// but these.
fn is_known(property: &Property, version: u32) -> bool {
    match (property.name.as_str(), &property.value) {
        ("MemoryZSwapMax", _) => version >= 253,
        // A weight of 0 is an idle unit.
        ("CPUWeight", Value::U64(0)) => version >= 252,
        _ => true,
    }
}

/// Drops what systemd `version` does not know, and says in sentences what those were.
pub(crate) fn known(properties: Vec<Property>, version: u32) -> (Vec<Property>, Vec<String>) {
    let (known, unknown): (Vec<_>, Vec<_>) =
        properties.into_iter().partition(|property| is_known(property, version));
    let warning = |property: Property| {
        format!(
            "systemd {version} does not know {}: the limit is set in the container's cgroup only, where \
             systemd may change it",
            property.name
        )
    };
    (known, unknown.into_iter().map(warning).collect())
}

/// Turns the writes of a plan into properties. `in_force` reads a file of the cgroup, where a value depends on it.
///
/// # Errors
/// Those of `in_force`.
pub(crate) fn of_plan(plan: &Plan, in_force: impl Fn(&str) -> Result<String>) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    for write in plan.writes() {
        properties.append(&mut of_write(write, &in_force)?);
    }
    // What is idle has no weight that it could have again, and systemd would make it idle until it is told of one.
    let ends_idleness =
        plan.writes().iter().any(|write| write.file() == "cpu.idle" && write.value() == Some("0"));
    if ends_idleness && !plan.sets("cpu.weight") && in_force("cpu.idle")?.trim() == "1" {
        properties.push(Property::new("CPUWeight", Value::U64(INFINITY)));
    }
    Ok(properties)
}

fn of_write(write: &Write, in_force: &impl Fn(&str) -> Result<String>) -> Result<Vec<Property>> {
    let value = write.resolved(in_force)?;
    // A value that systemd could not have is left to the kernel, which says what is wrong with it.
    let limit = |name| number(&value).map(|limit| vec![Property::new(name, Value::U64(limit))]);
    let found = match write.file() {
        "memory.max" => limit("MemoryMax"),
        "memory.high" => limit("MemoryHigh"),
        "memory.low" => limit("MemoryLow"),
        "memory.min" => limit("MemoryMin"),
        "memory.swap.max" => limit("MemorySwapMax"),
        "memory.zswap.max" => limit("MemoryZSwapMax"),
        "pids.max" => limit("TasksMax"),
        "cpu.weight" => limit("CPUWeight"),
        "cpu.idle" if value == "1" => Some(vec![Property::new("CPUWeight", Value::U64(0))]),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let (quota, period) = (words.next().unwrap_or("max"), words.next().map(str::to_owned));
            let period = match period {
                Some(period) => Some(period),
                None => in_force("cpu.max")?.split_whitespace().nth(1).map(str::to_owned),
            };
            bandwidth(quota, period.as_deref())
        }
        "cpuset.cpus" => bits(&value).map(|bits| vec![Property::new("AllowedCPUs", Value::Bits(bits))]),
        "cpuset.mems" => {
            bits(&value).map(|bits| vec![Property::new("AllowedMemoryNodes", Value::Bits(bits))])
        }
        "io.weight" => io_weight(&value),
        // The file of the scheduler BFQ has another range; the usual one is what comes instead.
        "io.bfq.weight" => match &write.if_missing {
            crate::plan::IfMissing::Instead("io.weight", value) => io_weight(value),
            _ => None,
        },
        "io.max" => io_max(&value),
        _ => None,
    };
    Ok(found.unwrap_or_default())
}

fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(INFINITY) } else { text.parse().ok() }
}

/// Turns a quota of a period into one of a second.
fn bandwidth(quota: &str, period: Option<&str>) -> Option<Vec<Property>> {
    let period = microseconds(period)?;
    Some(vec![
        Property::new("CPUQuotaPeriodUSec", Value::U64(period)),
        Property::new("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period)?)),
    ])
}

fn microseconds(period: Option<&str>) -> Option<u64> {
    period.map_or(Some(PERIOD_DEFAULT), |period| period.parse().ok()).filter(|period| *period > 0)
}

/// Rounds a quota up to what systemd can keep, and not down to nothing.
fn per_second(quota: &str, period: u64) -> Option<u64> {
    match number(quota)? {
        INFINITY => Some(INFINITY),
        quota => quota.checked_mul(SECOND)?.div_ceil(period).checked_next_multiple_of(QUOTA_STEP),
    }
}

/// The plan with the CPU quota that systemd will have; its period stays also where there is no quota any more, for which
/// systemd has none. `in_force` is as for [`of_plan`].
pub(crate) fn settled(plan: &Plan, in_force: impl Fn(&str) -> Result<String>) -> Result<Cow<'_, Plan>> {
    if plan.writes().iter().all(|write| write.file() != "cpu.max") {
        return Ok(Cow::Borrowed(plan));
    }
    let mut now = in_force("cpu.max")?;
    let mut rounding = plan.clone();
    for write in rounding.writes_of("cpu.max") {
        let value = write.resolved(|_| Ok(now.clone()))?;
        if let Some(rounded) = rounded_quota(&value, &now) {
            now.clone_from(&rounded);
            write.value = FileValue::Text(rounded);
        }
    }
    Ok(Cow::Owned(rounding))
}

/// What systemd writes for the `value` of `cpu.max`, a quota alone or with its period; `now` is what stands there.
fn rounded_quota(value: &str, now: &str) -> Option<String> {
    let mut words = value.split_whitespace();
    let (quota, period) = (words.next()?, words.next());
    let period = microseconds(period.or_else(|| now.split_whitespace().nth(1)))?;
    Some(match per_second(quota, period)? {
        INFINITY => format!("max {period}"),
        per_second => {
            let quota = u128::from(per_second) * u128::from(period) / u128::from(SECOND);
            format!("{quota} {period}")
        }
    })
}

/// Turns a list like `0-2,5` into a mask whose first byte has the bits of 0 to 7.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for range in list.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > LAST_OF_LIST {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    Some(mask)
}

/// Reads `100`, `default 100` or `8:0 100`.
fn io_weight(value: &str) -> Option<Vec<Property>> {
    let weight = match value.split_once(' ') {
        None => Property::new("IOWeight", Value::U64(number(value)?)),
        Some(("default", weight)) => Property::new("IOWeight", Value::U64(number(weight)?)),
        Some((device, weight)) => {
            Property::new("IODeviceWeight", Value::OfDevice(node(device)?, number(weight)?))
        }
    };
    Some(vec![weight])
}

/// Reads `8:0 rbps=1 wiops=max`.
fn io_max(value: &str) -> Option<Vec<Property>> {
    let (device, limits) = value.split_once(' ')?;
    let device = node(device)?;
    let limits = limits.split_whitespace().map(|limit| {
        let (key, rate) = limit.split_once('=')?;
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => return None,
        };
        Some(Property::new(name, Value::OfDevice(device.clone(), number(rate)?)))
    });
    limits.collect()
}

/// Names a block device by its numbers.
fn node(device: &str) -> Option<String> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some(format!("/dev/block/{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use bulkhead_spec::Resources;

    use super::*;
    use crate::plan::{Devices, testing};

    fn shown(properties: &[Property]) -> Vec<String> {
        let shown = properties.iter().map(|Property { name, value }| match value {
            Value::U64(INFINITY) => format!("{name}=infinity"),
            Value::U64(number) => format!("{name}={number}"),
            Value::Bits(bits) => format!("{name}={bits:x?}"),
            Value::OfDevice(path, INFINITY) => format!("{name}={path} infinity"),
            Value::OfDevice(path, number) => format!("{name}={path} {number}"),
            other => format!("{name}={other:?}"),
        });
        shown.collect()
    }

    fn created(json: &str) -> Vec<String> {
        let resources = Resources::from_json(json).unwrap();
        let plan = Plan::for_container(Some(&resources), &testing::unified(), Devices::Enforced).unwrap();
        shown(&of_plan(&plan, |_| Ok(String::new())).unwrap())
    }

    fn updated(json: &str) -> Vec<String> {
        let resources = Resources::from_json(json).unwrap();
        let plan = Plan::for_update(&resources, &testing::unified()).unwrap();
        let in_force = |file: &str| match file {
            "cpu.idle" => Ok("1\n".to_owned()),
            "cpu.max" => Ok("25000 50000\n".to_owned()),
            "memory.max" => Ok("1000\n".to_owned()),
            other => panic!("{other} is not asked for"),
        };
        shown(&of_plan(&plan, in_force).unwrap())
    }

    #[test]
    fn every_limit_has_its_property() {
        let json = r#"{
            "memory": {"limit": 1000, "swap": 1500, "reservation": 500}, "pids": {"limit": 7},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1,9", "mems": "0"},
            "blockIO": {"weight": 100, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
            "unified": {"memory.high": "900", "memory.min": "max", "memory.oom.group": "1"}
        }"#;
        let mut found = created(json);
        found.sort();
        assert_eq!(
            found,
            [
                "AllowedCPUs=[3, 2]",
                "AllowedMemoryNodes=[1]",
                "CPUQuotaPerSecUSec=500000",
                "CPUQuotaPeriodUSec=100000",
                "CPUWeight=100",
                "IOReadBandwidthMax=/dev/block/8:0 5",
                "IOWeight=910",
                "MemoryHigh=900",
                "MemoryLow=500",
                "MemoryMax=1000",
                "MemoryMin=infinity",
                "MemorySwapMax=500",
                "TasksMax=7",
            ]
        );
    }

    #[test]
    fn no_limit_is_infinity() {
        let json = r#"{"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}"#;
        let mut found = created(json);
        found.sort();
        assert_eq!(
            found,
            [
                "CPUQuotaPerSecUSec=infinity",
                "CPUQuotaPeriodUSec=100000",
                "MemoryMax=infinity",
                "MemorySwapMax=infinity",
                "TasksMax=infinity"
            ]
        );
    }

    #[test]
    fn a_quota_is_rounded_up_to_what_systemd_keeps() {
        let quota = |quota, period| shown(&bandwidth(quota, period).unwrap()).pop().unwrap();
        assert_eq!(quota("1000", Some("1000000")), "CPUQuotaPerSecUSec=10000");
        assert_eq!(quota("33333", Some("100000")), "CPUQuotaPerSecUSec=340000");
        assert_eq!(quota("250000", None), "CPUQuotaPerSecUSec=2500000");
        assert_eq!(rounded_quota("600000", "504000 900000\n").unwrap(), "603000 900000");
        assert_eq!(rounded_quota("33333 100000", "").unwrap(), "34000 100000");
        assert_eq!(rounded_quota("max", "603000 900000\n").unwrap(), "max 900000");
        assert_eq!(bandwidth("1", Some("0")), None);
        assert_eq!(bandwidth("18446744073709551614", None), None, "too much for anybody");
    }

    #[test]
    fn every_quota_of_a_plan_is_rounded() {
        let json = r#"{"cpu": {"quota": 33333}, "unified": {"cpu.max": "66666"}}"#;
        let resources = Resources::from_json(json).unwrap();
        let plan = Plan::for_update(&resources, &testing::unified()).unwrap();
        let settled = settled(&plan, |_| Ok("max 50000\n".to_owned())).unwrap();
        let quotas: Vec<_> = settled.writes().iter().filter_map(Write::value).collect();
        assert_eq!(quotas, ["33500 50000", "67000 50000"]);
    }

    #[test]
    fn an_update_adds_what_stays_as_it_is() {
        assert_eq!(
            updated(r#"{"cpu": {"quota": 50000}}"#),
            ["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=1000000"]
        );
        assert_eq!(
            updated(r#"{"cpu": {"period": 100000}}"#),
            ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=250000"]
        );
        assert_eq!(updated(r#"{"memory": {"swap": 1700}}"#), ["MemorySwapMax=700"]);
    }

    #[test]
    fn an_idle_container_has_no_weight() {
        assert_eq!(created(r#"{"cpu": {"idle": 1}}"#), ["CPUWeight=0"]);
        assert!(created(r#"{"cpu": {"idle": 0}}"#).is_empty());
    }

    #[test]
    fn what_ends_to_be_idle_has_the_usual_weight() {
        assert_eq!(updated(r#"{"cpu": {"idle": 0}}"#), ["CPUWeight=infinity"]);
        assert_eq!(updated(r#"{"cpu": {"idle": 0, "shares": 1024}}"#), ["CPUWeight=100"]);
        let resources = Resources::from_json(r#"{"cpu": {"idle": 0}}"#).unwrap();
        let plan = Plan::for_update(&resources, &testing::unified()).unwrap();
        let told = of_plan(&plan, |_| Ok("0\n".to_owned())).unwrap();
        assert!(told.is_empty(), "one that is not idle keeps its weight: {told:?}");
    }

    #[test]
    fn lists_become_masks() {
        for (list, mask) in [("0", vec![1]), ("0-7,8", vec![255, 1]), ("", vec![]), (" 3 \n", vec![8])] {
            assert_eq!(bits(list), Some(mask), "{list:?}");
        }
        for list in ["0-7:1/2", "7-0", "x", "8192", "0-99999999999"] {
            assert_eq!(bits(list), None, "{list:?} is the kernel's to refuse");
        }
    }

    #[test]
    fn what_an_old_systemd_lacks_is_left_out_and_named() {
        let all = || ["MemoryMax", "MemoryZSwapMax"].map(|name| Property::new(name, Value::U64(1))).to_vec();
        let (kept, warnings) = known(all(), 252);
        assert_eq!(shown(&kept), ["MemoryMax=1"]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("systemd 252 does not know MemoryZSwapMax: "), "{}", warnings[0]);
        assert_eq!(known(all(), 253).0.len(), 2);
        let idle = vec![Property::new("CPUWeight", Value::U64(0))];
        assert_eq!((known(idle.clone(), 251).0.len(), known(idle, 252).0.len()), (0, 1));
    }

    #[test]
    fn properties_are_laid_out_byte_for_byte() {
        let mut writer = Writer::default();
        let properties = [
            Property::new("PIDs", Value::Numbers(vec![7])),
            Property::new("IOWriteIOPSMax", Value::OfDevice("/dev/x".into(), 5)),
        ];
        encode(&properties, &mut writer);
        let expected = [
            b"\x50\0\0\0\0\0\0\0".as_slice(), // the length of what follows this padding
            b"\x04\0\0\0PIDs\0\x02au\0\0\0\0",
            b"\x04\0\0\0\x07\0\0\0",
            b"\x0e\0\0\0IOWriteIOPSMax\0\x05a(st)\0\0\0",
            b"\x18\0\0\0",
            b"\x06\0\0\0/dev/x\0\0\0\0\0\0\x05\0\0\0\0\0\0\0",
        ];
        assert_eq!(writer.into_bytes(), expected.concat());
    }
}
