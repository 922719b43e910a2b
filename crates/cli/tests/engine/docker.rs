//! The same commands by docker and by us: what comes of them is compared.

use std::fs;
use std::time::Duration;

use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Docker, Init, cached, requires, skip, slowness};
use serde_json::Value;

use crate::shop::{Shop, shop};

/// Copies into a container, by source and target.
const INTO: &[(&str, &str)] = &[
    ("file", "/new"),
    ("file", "/etc"),
    ("file", "/etc/"),
    ("file", "/etc/."),
    ("file", "/none/"),
    ("file", "/none/."),
    ("file", "/no/such"),
    ("file", "/etc/group"),
    ("file", "/to-etc"),
    ("file", "/to-etc/"),
    ("file", "/to-etc/x"),
    ("file", "/to-file"),
    ("file", "/dangling"),
    ("file", "relative"),
    ("file", "/../../up"),
    ("link", "/l"),
    ("-L link", "/l"),
    ("-L link", "/etc"),
    ("-a file", "/new"),
    ("-a dir", "/etc"),
    ("-a dir/.", "/new"),
    ("link/.", "/l"),
    ("to-dir", "/l"),
    ("to-dir/.", "/l"),
    ("-L to-dir", "/etc"),
    ("dir", "/new"),
    ("dir/", "/new"),
    ("dir/.", "/new"),
    ("dir", "/new/"),
    ("dir", "/no/such"),
    ("dir", "/etc"),
    ("dir/", "/etc"),
    ("dir/.", "/etc"),
    ("dir/sub/..", "/etc"),
    ("dir", "/etc/group"),
    ("dir/.", "/to-etc"),
    ("dir", "/to-file"),
    ("dir", "/dangling"),
    ("clash", "/etc"),
    ("clash/.", "/etc"),
    ("missing", "/new"),
];

/// Copies out of a container.
const OUT: &[(&str, &str)] = &[
    ("/etc/group", "new"),
    ("/etc/group", "dir"),
    ("/etc/group", "dir/"),
    ("/etc/group", "none/"),
    ("/etc/group", "no/such"),
    ("/etc/group", "file"),
    ("/etc/group", "link"),
    ("/etc/group", "to-dir"),
    ("/etc/group", "."),
    ("-a /etc/group", "new"),
    ("-a /deep", "new"),
    ("-a /deep/.", "dir"),
    ("/etc/group/", "new"),
    ("etc/../etc/group", "new"),
    ("/to-etc", "new"),
    ("-L /to-etc", "new"),
    ("-L /to-etc", "dir"),
    ("/to-etc/", "new"),
    ("/to-etc/.", "new"),
    ("/to-etc/group", "new"),
    ("/to-file", "new"),
    ("-L /to-file", "new"),
    ("-L /to-file", "dir"),
    ("/dangling", "new"),
    ("-L /dangling", "new"),
    ("/deep", "new"),
    ("/deep", "dir"),
    ("/deep/", "dir"),
    ("/deep/.", "dir"),
    ("/deep/.", "new"),
    ("/deep/sub/..", "dir"),
    ("/deep", "file"),
    ("/deep", "none/"),
    ("/deep", "no/such"),
    ("/missing", "new"),
];

/// Prints what comes of each; `$E` is the engine, `$W` a directory that nothing is in yet. Docker's containers have files in
/// their `/etc` before they run, which are left out.
const SCRIPT: &str = r#"
set -u; umask 022
lay() {
    rm -rf "$W/here"; mkdir -p "$W/here/dir/sub" "$W/here/clash/group"; cd "$W/here"
    printf one > file; printf x > dir/sub/x; ln -s file link; ln -s dir to-dir
    chmod 4750 file; chmod 1770 dir/sub; chown 1234:2345 file dir/sub/x; chown -h 7:8 link
}
# Kind, mode, name, target, contents and owner of all that is in the working directory.
list() {
    find . -printf '%y %m %p %l\n' | sort -k 3
    find . -printf 'owner %U:%G %p\n' | sort -k 3
    find . -type f -exec cksum {} + | sort -k 3
}
while read -r way options source target; do
    [ "$options" = none ] && options=
    lay
    $E create --name web img true > /dev/null
    if [ "$way" = in ]; then
        code=0; $E cp $options "$source" "web:$target" > /dev/null 2>&1 < /dev/null || code=$?
        echo "in $options $source $target: $code"
        rm -rf "$W/root"; mkdir "$W/root"; cd "$W/root"
        $E export web < /dev/null | tar -x -p --numeric-owner --exclude=./dev --exclude=dev
        rm -rf .dockerenv dev proc sys etc/hosts etc/hostname etc/resolv.conf etc/mtab
        list
    else
        code=0; $E cp $options "web:$source" "$target" > /dev/null 2>&1 < /dev/null || code=$?
        echo "out $options $source $target: $code"
        list | grep -Ev '/(hosts|hostname|resolv.conf) *$|/mtab '
    fi
    cd /; $E rm web > /dev/null < /dev/null
