//! The program `bulkdns`.
#![no_main]

bulkhead_sys::program!(bulkhead_net::names::run);
