//! The number of tasks.

use bulkhead_spec::PidsResources;

use super::Draft;

impl Draft<'_> {
    pub(super) fn pids(&mut self, pids: &PidsResources) {
        let version = self.version("pids");
        let limit = match pids.limit {
            None => return,
            Some(limit @ 1..) => limit.to_string(),
            // With 0 the container's own first process, which counts, could not be cloned into its cgroup. 1 means
            // the same to a container that has started: it cannot fork.
            Some(0) => "1".to_owned(),
            Some(_) => "max".to_owned(),
        };
        self.set(version, "pids", "pids.max", &limit);
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::*;

    #[test]
    fn zero_is_the_least_and_negative_is_none() {
        for (limit, expected) in [("7", "7"), ("0", "1"), ("-1", "max"), ("-9", "max")] {
            let json = format!(r#"{{"pids": {{"limit": {limit}}}}}"#);
            for host in [legacy(), unified()] {
                assert_eq!(create(&host, &json), [format!("pids.max {expected}")]);
            }
        }
        assert_eq!(create(&legacy(), r#"{"pids": {}}"#), Vec::<String>::new());
    }
}
