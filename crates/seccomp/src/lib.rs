//! Compiles OCI seccomp profiles to BPF.
