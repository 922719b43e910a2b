//! Lets bulkrun begin at its shield instead of at the C library (`bulkhead_sys::shield`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo::rustc-link-arg-bin=bulkrun=-Wl,-e,bulkhead_entry");
    }
}
