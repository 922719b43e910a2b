//! The program `bulkdns`.
#![no_main]

bulkhead_sys::entry!(bulkhead_net::names::run);
