//! Which class of service of the resctrl file system a container gets (config-linux.md, "IntelRdt").

use bulkhead_spec::IntelRdt;

use crate::error::{Error, Result};

/// A class of service and monitoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdt {
    /// Which class.
    pub class: Class,
    /// Lines of its `schemata`, in the order in which they are written, each with its place in the configuration.
    pub schemata: Vec<(String, String)>,
    /// Whether the container is counted apart from others of its class.
    pub monitored: bool,
}

/// A class of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// One of its own, called as the container is.
    Own,
    /// One of this name, which others may share; the empty name is that of the default class.
    Shared(String),
}

/// Names in the resctrl file system that are no classes.
const TAKEN: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

/// Decides the class of service.
///
/// # Errors
/// A name that no class can have, a schema of more than one line.
pub fn plan(rdt: &IntelRdt) -> Result<Rdt> {
    let IntelRdt {
        clos_id,
        schemata,
        l3_cache_schema,
        mem_bw_schema,
        enable_monitoring,
        enable_cmt,
        enable_mbm,
    } = rdt;
    let class = match clos_id.as_deref() {
        None => Class::Own,
        Some("/") => Class::Shared(String::new()),
        Some(name) if TAKEN.contains(&name) || name.contains(['/', '\n', '\0']) || name.len() > 255 => {
            let reason = format!("{name:?} is not the name of a class of service");
            return Err(Error::invalid("/linux/intelRdt/closID", reason));
        }
        Some(name) => Class::Shared(name.to_owned()),
    };
    let single = [(l3_cache_schema, "l3CacheSchema"), (mem_bw_schema, "memBwSchema")];
    let single = single.into_iter().filter_map(|(schema, field)| Some((schema.clone()?, field.to_owned())));
    let listed = schemata.iter().enumerate();
    let listed = listed.map(|(index, schema)| (schema.clone(), format!("schemata/{index}")));
    let schemata: Vec<_> =
        single.chain(listed).map(|(line, field)| (line, format!("/linux/intelRdt/{field}"))).collect();
    for (line, pointer) in &schemata {
        if line.contains(['\n', '\0']) {
            return Err(Error::invalid(pointer, "a schema is one line"));
        }
        if pointer.ends_with("memBwSchema") && !line.starts_with("MB:") {
            return Err(Error::invalid(pointer, format!("{line:?} does not begin with \"MB:\"")));
        }
    }
    // The two are what the specification had before 1.3.
    let monitored = *enable_monitoring || *enable_cmt || *enable_mbm;
    Ok(Rdt { class, schemata, monitored })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> std::result::Result<Rdt, String> {
        plan(&serde_json::from_str(json).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn schemata_are_written_after_the_two_older_fields() {
        let rdt = planned(
            r#"{"schemata": ["L2:0=f", "L3:0=1"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7f0"}"#,
        );
        let lines = rdt.unwrap().schemata;
        let lines: Vec<_> = lines.iter().map(|(line, pointer)| (line.as_str(), pointer.as_str())).collect();
        let expected = [
            ("L3:0=7f0", "/linux/intelRdt/l3CacheSchema"),
            ("MB:0=20", "/linux/intelRdt/memBwSchema"),
            ("L2:0=f", "/linux/intelRdt/schemata/0"),
            ("L3:0=1", "/linux/intelRdt/schemata/1"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_class_is_the_containers_own_a_shared_one_or_the_default() {
        let class = |json| planned(json).unwrap().class;
        assert_eq!(class("{}"), Class::Own);
        assert_eq!(class(r#"{"closID": "guaranteed"}"#), Class::Shared("guaranteed".into()));
        assert_eq!(class(r#"{"closID": "/"}"#), Class::Shared(String::new()));
    }

    #[test]
    fn monitoring_may_be_asked_for_by_its_older_names() {
        for (json, expected) in [
            ("{}", false),
            (r#"{"enableMonitoring": true}"#, true),
            (r#"{"enableCMT": true}"#, true),
            (r#"{"enableMBM": true, "enableCMT": false}"#, true),
        ] {
            assert_eq!(planned(json).unwrap().monitored, expected, "{json}");
        }
    }

    #[test]
    fn what_would_be_something_else_in_the_file_system_is_refused() {
        let long = "a".repeat(256);
        for name in ["..", ".", "info", "mon_groups", "mon_data", "a/b", "/a", "a\\nb", "a\\u0000", &long] {
            let error = planned(&format!(r#"{{"closID": "{name}"}}"#)).unwrap_err();
            assert!(error.starts_with("config.json: /linux/intelRdt/closID: "), "{error}");
        }
        for (json, place) in [
            (r#"{"l3CacheSchema": "L3:0=1\nL3:0=f"}"#, "l3CacheSchema: a schema is one line"),
            (r#"{"schemata": ["MB:0=1", "a\nb"]}"#, "schemata/1: a schema is one line"),
            (r#"{"memBwSchema": "L3:0=1"}"#, "memBwSchema: \"L3:0=1\" does not begin with \"MB:\""),
        ] {
            assert_eq!(planned(json).unwrap_err(), format!("config.json: /linux/intelRdt/{place}"));
        }
    }
}
