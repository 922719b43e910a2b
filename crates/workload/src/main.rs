//! The program `bulkload`.
#![no_main]

bulkhead_sys::entry!(bulkhead_workload::run);
