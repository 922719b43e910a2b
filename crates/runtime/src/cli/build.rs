//! Makes a command of the flags and operands of its verb.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use bulkhead_sys::signal::Signal;

use super::error::Error;
use super::flag::Verb;
use super::scan::Typed;
use super::value::{self, Problem};
use super::{
    CheckpointOptions, CreateOptions, DeleteOptions, EventsOptions, EventsOutput, ExecCommand, ExecOptions,
    ExecProcess, ImageOptions, KillOptions, Limits, ListFormat, ListOptions, NewLimits, PsFormat, PsOptions,
    RestoreOptions, RunOptions, Shell, SpecOptions, Targets, Topic, UpdateOptions, find_verb, help, table,
};
use crate::id::ContainerId;

/// A verb whose number of operands is right.
pub(super) struct Operated<'a> {
    typed: &'a Typed,
}

impl<'a> Operated<'a> {
    /// Counts the operands.
    pub(super) fn new(verb: &'static Verb, typed: &'a Typed) -> Result<Self, Error> {
        let wanted = &verb.operands;
        let given = typed.operands.len();
        let limit = match (wanted.least, wanted.most) {
            (least, most) if (least..=most).contains(&given) => return Ok(Self { typed }),
            (least, most) if least == most => format!("exactly {least}"),
            (least, _) if given < least => format!("a minimum of {least}"),
            (_, most) => format!("a maximum of {most}"),
        };
        Err(Error::Operands { verb: verb.name, limit, usage: help::usage(verb) })
    }

    /// Reads the container's id.
    pub(super) fn id(&self) -> Result<ContainerId, Error> {
        let text = self.typed.operands.first().map(OsString::as_os_str).unwrap_or_default();
        Ok(ContainerId::from_os(text)?)
    }

    /// Reads the container's id, or with `--regex` a pattern for several.
    fn targets(&self) -> Result<Targets, Error> {
        if !self.typed.switch(&table::REGEX)? {
            return self.id().map(Targets::One);
        }
        let text = self.typed.operands.first().map(OsString::as_os_str).unwrap_or_default();
        operand("CONTAINER", text, value::pattern).map(Targets::Matching)
    }

    /// Reads the flags of `create`, and of `run` as far as it creates.
    pub(super) fn create(&self) -> Result<CreateOptions, Error> {
        let typed = self.typed;
        Ok(CreateOptions {
            id: self.id()?,
            bundle: typed.path(&table::BUNDLE),
            config: typed.path(&table::CONFIG),
            console_socket: typed.path(&table::CONSOLE_SOCKET),
            pidfd_socket: typed.path(&table::PIDFD_SOCKET),
            pid_file: typed.path(&table::PID_FILE),
            preserve_fds: typed.last(&table::PRESERVE_FDS, value::descriptors)?.unwrap_or(0),
            no_pivot: typed.switch(&table::NO_PIVOT)?,
            no_new_keyring: typed.switch(&table::NO_NEW_KEYRING)?,
            no_subreaper: typed.switch(&table::NO_SUBREAPER)?,
        })
    }

    /// Reads the flags of `run`.
    pub(super) fn run(&self) -> Result<RunOptions, Error> {
        let (detach, keep) = (self.typed.switch(&table::DETACH)?, self.typed.switch(&table::KEEP)?);
        Ok(RunOptions { create: self.create()?, detach, keep })
    }

    fn images(&self) -> Result<ImageOptions, Error> {
        let typed = self.typed;
        Ok(ImageOptions {
            image_path: typed.path(&table::IMAGE_PATH),
            work_path: typed.path(&table::WORK_PATH),
            tcp_established: typed.switch(&table::TCP_ESTABLISHED)?,
            ext_unix_sk: typed.switch(&table::EXT_UNIX_SK)?,
            shell_job: typed.switch(&table::SHELL_JOB)?,
            file_locks: typed.switch(&table::FILE_LOCKS)?,
            lazy_pages: typed.switch(&table::LAZY_PAGES)?,
            auto_dedup: typed.switch(&table::AUTO_DEDUP)?,
            cgroups_mode: typed
                .last(&table::MANAGE_CGROUPS_MODE, value::cgroups_mode)?
                .unwrap_or(value::DEFAULT_CGROUPS_MODE),
            empty_network: !typed.all(&table::EMPTY_NS, value::empty_namespace)?.is_empty(),
        })
    }

