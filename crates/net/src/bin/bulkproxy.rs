//! The program `bulkproxy`.
#![no_main]

bulkhead_sys::entry!(bulkhead_net::proxy::run);
