//! Who a process is and what it may do: CVE-2022-24769, CVE-2022-27650, CVE-2022-29162, CVE-2025-27612, CVE-2026-30892.

use bulkhead_testkit::{is_root, requires};
use serde_json::json;

use crate::{exec, sandbox};

/// What decides a process's rights.
const RIGHTS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; umask";

fn capability_line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t"))).unwrap_or("not there")
}

/// Needs one function for both (`credentials::assume`). Must fail when `exec` skips `set_sets`: it keeps all
/// capabilities.
#[test]
fn a_process_that_joins_has_the_rights_of_the_first() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (name, uid, no_new_privileges) in
        [("root", 0, false), ("root-nnp", 0, true), ("user", 1000, false), ("user-nnp", 1000, true)]
    {
        let bundle = sandbox
            .bundle(name)
            .user(uid, uid)
            .edit(|config| config["process"]["noNewPrivileges"] = no_new_privileges.into())
            .edit(|config| config["process"]["user"]["additionalGids"] = json!([2000, 2001]))
            .script(RIGHTS);
        let first = sandbox.run(&bundle).output().succeeds().stdout;
        let bundle = bundle.args(["sleep", "1000"]);
        sandbox.launch(&bundle);
        let exec = sandbox.exec(&bundle, ["/bin/sh", "-c", RIGHTS]);
        exec.output().succeeds().prints(&first);
    }
}

/// Needs the inheritable and ambient sets to be emptied. Must fail with the permitted set in their place: any
/// program with inheritable file capabilities of the image has them.
#[test]
fn inheritable_and_ambient_sets_are_empty_unless_asked_for() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (name, uid) in [("root", 0), ("user", 1000)] {
        let bundle = sandbox.bundle(name).user(uid, uid).script(RIGHTS);
        let first = sandbox.run(&bundle).output().succeeds().stdout;
        let bundle = bundle.args(["sleep", "1000"]);
        sandbox.launch(&bundle);
        let second = sandbox.exec(&bundle, ["/bin/sh", "-c", RIGHTS]).output().succeeds().stdout;
        // `--cap` gives what is asked for, and still nothing that is inherited.
        let more = exec(&sandbox, &["--cap", "CAP_NET_ADMIN"], &bundle, &["/bin/sh", "-c", RIGHTS]);
        for status in [first, second, more.output().succeeds().stdout] {
            assert_eq!(capability_line(&status, "CapInh"), "0000000000000000", "{name}: {status}");
            assert_eq!(capability_line(&status, "CapAmb"), "0000000000000000", "{name}: {status}");
        }
    }
}

/// Needs the identity to be changed before the permitted set is (and the kernel's rule for that). Must fail when
/// the effective set is raised again after it.
#[test]
fn an_ordinary_user_has_no_effective_capabilities_of_an_ordinary_program() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("user").user(1000, 1000).script(RIGHTS);
    let status = sandbox.run(&bundle).output().succeeds().stdout;
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(capability_line(&status, set), "0000000000000000", "{status}");
    }
}

/// Needs `plan::process::id` to look. Seen to fail without: setresuid(2) reads the largest number as "as it is", and
/// who was to be an ordinary user is root.
#[test]
fn the_id_that_means_no_change_makes_nobody_root() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let unchanged = u32::MAX;
    let bundle = sandbox.bundle("first").user(unchanged, unchanged).script("id");
    sandbox.run(&bundle).output().exits_with(1).complains("/process/user/uid");
    let bundle = sandbox.bundle("joining").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let joining = exec(&sandbox, &["--user", "4294967295"], &bundle, &["id"]);
    joining.output().exits_with(255).complains("4294967295");
}

/// Needs the bounding set to be shrunk. Must fail without `drop_bounding`: a set-user-ID program has them all.
#[test]
fn nothing_beyond_the_bounding_set_is_ever_held() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("bounding").script(RIGHTS).edit(|config| {
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN"],
            "permitted": ["CAP_CHOWN", "CAP_SYS_ADMIN"],
            "effective": ["CAP_CHOWN", "CAP_SYS_ADMIN"],
            "inheritable": ["CAP_SYS_ADMIN"],
            "ambient": ["CAP_SYS_ADMIN"],
        });
    });
    let status = sandbox.run(&bundle).output().succeeds().stdout;
    for (set, expected) in [
        ("CapBnd", "0000000000000001"),
        ("CapPrm", "0000000000000001"),
        ("CapEff", "0000000000000001"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        assert_eq!(capability_line(&status, set), expected, "{set} of {status}");
    }
}

/// Needs strict decimal ids. An empty text is no user at all, as under runc: the container's own. Must fail with `strtol`-like parsing (`trim` and a leading number): the process runs,
/// as somebody else than was meant.
#[test]
fn a_user_of_exec_that_is_no_number_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("user").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let hostile = [
        "1000x",
        "-1",
        "4294967296",
        "4294967295",
        " 0",
        "0 ",
        "0:",
        ":0",
        ":",
        "+1000",
        "0x3e8",
        "1_000",
        "root",
        "user",
        "1000:user",
        "1000:-1",
        "1000:4294967296",
        "1000:0:0",
        "1e3",
        "1000.0",
        "١٠٠٠",
        "0:4294967295",
    ];
    for user in hostile {
        for spelling in [vec!["--user", user], vec![&format!("--user={user}")], vec!["-u", user]] {
            let output = exec(&sandbox, &spelling, &bundle, &["/bin/sh", "-c", "id -u"]).output();
            assert!(output.code() != 0 && output.stdout.is_empty(), "{user:?} is refused\n{output}");
        }
    }
    let valid = exec(&sandbox, &["--user", "1000:5"], &bundle, &["/bin/sh", "-c", "id -u; id -g"]);
    valid.output().succeeds().prints("1000\n5\n");
}

/// Ids in documents must be as strict: in the bundle, and in the file of `exec --process`. Must fail when numbers
/// are read as i64 and cut to 32 bits: 4294967296 is root.
#[test]
fn a_user_of_a_document_that_is_no_id_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let running = sandbox.bundle("running").args(["sleep", "1000"]);
    sandbox.launch(&running);
    let values =
        [json!(-1), json!(4_294_967_296_u64), json!(1000.5), json!("0"), json!("root"), json!(u32::MAX)];
    for (number, value) in values.iter().enumerate() {
        for field in ["uid", "gid"] {
            let bundle = sandbox
                .bundle(&format!("{field}{number}"))
                .script("id")
                .edit(|config| config["process"]["user"][field] = value.clone());
            let output = sandbox.run(&bundle).output();
            assert!(output.code() != 0 && output.stdout.is_empty(), "{field} {value} is refused\n{output}");
            let process = sandbox.directory().join("process.json");
            std::fs::write(&process, bundle.config()["process"].to_string()).unwrap();
            let output = sandbox.runtime().arg("exec").arg("-p").arg(&process).arg(running.id()).output();
            assert!(output.code() != 0 && output.stdout.is_empty(), "{field} {value} is refused\n{output}");
        }
    }
}