    /// Reads the flags of `checkpoint`.
    pub(super) fn checkpoint(&self) -> Result<CheckpointOptions, Error> {
        let typed = self.typed;
        Ok(CheckpointOptions {
            id: self.id()?,
            images: self.images()?,
            parent_path: typed.path(&table::PARENT_PATH),
            leave_running: typed.switch(&table::LEAVE_RUNNING)?,
            tcp_skip_in_flight: typed.switch(&table::TCP_SKIP_IN_FLIGHT)?,
            link_remap: typed.switch(&table::LINK_REMAP)?,
            pre_dump: typed.switch(&table::PRE_DUMP)?,
            status_fd: typed.last(&table::STATUS_FD, value::status_descriptor)?.flatten(),
            page_server: typed.last(&table::PAGE_SERVER, value::page_server)?,
        })
    }

    /// Reads the flags of `restore`.
    pub(super) fn restore(&self) -> Result<RestoreOptions, Error> {
        let typed = self.typed;
        Ok(RestoreOptions {
            create: self.create()?,
            images: self.images()?,
            detach: typed.switch(&table::DETACH)?,
            lsm_profile: typed.last(&table::LSM_PROFILE, value::text)?,
            lsm_mount_context: typed.last(&table::LSM_MOUNT_CONTEXT, value::text)?,
        })
    }

    /// Reads the flags of `delete`.
    pub(super) fn delete(&self) -> Result<DeleteOptions, Error> {
        Ok(DeleteOptions { targets: self.targets()?, force: self.typed.switch(&table::FORCE)? })
    }

    /// Reads the flags of `spec`.
    pub(super) fn spec(&self) -> Result<SpecOptions, Error> {
        let bundle = self.typed.path(&table::BUNDLE);
        Ok(SpecOptions { bundle, rootless: self.typed.switch(&table::SPEC_ROOTLESS)? })
    }

    /// Reads what the help shall be about.
    pub(super) fn topic(&self) -> Result<Topic, Error> {
        let word = self.typed.operands.first();
        Ok(word.map(|word| find_verb(word)).transpose()?.map_or(Topic::Program, Topic::Verb))
    }

    /// Reads the flags of `exec`.
    pub(super) fn exec(&self) -> Result<ExecOptions, Error> {
        let typed = self.typed;
        Ok(ExecOptions {
            id: self.id()?,
            process: self.exec_process()?,
            detach: typed.switch(&table::DETACH)?,
            cgroups: typed.all(&table::CGROUP, value::text)?,
            ignore_paused: typed.switch(&table::IGNORE_PAUSED)?,
            console_socket: typed.path(&table::CONSOLE_SOCKET),
            pidfd_socket: typed.path(&table::PIDFD_SOCKET),
            pid_file: typed.path(&table::PID_FILE),
            preserve_fds: typed.last(&table::PRESERVE_FDS, value::descriptors)?.unwrap_or(0),
        })
    }

    fn exec_process(&self) -> Result<ExecProcess, Error> {
        let typed = self.typed;
        let after_id = typed.operands.get(1..).unwrap_or_default();
        let args = after_id.strip_prefix(&[OsString::from("--")]).unwrap_or(after_id);
        match (typed.path(&table::PROCESS), args.first()) {
            (Some(file), None) => return Ok(ExecProcess::File(file)),
            (Some(_), Some(word)) => return Err(Error::TwoProcesses(word.to_string_lossy().into_owned())),
            (None, None) => return Err(Error::EmptyExec),
            (None, Some(_)) => {}
        }
        let no_new_privs = typed.later(&table::NO_NEW_PRIVS, &table::NO_NEW_PRIVS);
        Ok(ExecProcess::Command(ExecCommand {
            args: args.to_vec(),
            cwd: typed.path(&table::CWD),
            env: typed.all(&table::ENV, value::variable)?,
            tty: typed.switch(&table::TTY)?,
            user: typed.last(&table::USER, value::user)?,
            additional_gids: typed.all(&table::ADDITIONAL_GIDS, value::id)?,
            process_label: typed.last(&table::PROCESS_LABEL, value::text)?,
            apparmor: typed.last(&table::APPARMOR, value::text)?,
            no_new_privs: no_new_privs.map(|flag| typed.switch(flag)).transpose()?,
            caps: typed.all(&table::CAP, value::text)?,
        }))
    }

    /// Reads the flags of `kill`.
    pub(super) fn kill(&self) -> Result<KillOptions, Error> {
        let signal = match self.typed.operands.get(1).filter(|text| !text.is_empty()) {
            Some(text) => operand("SIGNAL", text, value::signal)?,
            None => Signal::TERM,
        };
        Ok(KillOptions { targets: self.targets()?, signal, all: self.typed.switch(&table::ALL)? })
    }