done
"#;

#[test]
fn copies_are_docker_s() {
    let shop = shop!();
    let Some(tree) = cached("engines/newest") else {
        skip!("no engines in the cache: `cargo xtask engines` brings them");
    };
    let root = "mkdir -p root/etc root/deep/sub; echo g > root/etc/group; echo x > root/deep/sub/x; chmod 2711 root/deep/sub; \
                chown 4321:5432 root/deep/sub/x root/etc/group; chmod 640 root/etc/group; ln -s etc root/to-etc; \
                ln -s etc/group root/to-file; ln -s nowhere root/dangling; tar -C root -cf root.tar .";
    shop.sandbox.command("sh").args(["-c", root]).current_dir(shop.sandbox.directory()).output().succeeds();
    let mut cases = String::new();
    for (way, list) in [("in", INTO), ("out", OUT)] {
        for (source, target) in list {
            let (options, source) = source.split_once(' ').unwrap_or(("none", source));
            cases.push_str(&format!("{way} {options} {source} {target}\n"));
        }
    }
    let archive = shop.path("root.tar");
    shop.said(&["import", archive.to_str().unwrap(), "img"]);
    let ours = shop.sandbox.command("sh").args(["-c", SCRIPT]).input(&cases).env("W", shop.path("ours"));
    let ours = ours.env("E", engine(&shop)).timeout(Duration::from_secs(120) * slowness()).output();
    let ours = ours.succeeds().stdout;

    let machine = shop.sandbox.boot(&tree, Init::Own);
    let docker = Docker::start(&machine);
    fs::copy(&archive, machine.shared().join("root.tar")).unwrap();
    docker.call(&["import", "/run/shared/root.tar", "img"]);
    let script = format!("export E=docker W=/tmp/theirs\n{SCRIPT}");
    let theirs = machine
        .script(&script)
        .input(&cases)
        .timeout(Duration::from_secs(240) * slowness())
        .output()
        .succeeds()
        .stdout;
    drop(docker);
    drop(machine);
    compare(&ours, &theirs);
}

