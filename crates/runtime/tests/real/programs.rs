//! Programs of a distribution: its shell, its package manager, its way to become root, its Python.

use bulkhead_testkit::{is_root, requires, skip};

use crate::debian::{Debian, MISSING};
use crate::sandbox;

#[test]
fn a_shell_has_all_that_scripts_use() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let script = r#"
        cat > /tmp/words <<< $'one\ntwo\nthree'
        mapfile -t words < /tmp/words
        echo "${#words[@]} words, the last is ${words[-1]}"
        diff <(sort /tmp/words) <(printf '%s\n' one three two) && echo "descriptors as files"
        mkfifo /tmp/queue; (sleep 0.1; echo through a fifo > /tmp/queue) & cat /tmp/queue; wait
        trap 'echo "got $?"' EXIT
        (kill -TERM $BASHPID) || echo "a child died of $(kill -l $?)"
        echo "$(hostname) $(id -un) $(stat -fc %T /proc) $((6 * 7))"
        exit 5"#;
    let expected = "3 words, the last is three\ndescriptors as files\nthrough a fifo\na child died of TERM\n\
                    testkit root proc 42\ngot 5\n";
    let bundle = debian.script(&sandbox, "shell", script);
    sandbox.run(&bundle).output().exits_with(5).prints(expected);
}

#[test]
fn apt_installs_from_a_directory_of_packages() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let script = "
        exec 3>&1 1>&2
        ! command -v gawk
        apt-get update
        apt-get install --yes --no-install-recommends gawk
        dpkg --verify gawk
        gawk 'BEGIN { print PROCINFO[\"version\"] ~ /^[5-9]/, 6 * 7 }' >&3
        apt-get purge --yes gawk
        test ! -e /usr/bin/gawk
        awk 'BEGIN { print \"an older awk serves again\" }' >&3";
    let bundle = debian.script(&sandbox, "apt", script);
    sandbox.run(&bundle).output().succeeds().prints("1 42\nan older awk serves again\n");
}

#[test]
fn sudo_makes_a_user_root_where_new_privileges_are_allowed() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let bundle = debian.bundle(&sandbox, "sudo").args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let setup = "useradd --uid 1234 --create-home worker
        echo 'worker ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/worker
        echo '127.0.0.1 testkit' >> /etc/hosts";
    sandbox.exec(&bundle, ["sh", "-euc", setup]).output().succeeds();
    let as_worker = |options: &[&str], script: &str| {
        let exec = sandbox.runtime().args(["exec", "--user", "1234:1234", "--cwd", "/home/worker"]);
        exec.args(options).arg(bundle.id()).args(["sh", "-c", script]).output()
    };
    as_worker(&[], "id -un; sudo id -un; sudo -u nobody id -un").succeeds().prints("worker\nroot\nnobody\n");
    let script =
        "sudo sh -c 'echo 1 > /etc/only-root; grep CapEff /proc/self/status'; stat -c %u /etc/only-root";
    let output = as_worker(&[], script).succeeds();
    let granted = sandbox.exec(&bundle, ["grep", "CapEff", "/proc/self/status"]).output().succeeds();
    assert_eq!(output.stdout, format!("{}0\n", granted.stdout), "root by sudo has the container's rights");
    as_worker(&["--no-new-privs"], "sudo id -un").exits_with(1).complains("no new privileges");
}

#[test]
fn python_has_processes_threads_sockets_and_locks() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let program = r#"
import http.server, multiprocessing, os, sqlite3, subprocess, tempfile, threading, urllib.request

with multiprocessing.Pool(4) as pool:
    print(sum(pool.map(abs, range(-100, 0))))

class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello over loopback")
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}").read().decode())

with tempfile.TemporaryDirectory() as place:
    base = sqlite3.connect(os.path.join(place, "base"))
    base.execute("create table t (n integer)")
    base.executemany("insert into t values (?)", [(n,) for n in range(1000)])
    base.commit()
    print(*base.execute("select sum(n) from t").fetchone())

print(subprocess.run(["sh", "-c", "exit 3"]).returncode, os.getpid(), len(os.urandom(16)))
"#;
    let bundle = debian.bundle(&sandbox, "python").args(["python3", "-c", program]);
    sandbox.run(&bundle).output().succeeds().prints("5050\nhello over loopback\n499500\n3 1 16\n");
}
