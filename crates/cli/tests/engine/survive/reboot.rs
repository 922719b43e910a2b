//! A machine that goes down under its containers, and comes up again.

use std::fs;
use std::thread;
use std::time::Duration;

use bulkhead_testkit::{find_program, is_disposable, is_root, requires, skip, wait_until};

use super::WELL;
use super::boot::Boot;
use crate::shop::{Shop, shop, systemd_makes_cgroups};

#[test]
fn after_a_boot_containers_run_as_their_policies_have_it() {
    requires!(is_root(), "needs root");
    let shop = Shop::new();
    let boot = Boot::new(&shop, 1);
    for (name, policy) in [
        ("always", "always"),
        ("ended", "always"),
        ("stopped", "unless-stopped"),
        ("unless", "unless-stopped"),
        ("failing", "on-failure"),
        ("no", "no"),
    ] {
        let script = "date +%s >> /starts; echo up; exec sleep 1000";
        boot.run(&["-d", "--name", name, "--restart", policy, "-v", "kept:/data"], script).succeeds();
    }
    boot.run(&["-d", "--rm", "--name", "passing", "-v", "/own"], "sleep 1000").succeeds();
    // In the network of another, which therefore has to be there first.
    boot.run(
        &["-d", "--name", "guest", "--restart", "always", "--network", "container:always"],
        "sleep 1000",
    )
    .succeeds();
    boot.said(&["stop", "ended", "stopped"]);
    boot.run(&["--name", "job", "--restart", "on-failure"], "echo done > /data; true").succeeds();
    let listed = boot.states();
    assert_eq!(
        listed,
        "always running, ended exited, failing running, guest running, job exited, no running, passing running, \
         stopped exited, unless running"
    );
    drop(boot);

    let boot = Boot::new(&shop, 2);
    let status = boot.said(&["ps", "-a", "--filter", "name=unless", "--format", "{{.Status}}"]);
    assert_eq!(status, "Exited (255) (the machine went down)\n");
    for words in [&["start", "passing"][..], &["export", "passing"]] {
        boot.bulkhead(words).output().exits_with(1).complains("nothing is sure to be on the disk");
    }
    let done = boot.said(&["system", "restart-all"]);
    assert!(done.contains("container passing: it was to be removed at its end"), "{done}");
    assert_eq!(
        boot.states(),
        "always running, ended running, failing running, guest running, job exited, no exited, stopped exited, \
         unless running"
    );
    assert_eq!(boot.said(&["logs", "unless"]), "up\nup\n", "what was said before is on the disk");
    assert_eq!(boot.said(&["exec", "unless", "wc", "-l", "/starts"]), "2 /starts\n", "and what was written");
    assert_eq!(boot.said(&["volume", "ls", "-q"]), "kept\n");
    assert_eq!(boot.said(&["system", "check"]), WELL);
    assert_eq!(boot.said(&["system", "restart-all"]), "", "once is enough");
    drop(boot);

    // Stopped before the unit had its turn.
    let boot = Boot::new(&shop, 3);
    boot.said(&["stop", "unless"]);
    boot.said(&["system", "restart-all"]);
    assert!(boot.states().contains("unless exited"), "{}", boot.states());
    for name in ["always", "ended", "failing", "guest", "job", "no", "stopped", "unless"] {
        boot.said(&["rm", "-f", name]);
    }
    assert_eq!(boot.said(&["system", "check"]), WELL);
}

/// Fails when what went with the machine is looked for among the processes of the next one, at each look.
#[test]
fn nobody_looks_for_the_processes_of_an_earlier_boot() {
    requires!(is_root(), "needs root");
    let shop = Shop::new();
    let boot = Boot::new(&shop, 1);
    let id = boot.run(&["-d", "--rm", "--name", "passing"], "sleep 1000").succeeds().stdout.trim().to_owned();
    drop(boot);
    let boot = Boot::new(&shop, 2);
    // It would be found.
    let program = shop.path("bulkmon");
    shop.sandbox.command("cp").arg("/bin/sh").arg(&program).output().succeeds();
    let words = ["-c", "echo up; sleep 1000; :"];
    let directory = shop.run_directory.join("containers").join(&id);
    let pretender = boot.enter().arg(&program).args(words).arg(directory).spawn();
    wait_until("it is there", || pretender.stdout() == "up\n");
    assert_eq!(boot.states(), "passing exited");
    assert_eq!(boot.said(&["rm", "passing"]), "passing\n");
    assert!(!pretender.has_ended(), "nobody ends it");
}

