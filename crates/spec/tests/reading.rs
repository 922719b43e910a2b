//! What is read leniently, what is refused, and how a refusal says where: over every single place of a document.
#![expect(clippy::unwrap_used, reason = "helpers of tests work on documents that are known to be good")]

use bulkhead_spec::{Config, ParseError, Process, Resources};
use serde_json::{Value, json};

const CONFIG: &str = include_str!("documents/full-config.json");

/// Lists the pointers of all values below a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut visit = |token: String, child: &Value| {
        let pointer = format!("{at}/{token}");
        found.push(pointer.clone());
        pointers(child, &pointer, found);
    };
    match value {
        Value::Object(members) => {
            for (key, child) in members {
                visit(key.replace('~', "~0").replace('/', "~1"), child);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                visit(index.to_string(), child);
            }
        }
        _ => {}
    }
}

/// Returns the full configuration and the pointers of all its values.
fn places() -> (Value, Vec<String>) {
    let document: Value = serde_json::from_str(CONFIG).unwrap();
    let mut found = Vec::new();
    pointers(&document, "", &mut found);
    assert!(found.len() > 250, "the document has many places, not {}", found.len());
    (document, found)
}

fn with(document: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = document.clone();
    *changed.pointer_mut(pointer).unwrap() = value;
    changed
}

/// Removes a member of an object; `None` if the pointer leads to an element of an array.
fn without(document: &Value, pointer: &str) -> Option<Value> {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut changed = document.clone();
    let key = key.replace("~1", "/").replace("~0", "~");
    changed.pointer_mut(parent).unwrap().as_object_mut()?.remove(&key);
    Some(changed)
}

/// Says whether a pointer leads to the value of a map whose keys the author chooses.
fn in_map(pointer: &str) -> bool {
    ["/annotations/", "/sysctl/", "/unified/", "/rdma/", "/netDevices/", "/timeOffsets/"]
        .iter()
        .any(|map| pointer.split_once(map).is_some_and(|(_, rest)| !rest.contains('/')))
}

fn parse(document: &Value) -> Result<Config, ParseError> {
    let config = Config::from_json(&document.to_string());
    let pretty = Config::from_json(&serde_json::to_string_pretty(document).unwrap());
    match (&config, &pretty) {
        (Ok(config), Ok(pretty)) => assert_eq!(config, pretty),
        (Err(compact), Err(pretty)) => {
            assert_eq!(compact.pointer(), pretty.pointer(), "layout does not matter");
        }
        _ => panic!("layout decides whether {document} is read"),
    }
    config
}

#[test]
fn a_wrong_type_is_refused_at_its_place() {
    let (document, places) = places();
    for pointer in &places {
        let wrong: &[Value] = match document.pointer(pointer).unwrap() {
            Value::String(_) => &[json!(7), json!(false), json!([]), json!({ "a": [1] })],
            Value::Number(_) => &[json!("7"), json!(7.5), json!(true), json!([1]), json!({ "a": 1 })],
            Value::Bool(_) => &[json!("true"), json!(1), json!([true]), json!({})],
            Value::Array(_) => &[json!("a"), json!(7), json!({ "0": "a" })],
            Value::Object(_) => &[json!("a"), json!(7), json!(true)],
            Value::Null => unreachable!("the document has no null"),
        };
        for value in wrong {
            let error = parse(&with(&document, pointer, value.clone()))
                .expect_err(&format!("{value} is refused at {pointer}"));
            assert_eq!(error.pointer(), pointer, "{error}");
        }
    }
}

#[test]
fn a_number_out_of_its_range_is_refused_at_its_place() {
    let (document, places) = places();
    for pointer in places.iter().filter(|pointer| document.pointer(pointer).unwrap().is_number()) {
        for number in ["99999999999999999999", "-9223372036854775809"] {
            let text = with(&document, pointer, json!("PLACE")).to_string().replace("\"PLACE\"", number);
            let error = Config::from_json(&text).expect_err(&format!("{number} is refused at {pointer}"));
            assert_eq!(error.pointer(), pointer, "{error}");
        }
    }
}

fn is_hook_environment(pointer: &str) -> bool {
    pointer.starts_with("/hooks/") && pointer.ends_with("/env")
}

