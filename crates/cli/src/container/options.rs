//! Options of `create` and `run`, in the groups of their help, and the request that they make.

use std::path::PathBuf;

use bulkhead_engine::request::{Attached, InPod, Request, Root, RootDirectory};
use bulkhead_engine::transfer::Source;
use clap::Args;

use crate::failure::{Failure, NOT_STARTED};
use crate::registry::pull::Progress;

mod files;
mod isolation;
mod lifetime;
mod limits;
mod networks;
mod process;
mod source;

pub(crate) use files::{labels, pair};
pub(crate) use limits::Limits;
pub(super) use process::environment;

/// What `create` and `run` take.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Name the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write the container's id into this file, which must not be there
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Attach to stdin, stdout or stderr alone
    #[arg(short, long, value_name = "STREAM", value_delimiter = ',')]
    attach: Vec<Stream>,
    /// Put it into this pod, or with new:NAME into a new one
    #[arg(long, value_name = "POD")]
    pod: Option<InPod>,
    /// Use this directory as root instead of an image; with :O what is written is kept apart
    #[arg(long, value_name = "DIR[:O]")]
    rootfs: Option<RootDirectory>,
    #[command(flatten)]
    pulling: source::Pulling,
    #[command(flatten, next_help_heading = "Process")]
    process: process::Process,
    #[command(flatten, next_help_heading = "Files")]
    files: files::Files,
    #[command(flatten, next_help_heading = "Network")]
    networks: networks::Networks,
    #[command(flatten, next_help_heading = "Isolation")]
    isolation: isolation::Isolation,
    #[command(flatten, next_help_heading = "Limits")]
    limits: Limits,
    #[command(flatten, next_help_heading = "Limits")]
    devices: limits::Devices,
    #[command(flatten, next_help_heading = "Life, health, log")]
    lifetime: lifetime::Lifetime,
    /// The image, and the command in it instead of its own
    #[arg(trailing_var_arg = true, hide = true, value_name = "IMAGE [COMMAND] [ARG]")]
    words: Vec<String>,
}

/// One of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl std::str::FromStr for Stream {
    type Err = String;

    fn from_str(text: &str) -> Result<Stream, String> {
        match text.to_ascii_lowercase().as_str() {
            "stdin" => Ok(Stream::Stdin),
            "stdout" => Ok(Stream::Stdout),
            "stderr" => Ok(Stream::Stderr),
            _ => Err("stdin, stdout or stderr is meant".to_owned()),
        }
    }
}

/// What was typed, put together.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) request: Request,
    pub(super) cidfile: Option<PathBuf>,
    /// Whether streams to attach to were named.
    pub(super) has_chosen: bool,
    /// Where the image comes from.
    pub(super) source: Source,
    /// What is shown when it is pulled.
    pub(super) progress: Progress,
}

impl Options {
    /// Puts together what was typed.
    ///
    /// # Errors
    /// Files that cannot be read, and options that do not go together.
    pub(super) fn wanted(self) -> Result<Wanted, Failure> {
        let Options {
            name,
            cidfile,
            attach,
            pod,
            rootfs,
            pulling,
            process,
            files,
            networks,
            isolation,
            limits,
            devices,
            lifetime,
            words,
        } = self;
        let mut request = Request { name, pod, ..Request::default() };
        let mut words = words.into_iter();
        request.root = match rootfs {
            Some(mut directory) => {
                directory.path = files::absolute(directory.path)?;
                Root::Directory(directory)
            }
            None => Root::Image(words.next().ok_or_else(no_image)?),
        };
        request.process.command = words.collect();
        process.apply(&mut request)?;
        files.apply(&mut request)?;
        networks.apply(&mut request)?;
        isolation.apply(&mut request)?;
        limits.apply(&mut request.resources);
        devices.apply(&mut request);
        lifetime.apply(&mut request)?;
        // Without a choice, docker attaches to the output, and to an input that is open.
        let has = |stream| attach.contains(&stream);
        request.attached = match attach.as_slice() {
            [] => Attached { stdin: request.process.stdin, stdout: true, stderr: true },
            _ => Attached {
                stdin: has(Stream::Stdin),
                stdout: has(Stream::Stdout),
                stderr: has(Stream::Stderr),
            },
        };
        let (source, progress) = pulling.source();
        Ok(Wanted { request, cidfile, has_chosen: !attach.is_empty(), source, progress })
    }
}

fn no_image() -> Failure {
    let failure = Failure::new("no image is named").code(NOT_STARTED);
    failure.hint("`bulkhead images` lists those that are here; --rootfs DIR does without one")
}
