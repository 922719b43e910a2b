//! The three axioms of virtualisation as numbers, for any platform on the host.
//!
//! The life of a measurement: a [`plan::Plan`] says what is to be done; a [`session`] does it turn by turn through a
//! [`session::Executor`] and writes each [`record::Turn`] into a journal; [`results::Results`] gathers a journal into
//! [`stats::Experiment`]s, from which everything that is claimed follows.

pub mod arena;
pub mod bundle;
pub mod cgroups;
pub mod claim;
mod closure;
mod daemons;
mod disk;
pub mod doctor;
pub mod error;
pub mod guard;
pub mod guest;
mod hash;
pub mod host;
pub mod interference;
pub mod interrupt;
mod isolation;
pub mod machine;
mod open_files;
pub mod performance;
pub mod plan;
pub mod platform;
mod printed;
pub mod programs;
pub mod provenance;
pub mod reading;
pub mod record;
pub mod report;
pub mod results;
pub mod session;
pub mod sources;
mod stage;
mod started;
pub mod stats;