    /// Reads the flags of `update`.
    pub(super) fn update(&self) -> Result<UpdateOptions, Error> {
        let typed = self.typed;
        let limits = match typed.path(&table::RESOURCES) {
            Some(file) if file.as_os_str() == "-" => NewLimits::Stdin,
            Some(file) => NewLimits::File(file),
            None => NewLimits::Flags(Box::new(Limits {
                blkio_weight: typed.last(&table::BLKIO_WEIGHT, value::weight)?.flatten(),
                cpu_period: typed.last(&table::CPU_PERIOD, value::unsigned)?,
                cpu_quota: typed.last(&table::CPU_QUOTA, value::signed)?,
                cpu_burst: typed.last(&table::CPU_BURST, value::unsigned)?,
                cpu_shares: typed.last(&table::CPU_SHARE, value::unsigned)?,
                cpu_rt_period: typed.last(&table::CPU_RT_PERIOD, value::unsigned)?,
                cpu_rt_runtime: typed.last(&table::CPU_RT_RUNTIME, value::signed)?,
                cpu_idle: typed.last(&table::CPU_IDLE, value::zero_or_one)?,
                cpuset_cpus: typed.last(&table::CPUSET_CPUS, value::text)?,
                cpuset_mems: typed.last(&table::CPUSET_MEMS, value::text)?,
                memory: typed.last(&table::MEMORY, value::size)?,
                memory_reservation: typed.last(&table::MEMORY_RESERVATION, value::size)?,
                memory_swap: typed.last(&table::MEMORY_SWAP, value::size)?,
                // 0 is runc's default: callers that always give the flag mean that it is not given.
                pids: typed.last(&table::PIDS_LIMIT, value::signed)?.filter(|&limit| limit != 0),
            })),
        };
        Ok(UpdateOptions {
            id: self.id()?,
            limits,
            l3_cache_schema: typed.last(&table::L3_CACHE_SCHEMA, value::text)?,
            mem_bw_schema: typed.last(&table::MEM_BW_SCHEMA, value::text)?,
        })
    }

    /// Reads the flags of `list`.
    pub(super) fn list(&self) -> Result<ListOptions, Error> {
        let json = self.typed.last(&table::FORMAT, value::is_json)?.unwrap_or(false);
        let format = match (self.typed.switch(&table::QUIET)?, json) {
            (true, _) => ListFormat::Quiet,
            (false, true) => ListFormat::Json,
            (false, false) => ListFormat::Table,
        };
        Ok(ListOptions { format })
    }

    /// Reads the flags of `ps`.
    pub(super) fn ps(&self) -> Result<PsOptions, Error> {
        let format = match self.typed.last(&table::FORMAT, value::is_json)? {
            Some(true) => PsFormat::Json,
            _ => PsFormat::Table(match self.typed.operands.get(1..) {
                Some(options @ [_, ..]) => options.to_vec(),
                _ => vec!["-ef".into()],
            }),
        };
        Ok(PsOptions { id: self.id()?, format })
    }

    /// Reads the flags of `events`.
    pub(super) fn events(&self) -> Result<EventsOptions, Error> {
        let interval = self.typed.last(&table::INTERVAL, value::duration)?;
        let output = match self.typed.switch(&table::STATS)? {
            true => EventsOutput::Once,
            false => EventsOutput::Stream(interval.unwrap_or(Duration::from_secs(5))),
        };
        Ok(EventsOptions { id: self.id()?, output })
    }

    /// Reads the name of a shell.
    pub(super) fn shell(&self) -> Result<Shell, Error> {
        let text = self.typed.operands.first().map(OsString::as_os_str).unwrap_or_default();
        operand("SHELL", text, |value| match value.as_encoded_bytes() {
            b"bash" => Ok(Shell::Bash),
            b"zsh" => Ok(Shell::Zsh),
            b"fish" => Ok(Shell::Fish),
            _ => Err(Problem("is none of bash, zsh and fish".into())),
        })
    }
}

fn operand<T>(name: &str, value: &OsStr, read: impl Fn(&OsStr) -> Result<T, Problem>) -> Result<T, Error> {
    read(value).map_err(|Problem(problem)| Error::Value {
        flag: name.to_owned(),
        value: value.to_string_lossy().into_owned(),
        problem: problem.into_owned(),
    })
}
