//! PostgreSQL as a service: many processes, shared memory, and an own idea of when to end.

use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::Duration;

use bulkhead_testkit::{Bundle, Run, Sandbox, is_root, requires, skip};

use crate::debian::{Debian, MISSING};
use crate::{eventually, is_gone, sandbox, statistics, verb};

/// A container of PostgreSQL.
struct Postgres<'a> {
    sandbox: &'a Sandbox,
    bundle: Bundle,
    programs: String,
}

impl Postgres<'_> {
    fn launched<'a>(sandbox: &'a Sandbox, debian: &Debian) -> Postgres<'a> {
        let version = debian.only_entry("usr/lib/postgresql");
        let programs = format!("/usr/lib/postgresql/{version}/bin");
        let (uid, gid) = debian.user("postgres");
        // Its data survives a kill without fsync too, as long as the machine does.
        let settings = [
            format!("config_file=/etc/postgresql/{version}/main/postgresql.conf"),
            "unix_socket_directories=/tmp".to_owned(),
            "external_pid_file=".to_owned(),
            "ssl=off".to_owned(),
            "fsync=off".to_owned(),
        ];
        let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
        let server =
            [format!("{programs}/postgres"), "-D".to_owned(), format!("/var/lib/postgresql/{version}/main")];
        let bundle =
            debian.bundle(sandbox, "postgres").args(server.into_iter().chain(settings)).user(uid, gid);
        let postgres = Postgres { sandbox, bundle, programs };
        postgres.launch();
        postgres
    }

    fn launch(&self) {
        self.sandbox.launch(&self.bundle);
        eventually("PostgreSQL accepts connections", || {
            self.client("pg_isready", &["--quiet"]).output().code() == 0
        });
    }

    /// Puts `exec` of one of its programs together.
    fn client(&self, program: &str, words: &[&str]) -> Run {
        let program = format!("{}/{program}", self.programs);
        self.sandbox.exec(&self.bundle, [program.as_str(), "--host", "/tmp"].iter().chain(words))
    }

    /// Returns what a statement yields.
    #[track_caller]
    fn sql(&self, statement: &str) -> String {
        let options = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--command", statement];
        self.client("psql", &options).output().succeeds().stdout.trim_end().to_owned()
    }
}

#[test]
fn postgresql_serves_from_start_to_deletion() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let postgres = Postgres::launched(&sandbox, &debian);
    postgres.sql("create table ships (name text primary key, walls int)");
    postgres.sql("insert into ships select 'ship ' || n, n from generate_series(1, 1000) n");
    assert_eq!(postgres.sql("select count(*), sum(walls) from ships"), "1000|500500");
    let refused = postgres.client("psql", &["--command", "insert into ships values ('ship 1', 2)"]).output();
    refused.exits_with(1).complains("duplicate key");
    // Queries in parallel share memory in /dev/shm or by System V.
    let parallel =
        "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
                    select sum(walls) from ships";
    assert_eq!(postgres.sql(parallel), "500500");
    let processes = statistics(&sandbox, &postgres.bundle)["pids"]["current"].as_u64();
    assert!(processes >= Some(5), "a server is many processes: {processes:?}");
    verb(&sandbox, &["delete", "--force"], &postgres.bundle);
    is_gone(&sandbox, &postgres.bundle);
}

#[test]
fn a_paused_postgresql_goes_on_without_losing_a_transaction() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let postgres = Postgres::launched(&sandbox, &debian);
    postgres.client("pgbench", &["--initialize", "--quiet"]).output().succeeds();
    let load = ["--no-vacuum", "--client", "4", "--transactions", "1000"];
    let load = postgres.client("pgbench", &load).spawn();
    let done = || postgres.sql("select count(*) from pgbench_history").parse::<usize>().unwrap();
    eventually("transactions are made", || done() > 0);
    for _ in 0..3 {
        verb(&sandbox, &["pause"], &postgres.bundle);
        assert_eq!(sandbox.status(&postgres.bundle), "paused");
        let before = cpu_time(&postgres);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(cpu_time(&postgres), before, "nothing runs");
        verb(&sandbox, &["resume"], &postgres.bundle);
    }
    let report = load.wait().succeeds().stdout;
    assert!(report.contains("transactions actually processed: 4000/4000"), "all are made:\n{report}");
    assert_eq!(done(), 4000, "each has left its trace, once");
    let sums =
        "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)";
    assert_eq!(postgres.sql(sums), "t", "the books balance");
}

/// Reads how long the container has run, in nanoseconds.
fn cpu_time(postgres: &Postgres<'_>) -> u64 {
    statistics(postgres.sandbox, &postgres.bundle)["cpu"]["usage"]["total"].as_u64().unwrap()
}

#[test]
fn a_postgresql_that_does_not_end_in_time_is_killed_and_recovers() {
    requires!(is_root(), "needs root");
    let Some(debian) = Debian::find() else { skip!("{MISSING}") };
    let sandbox = sandbox();
    let postgres = Postgres::launched(&sandbox, &debian);
    postgres.sql("create table kept (n int); insert into kept select generate_series(1, 5000)");
    // Asked by SIGTERM, the server waits until its clients have gone. This one stays.
    let client = postgres.client("psql", &["--command", "select pg_sleep(1000)"]).spawn();
    eventually("a client is at work", || {
        postgres.sql("select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1"
    });
    let init = sandbox.pid(&postgres.bundle);
    sandbox.kill(&postgres.bundle, "TERM");
    eventually("the server takes no new clients", || {
        postgres.client("pg_isready", &["--quiet"]).output().code() != 0
    });
    thread::sleep(Duration::from_millis(500));
    assert_eq!(sandbox.status(&postgres.bundle), "running", "the grace passes without an end");
    sandbox.kill(&postgres.bundle, "KILL");
    assert_eq!(sandbox.wait_for_exit(init).signal(), Some(9));
    assert_ne!(client.wait().code(), 0, "the client ends too");
    assert_eq!(sandbox.status(&postgres.bundle), "stopped");
    verb(&sandbox, &["delete"], &postgres.bundle);
    is_gone(&sandbox, &postgres.bundle);

    postgres.launch();
    assert_eq!(
        postgres.sql("select count(*), sum(n) from kept"),
        "5000|12502500",
        "what was committed is there"
    );
}