#[test]
fn a_machine_that_goes_down_in_the_middle_comes_up_whole() {
    requires!(is_root(), "needs root");
    let shop = Shop::new();
    let archive = shop.path("other.tar");
    shop.archive(&archive, "other:1", &serde_json::json!({ "Labels": { "other": "image" } }));
    let archive = archive.to_str().unwrap().to_owned();
    let parent = shop.parent();
    let run =
        ["run", "-d", "--name", "victim", "--cgroup-parent", &parent, crate::shop::IMAGE, "sleep", "1000"];
    let actions: [&[&str]; 4] =
        [&run, &["load", "--quiet", "-i", &archive], &["stop", "-t", "0", "other"], &["rm", "-f", "other"]];
    for (number, (action, pause)) in
        actions.iter().flat_map(|action| [15, 60].map(|pause| (action, pause))).enumerate()
    {
        let boot = Boot::new(&shop, 10 + 2 * number);
        boot.run(&["-d", "--name", "other", "--restart", "unless-stopped"], "sleep 1000").succeeds();
        let running = boot.bulkhead(action).spawn();
        thread::sleep(Duration::from_millis(pause));
        drop(boot);
        let acknowledged = running.wait().code() == 0;
        let after = format!("{} and {pause} ms", action[0]);

        let boot = Boot::new(&shop, 11 + 2 * number);
        let mended = boot.bulkhead(&["system", "restart-all"]).output();
        assert!(mended.code() == 0, "after {after}\n{mended}");
        boot.bulkhead(&["system", "check"]).output().succeeds();
        assert_eq!(boot.said(&["system", "check"]), WELL, "after {after}");
        let states = boot.states();
        if acknowledged {
            let is_so = match action[0] {
                "run" => states.contains("victim exited"),
                "stop" => states.contains("other exited"),
                "rm" => !states.contains("other"),
                _ => boot.said(&["images", "-q", "other"]).trim().len() == 12,
            };
            assert!(is_so, "after {after}, which was acknowledged: {states}");
        }
        for name in ["victim", "other"] {
            boot.bulkhead(&["rm", "-f", name]).output();
        }
        boot.bulkhead(&["rmi", "other:1"]).output();
        assert_eq!(boot.said(&["system", "check"]), WELL, "after {after} and the removal");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let shop = shop!();
    let unit = shop.said(&["system", "restart-unit"]);
    let command = format!(
        "ExecStart={} --root {} --run {} system restart-all\n",
        env!("CARGO_BIN_EXE_bulkhead"),
        shop.path("engine").display(),
        shop.path("engine-run").display()
    );
    assert!(unit.contains(&command), "{unit}");
    let Some(analyze) = find_program("systemd-analyze") else { skip!("needs systemd-analyze") };
    let path = shop.path("bulkhead-restart.service");
    fs::write(&path, &unit).unwrap();
    let verified = shop.sandbox.command(analyze).args(["verify", "--man=no"]).arg(&path).output();
    assert!(verified.code() == 0, "{verified}\n{unit}");
    assert!(!verified.stderr.contains("bulkhead"), "nothing is said of it\n{verified}");
}

#[test]
fn what_the_unit_starts_is_in_a_scope_and_outlives_the_unit() {
    let shop = shop!();
    requires!(is_disposable() && systemd_makes_cgroups(), "needs a machine with systemd that is thrown away");
    let run = shop.with("run", &["-d", "--name", "web", "--restart", "always"], &["sleep", "1000"]);
    run.output().succeeds();
    let name = format!("{}.service", shop.sandbox.name());
    let path = std::path::Path::new("/run/systemd/system").join(&name);
    fs::write(&path, shop.said(&["system", "restart-unit"])).unwrap();
    let systemctl = |words: &[&str]| shop.sandbox.command("systemctl").args(words).output();
    systemctl(&["daemon-reload"]).succeeds();
    // As a boot has it: nobody is there any more.
    let pid = |key: &str| shop.inspect("web")["State"][key].as_u64().unwrap().to_string();
    let (first, id) = (pid("Pid"), shop.inspect("web")["Id"].as_str().unwrap().to_owned());
    let status = fs::read_to_string(shop.path("engine/containers").join(&id).join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let monitor = status["monitor"]["pid"].as_u64().unwrap().to_string();
    shop.sandbox.command("kill").args(["-9", &monitor, &first]).output().succeeds();
    let is_there =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    wait_until("both have ended", || !is_there(&monitor) && !is_there(&first));

    systemctl(&["start", &name]).succeeds();
    let second = pid("Pid");
    assert!(second != first && is_there(&second), "{second}");
    let cgroup = fs::read_to_string(format!("/proc/{second}/cgroup")).unwrap();
    assert_eq!(cgroup, format!("0::/system.slice/bulkhead-{id}.scope\n"));
    systemctl(&["stop", &name]).succeeds();
    assert_eq!(pid("Pid"), second, "it goes on without the unit");
    assert_eq!(shop.said(&["exec", "web", "echo", "here"]), "here\n");
    fs::remove_file(path).unwrap();
    systemctl(&["daemon-reload"]).succeeds();
}
