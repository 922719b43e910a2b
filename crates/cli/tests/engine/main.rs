//! Containers and images as people type them: the program `bulkhead` with the monitor and the runtime of this build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod carried_pods;
mod carriers;
mod companions;
mod containers;
mod copy;
mod devices;
mod docker;
mod elsewhere;
mod identity;
mod images;
mod init;
mod kept;
mod labels;
mod left_alone;
mod listings;
mod make;
mod networks;
mod overlaps;
mod parts;
mod person;
mod pods;
mod policies;
mod proxied;
mod pulling;
mod real;
mod revived;
mod rootless;
mod rootless_pods;
mod rootless_runtimes;
mod runtimes;
mod served;
mod shared;
mod sharers;
mod shop;
mod streams;
mod survive;
mod terminals;
mod update;
mod users;
mod volumes;
mod waits;
mod walls;
mod ways;