#[test]
fn null_and_emptiness_mean_absence() {
    let (document, places) = places();
    for pointer in places.iter().filter(|pointer| !in_map(pointer)) {
        let Some(Ok(absent)) = without(&document, pointer).map(|document| parse(&document)) else { continue };
        let null = parse(&with(&document, pointer, Value::Null));
        assert_eq!(null.as_ref(), Ok(&absent), "null at {pointer} means absence");
        let empty = match document.pointer(pointer).unwrap() {
            Value::String(_) => json!(""),
            // An empty list of flags is a choice, no list is the runtime's; so is an empty environment of a hook.
            Value::Array(_) if pointer != "/linux/seccomp/flags" && !is_hook_environment(pointer) => {
                json!([])
            }
            Value::Bool(_) if !pointer.contains("/memory/") => json!(false),
            _ => continue,
        };
        assert_eq!(
            parse(&with(&document, pointer, empty)).as_ref(),
            Ok(&absent),
            "emptiness at {pointer} means absence"
        );
        let written = serde_json::to_value(&absent).unwrap();
        assert_eq!(written.pointer(pointer), None, "what is absent at {pointer} is not written");
    }
}

#[test]
fn an_absent_list_of_seccomp_flags_differs_from_an_empty_one() {
    let flags = |text: &str| Config::from_json(text).unwrap().linux.unwrap().seccomp.unwrap().flags;
    let document = |flags: &str| {
        format!(
            r#"{{"ociVersion":"1.3.0","linux":{{"seccomp":{{"defaultAction":"SCMP_ACT_ALLOW"{flags}}}}}}}"#
        )
    };
    assert_eq!(flags(&document("")), None);
    assert_eq!(flags(&document(r#","flags":null"#)), None);
    assert_eq!(flags(&document(r#","flags":[]"#)), Some(Vec::new()));
}

#[test]
fn what_the_specification_requires_is_required() {
    let (document, places) = places();
    let mut required: Vec<(String, String)> = Vec::new();
    for pointer in places.iter().filter(|pointer| !in_map(pointer)) {
        let Some(Err(error)) = without(&document, pointer).map(|document| parse(&document)) else { continue };
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        assert_eq!(error.pointer(), parent, "what is missing is missed in its parent: {error}");
        assert_eq!(error.reason(), format!("missing field `{field}`"));
        let parent =
            parent.split('/').filter(|token| token.parse::<u8>().is_err()).collect::<Vec<_>>().join("/");
        let parent = parent.rsplit('/').next().unwrap().to_owned();
        if !required.contains(&(parent.clone(), field.to_owned())) {
            required.push((parent, field.to_owned()));
        }
    }
    required.sort();
    let required: Vec<String> =
        required.into_iter().map(|(parent, field)| format!("{parent}.{field}")).collect();
    assert_eq!(
        required,
        [
            ".ociVersion",
            "args.index",
            "args.op",
            "args.value",
            "consoleSize.height",
            "consoleSize.width",
            "createContainer.path",
            "createRuntime.path",
            "devices.allow",
            "devices.path",
            "devices.type",
            "gidMappings.containerID",
            "gidMappings.hostID",
            "gidMappings.size",
            "hugepageLimits.limit",
            "hugepageLimits.pageSize",
            "ioPriority.class",
            "memoryPolicy.mode",
            "mounts.destination",
            "namespaces.type",
            "personality.domain",
            "poststart.path",
            "poststop.path",
            "prestart.path",
            "priorities.name",
            "priorities.priority",
            "process.cwd",
            "rlimits.hard",
            "rlimits.soft",
            "rlimits.type",
            "root.path",
            "scheduler.policy",
            "seccomp.defaultAction",
            "startContainer.path",
            "syscalls.action",
            "syscalls.names",
            "throttleReadBpsDevice.major",
            "throttleReadBpsDevice.minor",
            "throttleReadBpsDevice.rate",
            "throttleReadIOPSDevice.major",
            "throttleReadIOPSDevice.minor",
            "throttleReadIOPSDevice.rate",
            "throttleWriteBpsDevice.major",
            "throttleWriteBpsDevice.minor",
            "throttleWriteBpsDevice.rate",
            "throttleWriteIOPSDevice.major",
            "throttleWriteIOPSDevice.minor",
            "throttleWriteIOPSDevice.rate",
            "uidMappings.containerID",
            "uidMappings.hostID",
            "uidMappings.size",
            "weightDevice.major",
            "weightDevice.minor",
        ]
    );
}

#[test]
fn other_platforms_and_unknown_fields_are_ignored() {
    let config = Config::from_json(include_str!("documents/other-platforms.json")).unwrap();
    assert_eq!(
        serde_json::to_value(&config).unwrap(),
        json!({
            "ociVersion": "1.3.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "c:\\" },
            "root": { "path": "rootfs" },
            "linux": {
                "intelRdt": { "enableCMT": true, "enableMBM": true },
                "namespaces": [{ "type": "pid" }],
            },
        })
    );
}

#[test]
fn the_sentence_names_document_place_and_reason() {
    for (text, sentence) in [
        (
            "{\n  \"ociVersion\": \"1.3.0\",\n  \"process\": {\n    \"user\": { \"uid\": \"x\" }\n  }\n}",
            "config.json: /process/user/uid: invalid type: string \"x\", expected u32 (line 4 column 24)",
        ),
        (
            r#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"pid"},{"type":"mnt"}]}}"#,
            "config.json: /linux/namespaces/1/type: unknown namespace type \"mnt\", expected one of mount, pid, \
             network, uts, ipc, user, cgroup, time (line 1 column 73)",
        ),
        (
            r#"{"ociVersion":"1.3.0","linux":{"rootfsPropagation":"sheard"}}"#,
            "config.json: /linux/rootfsPropagation: unknown mount propagation \"sheard\", expected one of private, \
             shared, slave, unbindable, rprivate, rshared, rslave, runbindable (line 1 column 59)",
        ),
        (
            r#"{"ociVersion":"1.3.0","linux":{"timeOffsets":{"realtime":{"secs":1}}}}"#,
            "config.json: /linux/timeOffsets/realtime: unknown clock \"realtime\", expected one of boottime, \
             monotonic (line 1 column 56)",
        ),
        (
            r#"{"ociVersion":"1.3.0","linux":{"resources":{"cpu":{"shares":-1}}}}"#,
            "config.json: /linux/resources/cpu/shares: invalid value: integer `-1`, expected u64 (line 1 column 62)",
        ),
        (
            r#"{"ociVersion":"1.3.0","ociVersion":"1.3.0"}"#,
            "config.json: /ociVersion: duplicate field `ociVersion` (line 1 column 34)",
        ),
        ("{}", "config.json: missing field `ociVersion` (line 1 column 2)"),
        ("[]", "config.json: invalid length 0, expected struct Config with 9 elements (line 1 column 2)"),
        ("", "config.json: EOF while parsing a value (line 1 column 0)"),
        (
            r#"{"ociVersion":"1.3.0","root":{"path":"/a"#,
            "config.json: /root/path: EOF while parsing a string (line 1 column 40)",
        ),
        (
            "{\"ociVersion\":\"1.3.0\",\n\"hostname\": nul }",
            "config.json: /hostname: expected ident (line 2 column 16)",
        ),
        (
            "{\"ociVersion\":\"1.3.0\",\n\"mounts\": [{}, {\"destination\":\"/\",}]}",
            "config.json: /mounts/0: missing field `destination` (line 2 column 13)",
        ),
        (
            "{\"ociVersion\":\"1.3.0\",\n\"mounts\": [{\"destination\":\"/\",}]}",
            "config.json: /mounts/0: trailing comma (line 2 column 31)",
        ),
        ("{\"ociVersion\":\"1.3.0\"} x", "config.json: trailing characters (line 1 column 24)"),
    ] {
        assert_eq!(Config::from_json(text).unwrap_err().to_string(), sentence, "for {text}");
    }
    assert_eq!(
        Process::from_json(r#"{"user":{"uid":-1}}"#).unwrap_err().to_string(),
        "process: /user/uid: invalid value: integer `-1`, expected u32 (line 1 column 17)"
    );
    assert_eq!(
        Resources::from_json(r#"{"pids":{"limit":"max"}}"#).unwrap_err().to_string(),
        "resources: /pids/limit: invalid type: string \"max\", expected i64 (line 1 column 22)"
    );
}

#[test]
fn a_document_that_ends_early_is_refused_at_a_place_of_it() {
    let (_, places) = places();
    let end = CONFIG.trim_end().len();
    for cut in (0..end).filter(|&cut| CONFIG.is_char_boundary(cut)) {
        let error = Config::from_json(&CONFIG[..cut]).unwrap_err();
        let pointer = error.pointer();
        // A key that is cut off, or one that is awaited, is not a place yet; what holds it is.
        let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
        let known = |pointer: &str| pointer.is_empty() || places.iter().any(|place| place == pointer);
        assert!(known(pointer) || known(parent), "byte {cut}: {error}");
    }
}

#[test]
fn nesting_without_end_is_refused_without_a_crash() {
    let deep = "[".repeat(100_000);
    for text in
        [deep.clone(), format!("{{\"ociVersion\":\"1.3.0\",\"x\":{deep}"), format!("{{\"hooks\":{deep}")]
    {
        assert!(Config::from_json(&text).is_err());
    }
}
