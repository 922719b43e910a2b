//! How bulkrun is linked: it begins at its shield (`bulkhead_sys::shield`), and a release has no tables for unwinding.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=layout.ld");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        println!("cargo::rustc-link-arg-bin=bulkrun=-Wl,-e,bulkhead_entry");
    }
    if variable("PROFILE") == "release" {
        println!("cargo::rustc-link-arg-bin=bulkrun=-Wl,-T,{}/layout.ld", variable("CARGO_MANIFEST_DIR"));
        println!("cargo::rustc-link-arg-bin=bulkrun=-Wl,--no-eh-frame-hdr");
        // The program has its own `_Unwind_Backtrace` (`bulkhead_sys::program`), and the compiler's library another.
        println!("cargo::rustc-link-arg-bin=bulkrun=-Wl,-z,muldefs");
    }
}
