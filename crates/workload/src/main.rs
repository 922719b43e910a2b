//! The program `bulkload`.
#![no_main]

bulkhead_sys::program!(bulkhead_workload::run);
