//! Devices of the Container Device Interface, from files as vendors install them.

use std::fs;
use std::process::Command;

use bulkhead_testkit::in_fresh_namespaces;

use crate::shop::shop;

#[test]
fn a_device_of_a_vendor_comes_with_all_it_needs() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let shop = shop!();
    // The host's /etc is not to be written to: what this process sees of it is a layer above.
    let (upper, work) = (shop.path("upper"), shop.path("work"));
    fs::create_dir_all(upper.join("cdi")).unwrap();
    fs::create_dir(&work).unwrap();
    let layers = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
    assert!(
        Command::new("mount")
            .args(["-t", "overlay", "-o", &layers, "overlay", "/etc"])
            .status()
            .unwrap()
            .success()
    );
    let hook = shop.path("hook");
    fs::write(&hook, format!("#!/bin/sh\ncat > {}/heard\n", shop.sandbox.directory().display())).unwrap();
    assert!(Command::new("chmod").arg("755").arg(&hook).status().unwrap().success());
    fs::write(shop.path("library"), "of the vendor\n").unwrap();
    let specification = format!(
        "cdiVersion: \"0.6.0\"
kind: vendor.example/card
containerEdits:
  env: [CARDS=1]
devices:
- name: zero
  containerEdits:
    deviceNodes:
    - {{path: /dev/card0, hostPath: /dev/zero}}
    mounts:
    - {{hostPath: {directory}/library, containerPath: /opt/library, options: [ro, bind]}}
    hooks:
    - {{hookName: createRuntime, path: {directory}/hook, args: [hook]}}
",
        directory = shop.sandbox.directory().display()
    );
    fs::write("/etc/cdi/vendor.yaml", specification).unwrap();
    fs::write("/etc/cdi/broken.json", "{").unwrap();
    let script = "echo $CARDS; cat /opt/library; head -c 3 /dev/card0 | wc -c";
    let output = shop.script(&["--device", "vendor.example/card=zero"], script).output().succeeds();
    assert_eq!(output.stdout, "1\nof the vendor\n3\n");
    assert!(
        fs::read_to_string(shop.path("heard")).unwrap().contains("\"ociVersion\""),
        "the hook was called"
    );
    let unknown = shop.script(&["--device", "vendor.example/card=one"], "true").output().exits_with(125);
    for words in
        ["--device vendor.example/card=one", "vendor.example/card=zero", "/etc/cdi/broken.json: it is no"]
    {
        assert!(unknown.stderr.contains(words), "{}", unknown.stderr);
    }
    assert!(Command::new("umount").arg("/etc").status().unwrap().success());
}
