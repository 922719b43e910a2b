//! The program `bulkrun`.

fn main() {}
