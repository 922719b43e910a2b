//! The types of this crate against an independent implementation of the same documents, the crate oci-spec.
#![expect(clippy::unwrap_used, reason = "helpers of tests work on documents that are known to be good")]

use std::fmt::Debug;

use bulkhead_spec::features::Features;
use bulkhead_spec::{
    Action, Arch, Config, ContainerProcessState, ContainerState, DeviceType, IoPriorityClass,
    MemoryPolicyFlag, MemoryPolicyMode, NamespaceType, Operator, PersonalityDomain, Process, Resources,
    SchedulerFlag, SchedulerPolicy, SeccompFlag, State,
};
use oci_spec::runtime as oci;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const CONFIG: &str = include_str!("documents/full-config.json");
const FEATURES: &str = include_str!("documents/full-features.json");
const STATE: &str = include_str!("documents/full-state.json");

/// Where the oracle departs from the specification's spelling (config.md, "Linux Process", scheduler.flags).
const MISSPELT: &[(&str, &str)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Turns a document into what the oracle can read.
fn misspell(text: &str) -> String {
    MISSPELT.iter().fold(text.to_owned(), |text, (right, wrong)| text.replace(right, wrong))
}

/// Turns what the oracle writes into the specification's spelling.
fn correct(text: &str) -> String {
    MISSPELT.iter().fold(text.to_owned(), |text, (right, wrong)| text.replace(wrong, right))
}

/// Checks that a document survives reading and writing, that it leaves nothing unset, and that the oracle reads the
/// same out of what is written as out of the document.
fn survives<Ours, Theirs>(text: &str)
where
    Ours: Serialize + DeserializeOwned + Debug + PartialEq,
    Theirs: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let document: Value = serde_json::from_str(text).unwrap();
    let ours: Ours = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&ours).unwrap(), document, "reading and writing changes nothing");
    let shown = format!("{ours:?}");
    for unset in ["None", "[]", "{}"] {
        assert!(!shown.contains(unset), "the document fills every field, but {unset} is left in {shown}");
    }

    let theirs: Theirs = serde_json::from_str(&misspell(text)).unwrap();
    let written = serde_json::to_string(&ours).unwrap();
    let through_us: Theirs = serde_json::from_str(&misspell(&written)).unwrap();
    assert_eq!(through_us, theirs, "the oracle reads the same from what is written");
    let written = serde_json::to_string(&theirs).unwrap();
    let through_them: Ours = serde_json::from_str(&correct(&written)).unwrap();
    let written = serde_json::to_string(&through_them).unwrap();
    let twice: Theirs = serde_json::from_str(&misspell(&written)).unwrap();
    assert_eq!(twice, theirs, "what the oracle writes comes back to it unchanged");
}

#[test]
fn a_configuration_that_fills_every_field_survives() {
    survives::<Config, oci::Spec>(CONFIG);
}

#[test]
fn a_features_document_that_fills_every_field_survives() {
    survives::<Features, oci::Features>(FEATURES);
}

#[test]
fn a_process_state_that_fills_every_field_survives() {
    survives::<ContainerProcessState, oci::ContainerProcessState>(STATE);
}

#[test]
fn parts_that_commands_take_alone_survive() {
    let document: Value = serde_json::from_str(CONFIG).unwrap();
    survives::<Process, oci::Process>(&document["process"].to_string());
    survives::<Resources, oci::LinuxResources>(&document["linux"]["resources"].to_string());
    let state: Value = serde_json::from_str(STATE).unwrap();
    survives::<State, oci::State>(&state["state"].to_string());
}

#[test]
fn what_the_oracle_builds_by_default_is_understood() {
    for theirs in [oci::Spec::default(), oci::Spec::rootless(1000, 100)] {
        let text = serde_json::to_string(&theirs).unwrap();
        let ours = Config::from_json(&text).unwrap();
        assert_eq!(
            ours.linux.as_ref().unwrap().namespaces.len(),
            theirs.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len()
        );
        let back: Config = Config::from_json(&serde_json::to_string(&ours).unwrap()).unwrap();
        assert_eq!(back, ours, "writing and reading changes nothing");
    }
}

/// Checks that each value of a closed list has the spelling that the oracle writes after reading it.
fn spelled_alike<Ours, Theirs>(all: &[Ours])
where
    Ours: Serialize + DeserializeOwned + Debug + PartialEq,
    Theirs: Serialize + DeserializeOwned,
{
    for value in all {
        let spelling = serde_json::to_string(value).unwrap();
        let theirs: Theirs = serde_json::from_str(&misspell(&spelling))
            .unwrap_or_else(|error| panic!("the oracle does not know {spelling}: {error}"));
        assert_eq!(correct(&serde_json::to_string(&theirs).unwrap()), spelling);
        assert_eq!(&serde_json::from_str::<Ours>(&spelling).unwrap(), value);
    }
}

#[test]
fn closed_lists_have_the_spellings_of_the_oracle() {
    spelled_alike::<_, oci::LinuxNamespaceType>(NamespaceType::ALL);
    spelled_alike::<_, oci::LinuxDeviceType>(DeviceType::ALL);
    spelled_alike::<_, oci::LinuxSeccompAction>(Action::ALL);
    spelled_alike::<_, oci::LinuxSeccompOperator>(Operator::ALL);
    spelled_alike::<_, oci::LinuxSeccompFilterFlag>(SeccompFlag::ALL);
    spelled_alike::<_, oci::LinuxSchedulerPolicy>(SchedulerPolicy::ALL);
    spelled_alike::<_, oci::LinuxSchedulerFlag>(SchedulerFlag::ALL);
    spelled_alike::<_, oci::IOPriorityClass>(IoPriorityClass::ALL);
    spelled_alike::<_, oci::MemoryPolicyModeType>(MemoryPolicyMode::ALL);
    spelled_alike::<_, oci::MemoryPolicyFlagType>(MemoryPolicyFlag::ALL);
    spelled_alike::<_, oci::LinuxPersonalityDomain>(PersonalityDomain::ALL);
    let states: Vec<_> =
        ContainerState::ALL.iter().copied().filter(|&s| s != ContainerState::Paused).collect();
    spelled_alike::<_, oci::ContainerState>(&states);
    spelled_alike::<_, oci::Arch>(Arch::ALL);
}

#[test]
fn closed_lists_are_closed() {
    for spelling in ["", "mnt", "net", "PID", "pid "] {
        assert!(spelling.parse::<NamespaceType>().is_err(), "{spelling:?} is no namespace type");
        assert!(serde_json::from_value::<NamespaceType>(json!(spelling)).is_err());
    }
    let error = "SCMP_ACT_NOPE".parse::<Action>().unwrap_err().to_string();
    assert!(
        error.starts_with("unknown seccomp action \"SCMP_ACT_NOPE\", expected one of SCMP_ACT_KILL, "),
        "{error}"
    );
}