/// Compares case by case, so that one difference hides no other.
#[track_caller]
fn compare(ours: &str, theirs: &str) {
    let cases = |text: &str| {
        let mut cases: Vec<(String, Vec<String>)> = Vec::new();
        for line in text.lines() {
            match cases.last_mut() {
                Some((_, lines)) if !line.starts_with("in ") && !line.starts_with("out ") => {
                    lines.push(line.to_owned());
                }
                _ => cases.push((line.to_owned(), Vec::new())),
            }
        }
        cases
    };
    let (ours, theirs) = (cases(ours), cases(theirs));
    assert_eq!(ours.len(), INTO.len() + OUT.len(), "each case says what came of it");
    assert_eq!(theirs.len(), ours.len());
    let mut wrong = Vec::new();
    for ((case, ours), (other, theirs)) in ours.iter().zip(&theirs) {
        if case != other {
            wrong.push(format!("ours: {case}; docker's: {other}"));
        }
        // Docker's documentation and ours: owners are kept with `-a` alone. Its programs keep them always on the way in, and never
        // on the way out.
        let is_owner = |line: &&String| line.starts_with("owner ");
        let of_others = ["owner 1234:2345 ", "owner 4321:5432 "][usize::from(case.starts_with("out "))];
        let keeps = ours.iter().any(|line| line.starts_with(of_others));
        if case.contains(" -a ") && !keeps || case.starts_with("in ") && !case.contains(" -a ") && keeps {
            wrong.push(format!("{case}: owners {:?}", Vec::from_iter(ours.iter().filter(is_owner))));
        }
        let without_owners =
            |lines: &[String]| Vec::from_iter(lines.iter().filter(|line| !is_owner(line)).cloned());
        let (ours, theirs) = (&without_owners(ours), &without_owners(theirs));
        let only = |some: &[String], others: &[String]| {
            Vec::from_iter(some.iter().filter(|line| !others.contains(line)).cloned()).join(", ")
        };
        if ours != theirs {
            wrong.push(format!(
                "{case}: ours alone [{}], docker's alone [{}]",
                only(ours, theirs),
                only(theirs, ours)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What happens to images and containers; `$E` is the engine, `$HOST` a registry.
const HAPPENING: &str = r#"
set -eu
mkdir -p "$W"; cd "$W"; exec 3>&1 > /dev/null
$E import -c 'LABEL a=1' -c 'LABEL name=mine' "$ROOT" img:1
$E tag img:1 other/img:2
$E rmi other/img:2
$E create --name web --label b=2 img:1 true
$E rename web new
$E commit new made:1
$E rm new
$E rmi made:1
$E save -o saved.tar img:1
$E rmi img:1
$E load -i saved.tar
$E tag img:1 "$HOST/team/img:1"
$E push "$HOST/team/img:1"
$E rmi img:1 "$HOST/team/img:1"
$E pull "$HOST/team/img:1"
$E rmi "$HOST/team/img:1"
# The end of docker's time is the last whole second.
sleep 1.1
$E events --since 1h --until 0s --format '{{json .}}' >&3
"#;

/// What a daemon of docker's is to serve itself with.
const REGISTRY: &str = r#"
cat > /tmp/registry.yml <<END
version: 0.1
log: { accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: /tmp/registry } }
http: { addr: "127.0.0.1:5000" }
END
# Its own loader is where it came from.
exec "$(ls /lib64/ld-linux-* /lib/ld-linux-* 2> /dev/null | head -n 1)" /run/shared/docker-registry serve /tmp/registry.yml
"#;

/// Who sees its events, line by line, without what differs each time.
fn events(said: &str, host: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in said.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if !["image", "container"].contains(&event["Type"].as_str().unwrap()) {
            continue;
        }
        let shown = format!(
            "{} {} {} {}",
            event["Type"], event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]
        );
        let mut shown = shown.replace(host, "HOST");
        // Ids, of images and of containers.
        while let Some(at) =
            shown.as_bytes().windows(64).position(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        {
            shown.replace_range(at..at + 64, "ID");
        }
        lines.push(shown);
    }
    lines
}

#[test]
fn events_are_docker_s() {
    let shop = shop!();
    let Some(tree) = cached("engines/newest") else {
        skip!("no engines in the cache: `cargo xtask engines` brings them");
    };
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let root = "mkdir -p root/etc; echo g > root/etc/group; tar -C root -cf root.tar .";
    shop.sandbox.command("sh").args(["-c", root]).current_dir(shop.sandbox.directory()).output().succeeds();
    let archive = shop.path("root.tar");
    // One that has seen nothing yet.
    let fresh = Shop::empty();
    let registry = Registry::start(&shop.path("registry"), &Guard::Nobody, None);
    let run = fresh.sandbox.command("sh").args(["-c", HAPPENING]).env("W", fresh.path("ours"));
    let ours = run.env("E", engine(&fresh)).env("ROOT", &archive).env("HOST", registry.host());
    let ours = ours.timeout(Duration::from_secs(120) * slowness()).output().succeeds().stdout;

    let machine = shop.sandbox.boot(&tree, Init::Own);
    let docker = Docker::start(&machine);
    fs::copy(&archive, machine.shared().join("root.tar")).unwrap();
    let program = machine.shared().join("docker-registry");
    shop.sandbox.command("cp").arg(Registry::program().unwrap()).arg(program).output().succeeds();
    let other = machine.script(REGISTRY).spawn();
    let host = "127.0.0.1:5000";
    let script = format!(
        "for second in $(seq 20); do bash -c 'exec 9<>/dev/tcp/127.0.0.1/5000' 2> /dev/null && break; sleep 1; done\n\
         export E=docker W=/tmp/theirs ROOT=/run/shared/root.tar HOST={host}\n{HAPPENING}"
    );
    let theirs = machine.script(&script).timeout(Duration::from_secs(240) * slowness()).output();
    assert!(theirs.code() == 0, "{theirs}\n{}", other.stderr());
    drop(docker);
    drop(machine);
    let (ours, theirs) = (events(&ours, &registry.host()), events(&theirs.stdout, host));
    assert!(theirs.len() > 12, "docker has told of what happened: {theirs:?}");
    assert_eq!(ours.join("\n"), theirs.join("\n"));
}

/// What is typed before the verb.
fn engine(shop: &Shop) -> String {
    let program = env!("CARGO_BIN_EXE_bulkhead");
    format!("{program} --root {} --run {}", shop.path("engine").display(), shop.path("engine-run").display())
}
