//! Flags of docker's that ask for what there is not, and what to do instead.

/// A flag that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Its name, without the dashes in front.
    pub flag: &'static str,
    /// Why it is not there, and what to do instead.
    pub reason: &'static str,
}

/// Flags of docker's `create` and `run` that are refused, in the order of the alphabet.
pub const REFUSED: &[Refusal] = &[
    Refusal { flag: "cpu-count", reason: "it is for Windows; use --cpus" },
    Refusal { flag: "cpu-percent", reason: "it is for Windows; use --cpus" },
    Refusal { flag: "disable-content-trust", reason: "docker's content trust has been retired" },
    Refusal {
        flag: "io-maxbandwidth",
        reason: "it is for Windows; use --device-read-bps and --device-write-bps",
    },
    Refusal {
        flag: "io-maxiops",
        reason: "it is for Windows; use --device-read-iops and --device-write-iops",
    },
    Refusal { flag: "isolation", reason: "it is for Windows; --runtime chooses another wall" },
    Refusal {
        flag: "kernel-memory",
        reason: "Linux has no limit of kernel memory since 5.4; --memory counts it in",
    },
    Refusal {
        flag: "link",
        reason: "containers of one network find each other by their names: `bulkhead network create NAME`, and --network NAME for both",
    },
    Refusal { flag: "link-local-ip", reason: "the kernel gives each device its own" },
    Refusal {
        flag: "storage-opt",
        reason: "a container's writable layer has no size of its own; use --read-only with --tmpfs DIR:size=N, or a volume",
    },
    Refusal {
        flag: "use-api-socket",
        reason: "there is no daemon whose socket could be given to a container",
    },
    Refusal { flag: "volume-driver", reason: "volumes have no drivers but local, which takes no options" },
];

/// Finds why a flag is not there.
pub fn refusal(flag: &str) -> Option<&'static str> {
    REFUSED.iter().find(|refusal| refusal.flag == flag).map(|refusal| refusal.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_one_reason() {
        assert!(REFUSED.windows(2).all(|pair| pair[0].flag < pair[1].flag), "sorted, each once");
        assert!(refusal("storage-opt").is_some_and(|reason| reason.contains("volume")));
        assert_eq!(refusal("memory"), None);
    }
}
