//! Callers who may not make cgroups.

use std::os::unix::process::CommandExt;
use std::process::Command;

use bulkhead_cgroup::{Cgroup, CgroupPath, Devices, Doors, Error, Host, Need, Places, Plan, Result};
use bulkhead_spec::Resources;
use bulkhead_testkit::{is_root, requires, skip};

/// Says to the test that runs again as nobody that it does.
const ROLE: &str = "BH_TEST_AS_NOBODY";

#[test]
fn nobody_gets_a_container_without_cgroup_unless_a_limit_is_asked_for() {
    if std::env::var_os(ROLE).is_some() {
        return as_nobody();
    }
    requires!(is_root(), "becoming another user needs root");
    let program = std::env::current_exe().unwrap();
    let name = "rights::nobody_gets_a_container_without_cgroup_unless_a_limit_is_asked_for";
    let mut command = Command::new(program);
    command.args(["--exact", name]).env(ROLE, "1").uid(65534).gid(65534);
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            skip!("nobody may not read the test program");
        }
        output => {
            let output = output.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "as nobody: {text}");
        }
    }
}

fn as_nobody() {
    let create = |json: &str, need| -> Result<Cgroup> {
        let host = Host::detect()?;
        let path = CgroupPath::from_config(Some("/bh-cgroup-nobody/box"), "id")?;
        let places = Places::find(&host, &path)?;
        let plan = Plan::for_container(Some(&Resources::from_json(json).unwrap()), &host, Devices::Enforced)?;
        Cgroup::create(&places, &places.record()?, &plan, need)
    };
    let error = create("{}", Need::Required).unwrap_err();
    assert!(error.is_denied(), "{error}");

    let cgroup = create("{}", Need::IfPermitted).unwrap();
    assert!(cgroup.paths().is_empty() && cgroup.record().made.is_empty(), "there is no cgroup");
    let joiner = cgroup.joiner(Doors::OpenedByParent).unwrap();
    assert!(joiner.into_cgroup_fd().is_none());
    joiner.join_self().unwrap();
    assert!(cgroup.procs().unwrap().is_empty() && !cgroup.exists());
    assert!(matches!(cgroup.freeze().unwrap_err(), Error::NoCgroup { .. }));
    cgroup.kill_all(9).unwrap();
    cgroup.remove().unwrap();

    let error = create(r#"{"pids": {"limit": 5}}"#, Need::IfPermitted).unwrap_err();
    let told = "cannot set pids.max: the container has no pids cgroup, for lack of rights to make one";
    assert!(error.to_string().starts_with(told), "{error}");
}
