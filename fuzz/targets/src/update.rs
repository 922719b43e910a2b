//! No document of `update` makes the planner of limits panic, and each value that is written stays one line.

use bulkhead_cgroup::{Host, Plan};
use bulkhead_spec::Resources;

/// Runs the target; the input is the text that `update -r` reads.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let resources = match Resources::from_json(text) {
        Ok(resources) => resources,
        Err(error) => return super::check_sentence(&error.to_string()),
    };
    for host in super::HOSTS.iter().filter_map(|table| Host::from_mountinfo(table).ok()) {
        match Plan::for_update(&resources, &host) {
            Ok(plan) => check(&plan),
            Err(error) => super::check_sentence(&error.to_string()),
        }
    }
}

fn check(plan: &Plan) {
    plan.warnings().iter().for_each(|warning| super::check_sentence(warning));
    for write in plan.writes() {
        let file = write.file();
        assert!(
            !file.is_empty() && !file.contains('/') && !file.starts_with('.'),
            "{file:?} is no file of a cgroup"
        );
        let value = write.value().unwrap_or_default();
        assert!(!value.contains(['\n', '\0']), "{file} gets {value:?}");
    }
}
