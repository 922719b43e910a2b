//! Packages of the machine's release and of the newest, which nobody installs.

/// In the environment of a process that a test starts in its own namespaces, and kills.
pub(crate) const DOOMED: &str = "BULKHEAD_DOOMED";

/// Runs tests in namespaces where the packages lie over the system: once with those of each suite.
macro_rules! over_debian_s_packages {
    ($($suite:ident)+: $tests:tt) => { $(over_debian_s_packages!(@ $suite $tests);)+ };
    (@ $suite:ident { $($test:ident)+ }) => {
        mod $suite {
            $(#[test]
            fn $test() {
                let tree = bulkhead_testkit::cached(concat!("networks/", stringify!($suite)));
                bulkhead_testkit::requires!(tree.is_some(), "needs Debian's packages; cargo xtask networks fetches them");
                bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
                if std::env::var_os($crate::suites::DOOMED).is_none() {
                    bulkhead_testkit::tree::lay(&tree.unwrap());
                }
                super::$test();
            })+
        }
    };
}

pub(crate) use over_debian_s_packages;
