//! Profiles of AppArmor. They are loaded into the kernel, so these tests run only where the whole machine ends with them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_testkit::{Bundle, Sandbox, find_criu, find_program, is_disposable, is_root, requires};
use serde_json::json;

use super::{NO_CRIU, READER, answer, end, images, restored, sandbox, script};

const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
const NEEDED: &str =
    "needs root, AppArmor and its parser, on a machine of its own (`cargo xtask vm test --lsm apparmor`)";
const PREFIX: &str = "bulkhead-test";

/// What a container does to show who confines it. The second line tells whether it may read `/secret`.
const SHOW: &str = "cat /proc/self/attr/current; cat /secret 2>/dev/null || echo denied";

fn has_apparmor() -> bool {
    let is_on =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'));
    is_root()
        && is_disposable()
        && is_on
        && Path::new(LOADED).exists()
        && find_program("apparmor_parser").is_some()
}

/// A profile that allows everything but `/secret`.
struct Profile(String);

impl Profile {
    fn load(short: &str) -> Self {
        let profile = Self(format!("{PREFIX}-{}-{short}", std::process::id()));
        parse(&["--replace"], &profile.0);
        profile
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        parse(&["--remove"], &self.0);
    }
}

fn parse(arguments: &[&str], name: &str) {
    let text = format!(
        "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n\
         capability, network, mount, remount, umount, pivot_root, ptrace, signal, unix, file,\n\
         deny /secret rw,\n}}\n"
    );
    let mut parser = Command::new(find_program("apparmor_parser").unwrap());
    parser.args(["--skip-cache", "--quiet"]).args(arguments).stdin(Stdio::piped());
    let mut parser = parser.spawn().unwrap();
    std::io::Write::write_all(&mut parser.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(parser.wait().unwrap().success(), "apparmor_parser {arguments:?} takes {name}");
}

fn confined(bundle: Bundle, profile: &str) -> Bundle {
    bundle.file("secret", "told\n").edit(|config| config["process"]["apparmorProfile"] = profile.into())
}

fn launched(sandbox: &Sandbox, profile: &str, edit: impl FnOnce(Bundle) -> Bundle) -> Bundle {
    let bundle = edit(confined(sandbox.bundle("c").args(["sleep", "1000"]), profile));
    sandbox.launch(&bundle);
    bundle
}

#[test]
fn a_profile_confines_a_container_and_what_joins_it() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let profile = Profile::load("one");
    let expected = format!("{} (enforce)\ndenied\n", profile.0);
    let bundle = confined(sandbox.bundle("run").script(SHOW), &profile.0);
    sandbox.run(&bundle).output().succeeds().prints(&expected);
    let bundle = launched(&sandbox, &profile.0, |bundle| bundle);
    sandbox.exec(&bundle, ["sh", "-c", SHOW]).output().succeeds().prints(&expected);
}

#[test]
fn a_process_that_joins_may_have_another_profile() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let (own, other) = (Profile::load("own"), Profile::load("other"));
    let bundle = launched(&sandbox, &own.0, |bundle| bundle);
    let typed = script(&sandbox, &bundle, &["--apparmor", &other.0], SHOW);
    typed.output().succeeds().prints(&format!("{} (enforce)\ndenied\n", other.0));
    let unconfined = script(&sandbox, &bundle, &["--apparmor", "unconfined"], SHOW);
    unconfined.output().succeeds().prints("unconfined\ntold\n");
    let typed = script(&sandbox, &bundle, &["--apparmor", ""], SHOW);
    typed.output().succeeds().prints(&format!("{} (enforce)\ndenied\n", own.0));
}

#[test]
fn a_document_that_names_no_profile_leaves_the_containers() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let profile = Profile::load("kept");
    let bundle = launched(&sandbox, &profile.0, |bundle| bundle);
    let document = sandbox.directory().join("process.json");
    for named in [json!(null), json!("")] {
        let mut process = json!({
            "args": ["sh", "-c", SHOW], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 },
        });
        if !named.is_null() {
            process["apparmorProfile"] = named;
        }
        fs::write(&document, process.to_string()).unwrap();
        let run = sandbox.runtime().arg("exec").arg("--process").arg(&document).arg(bundle.id());
        run.output().succeeds().prints(&format!("{} (enforce)\ndenied\n", profile.0));
    }
}

#[test]
fn a_container_may_be_unconfined() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    for (short, profile) in [("named", "unconfined"), ("empty", "")] {
        let bundle = confined(sandbox.bundle(short).script(SHOW), profile);
        sandbox.run(&bundle).output().succeeds().prints("unconfined\ntold\n");
    }
}

#[test]
fn a_profile_that_is_not_loaded_is_named() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let bundle = confined(sandbox.bundle("run").script(SHOW), "no-such-profile");
    let run = sandbox.run(&bundle).output().exits_with(1).prints("");
    run.complains("AppArmor").complains("no-such-profile");
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
    let bundle = launched(&sandbox, "unconfined", |bundle| bundle);
    let exec = script(&sandbox, &bundle, &["--apparmor", "no-such-profile"], SHOW);
    exec.output().exits_with(255).prints("").complains("AppArmor").complains("no-such-profile");
}

