//! The program `bulkmon`.
#![no_main]

bulkhead_sys::program!(bulkhead_shim::run);
