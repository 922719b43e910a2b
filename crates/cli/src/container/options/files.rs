//! What the container's files are made of, besides its root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bulkhead_engine::request::{KeyValue, Mount, Request, Secret, VolumesFrom, label_file};
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};

#[derive(Args, Debug)]
pub(super) struct Files {
    /// Mount a directory of this machine, or a volume
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]", value_parser = Mount::from_volume)]
    volume: Vec<Mount>,
    /// Mount something, such as type=bind,source=DIR,target=DIR
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = Mount::from_mount)]
    mount: Vec<Mount>,
    /// Mount a file system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = Mount::from_tmpfs)]
    tmpfs: Vec<Mount>,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<VolumesFrom>,
    /// Hand over a file below /run/secrets
    #[arg(long, value_name = "FILE[,target=NAME,…]")]
    secret: Vec<Secret>,
    /// Let the container write nothing into its root
    #[arg(long)]
    read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<bulkhead_engine::request::Size>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<KeyValue>,
    /// Set the labels of a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Tell the runtime this
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<KeyValue>,
}

impl Files {
    pub(super) fn apply(self, request: &mut Request) -> Result<(), Failure> {
        let Files {
            volume,
            mount,
            tmpfs,
            volumes_from,
            secret,
            read_only,
            shm_size,
            label,
            label_file: files,
            annotation,
        } = self;
        request.mounts = volume.into_iter().chain(mount).chain(tmpfs).collect();
        let here = working_directory()?;
        for mount in &mut request.mounts {
            mount.resolve(&here);
        }
        request.volumes_from = volumes_from;
        request.secrets = secret;
        for secret in &mut request.secrets {
            secret.source = here.join(&secret.source);
        }
        request.read_only = read_only;
        request.resources.shm_size = shm_size;
        request.labels.extend(labels(&files, label)?);
        request.annotations.extend(annotation.into_iter().map(pair));
        Ok(())
    }
}

/// Labels of files and then those that were typed.
pub(crate) fn labels(files: &[PathBuf], typed: Vec<KeyValue>) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for file in files {
        let of_file = label_file(&read(file)?)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())).code(NOT_STARTED))?;
        labels.extend(of_file.into_iter().map(pair));
    }
    labels.extend(typed.into_iter().map(pair));
    Ok(labels)
}

pub(crate) fn pair(KeyValue { key, value }: KeyValue) -> (String, String) {
    (key, value)
}

/// Reads a file that an option names.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("read {}: {error}", file.display())).code(NOT_STARTED))
}

/// A path as seen from the working directory.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    Ok(working_directory()?.join(path))
}

fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::new(format!("find the working directory: {error}")).code(NOT_STARTED))
}