#[test]
fn a_profile_goes_with_no_new_privileges_and_a_filter() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let profile = Profile::load("nnp");
    let expected = format!("{} (enforce)\ndenied\nNoNewPrivs:\t1\n", profile.0);
    let show = format!("{SHOW}; grep NoNewPrivs /proc/self/status");
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }] });
    let edit = |bundle: Bundle| {
        bundle.seccomp(filter.clone()).edit(|config| config["process"]["noNewPrivileges"] = true.into())
    };
    let bundle = edit(confined(sandbox.bundle("run").script(&show), &profile.0));
    sandbox.run(&bundle).output().succeeds().prints(&expected);
    let bundle = launched(&sandbox, &profile.0, edit);
    sandbox.exec(&bundle, ["sh", "-c", &show]).output().succeeds().prints(&expected);
}

#[test]
fn a_user_without_rights_is_confined() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let profile = Profile::load("user");
    let expected = format!("{} (enforce)\ndenied\n", profile.0);
    let bundle = launched(&sandbox, &profile.0, |bundle| {
        bundle.user(1000, 1000).edit(|config| config["process"]["capabilities"] = json!({}))
    });
    sandbox.exec(&bundle, ["sh", "-c", SHOW]).output().succeeds().prints(&expected);
}

#[test]
fn a_user_namespace_is_confined() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let profile = Profile::load("userns");
    let expected = format!("{} (enforce)\ndenied\n", profile.0);
    let maps = [(0, 100_000, 65_536)];
    let bundle = launched(&sandbox, &profile.0, |bundle| {
        bundle.user_namespace(&maps, &maps).owned_by(100_000, 100_000)
    });
    sandbox.exec(&bundle, ["sh", "-c", SHOW]).output().succeeds().prints(&expected);
}

#[test]
fn an_ordinary_users_container_is_confined() {
    const USER: u32 = 54_321;
    requires!(has_apparmor(), "{NEEDED}");
    let profile = Profile::load("rootless");
    let sandbox = sandbox().as_user(USER, USER);
    let bundle = confined(sandbox.bundle("c").script(SHOW), &profile.0);
    sandbox.run(&bundle).output().succeeds().prints(&format!("{} (enforce)\ndenied\n", profile.0));
}

#[test]
fn a_container_comes_back_under_its_profile_or_another() {
    requires!(has_apparmor(), "{NEEDED}");
    requires!(find_criu().is_some(), "{NO_CRIU}");
    let sandbox = sandbox();
    let (own, other) = (Profile::load("own"), Profile::load("other"));
    let bundle = launched(&sandbox, &own.0, |bundle| bundle.annotation("org.criu.config", "").script(READER));
    assert_eq!(answer(&sandbox, &bundle), "denied\n");
    images(&sandbox, "checkpoint").arg(bundle.id()).output().succeeds();
    let flag = format!("apparmor:{}", other.0);
    for (flags, profile) in [(&[][..], &own.0), (&["--lsm-profile", &flag][..], &other.0)] {
        assert_eq!(restored(&sandbox, &bundle, flags), format!("{profile} (enforce)"));
        assert_eq!(answer(&sandbox, &bundle), "denied\n", "{profile} is in force");
        end(&sandbox, &bundle);
    }
    let flags = ["--detach", "--lsm-profile", "apparmor:no-such-profile", "--bundle"];
    let run = images(&sandbox, "restore").args(flags).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("AppArmor has no profile").complains("no-such-profile");
    let name = own.0.clone();
    drop(own);
    let run =
        images(&sandbox, "restore").args(["--detach", "--bundle"]).arg(bundle.directory()).arg(bundle.id());
    run.output().exits_with(1).complains("/process/apparmorProfile").complains(&name);
    assert!(!sandbox.state_directory().join(bundle.id()).exists(), "no state is left");
}

/// Needs the procfs of our own: must fail when the label is written below the container's `/proc`, where it would reach
/// a file of the volume and not the kernel.
#[test]
fn a_volume_at_proc_takes_no_label_away() {
    requires!(has_apparmor(), "{NEEDED}");
    let sandbox = sandbox();
    let profile = Profile::load("volume");
    let fake = sandbox.directory().join("fake");
    for file in ["self/attr/exec", "self/attr/apparmor/exec", "1/attr/exec", "1/attr/apparmor/exec"] {
        fs::create_dir_all(fake.join(file).parent().unwrap()).unwrap();
        fs::write(fake.join(file), "").unwrap();
    }
    let bundle = confined(sandbox.bundle("c"), &profile.0)
        .script("cat /secret 2>/dev/null || echo denied")
        .bind(&fake, "/proc", &[])
        .edit(|config| config["linux"]["readonlyPaths"] = json!([]))
        .edit(|config| config["linux"]["maskedPaths"] = json!([]));
    sandbox.run(&bundle).output().succeeds().prints("denied\n");
    for file in ["self/attr/exec", "self/attr/apparmor/exec", "1/attr/exec", "1/attr/apparmor/exec"] {
        assert_eq!(fs::read_to_string(fake.join(file)).unwrap(), "", "{file} is not written");
    }
}
