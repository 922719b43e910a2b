//! `--mount type=…,source=…,target=…`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::csv::{fields, key_value};
use super::malformed::{choose, truth};
use super::mount::{
    Access, Bind, Copy, Missing, Mount, MountKind, Ownership, Propagation, Reach, Tmpfs, Volume, destination,
    subpath, volume_name,
};
use super::{KeyValue, Malformed, Size, tmpfs};

const NOUN: &str = "mount";

/// Reads one `--mount`.
pub(super) fn read(text: &str) -> Result<Mount, Malformed> {
    let mut typed = Typed::default();
    for field in fields(NOUN, text)? {
        typed.take(text, &field)?;
    }
    typed.build(text)
}

/// What the fields say, before it is known whether they go together.
#[derive(Default)]
struct Typed {
    kind: Option<Kind>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    bind: BindFields,
    volume: VolumeFields,
    size: Option<Size>,
    mode: Option<u32>,
    ownership: Option<Ownership>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bind,
    Volume,
    Tmpfs,
}

#[derive(Default)]
struct BindFields {
    propagation: Option<Propagation>,
    recursive: Option<Recursive>,
    missing: Option<Missing>,
}

#[derive(Default)]
struct VolumeFields {
    copy: Option<Copy>,
    subpath: Option<String>,
    labels: BTreeMap<String, String>,
}

/// What becomes of what is mounted below a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recursive {
    Enabled,
    Disabled,
    Writable,
    ReadOnly,
}

impl Typed {
    fn take(&mut self, text: &str, field: &str) -> Result<(), Malformed> {
        let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
        let inner = |error: Malformed| error.within(NOUN, text);
        let (key, value) = key_value(field);
        let flag = || value.map_or(Ok(true), |value| truth("truth value", value)).map_err(inner);
        if let (
            "readonly" | "ro" | "bind-nonrecursive" | "volume-nocopy" | "bind-create-src" | "owner" | "idmap",
            _,
        ) = (key, value)
        {
            match key {
                "readonly" | "ro" => self.read_only = flag()?,
                "bind-nonrecursive" if flag()? => self.bind.recursive = Some(Recursive::Disabled),
                "bind-nonrecursive" => self.bind.recursive = Some(Recursive::Enabled),
                "volume-nocopy" => self.volume.copy = Some(if flag()? { Copy::Empty } else { Copy::Filled }),
                "bind-create-src" => {
                    self.bind.missing = Some(if flag()? { Missing::Created } else { Missing::Refused });
                }
                "owner" => self.ownership = Some(Ownership::owner(NOUN, text, value)?),
                _ => self.ownership = Some(Ownership::idmap(NOUN, text, value)?),
            }
            return Ok(());
        }
        let value = value.ok_or_else(|| wrong(&format!("{key:?} needs a value, as in {key}=VALUE")))?;
        match key {
            "type" => self.kind = Some(kind(text, value)?),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(destination(NOUN, text, value)?),
            "bind-propagation" => {
                let propagation = value.parse::<Propagation>();
                self.bind.propagation = Some(propagation.map_err(|error| wrong(&error.to_string()))?);
            }
            "bind-recursive" => {
                let words = [
                    ("enabled", Recursive::Enabled),
                    ("disabled", Recursive::Disabled),
                    ("writable", Recursive::Writable),
                    ("readonly", Recursive::ReadOnly),
                ];
                self.bind.recursive = Some(choose("recursion", value, &words).map_err(inner)?);
            }
            "volume-subpath" => self.volume.subpath = Some(subpath(NOUN, text, value)?),
            "volume-driver" if value == "local" => {}
            "volume-driver" => return Err(wrong("volumes have no drivers but local")),
            "volume-opt" => {
                return Err(wrong(
                    "volumes have no drivers but local, which takes no options: mount it on the host and bind that",
                ));
            }
            "volume-label" => insert(&mut self.volume.labels, value).map_err(inner)?,
            "tmpfs-size" => self.size = Some(tmpfs::size(text, value)?),
            "tmpfs-mode" => self.mode = Some(tmpfs::mode(text, value)?),
            // What it allows to be late is never late here.
            "consistency" => {
                let words = [("consistent", ()), ("cached", ()), ("delegated", ()), ("default", ())];
                choose("consistency", value, &words).map_err(inner)?;
            }
            _ => {
                return Err(wrong(&format!(
                    "{key:?} is no option of a mount; docker's names of them are taken, and owner and idmap"
                )));
            }
        }
        Ok(())
    }

    fn build(self, text: &str) -> Result<Mount, Malformed> {
        let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
        let Self { kind, source, target, read_only, bind, volume, size, mode, ownership } = self;
        let destination = target.ok_or_else(|| wrong("it needs a target, the place in the container"))?;
        let kind = kind.unwrap_or(Kind::Volume);
        let of_bind = bind.propagation.is_some() || bind.recursive.is_some() || bind.missing.is_some();
        let VolumeFields { copy, subpath, labels } = volume;
        let of_volume = copy.is_some() || subpath.is_some() || !labels.is_empty();
        let of_tmpfs = size.is_some() || mode.is_some();
        for (given, its, prefix) in [
            (of_bind, Kind::Bind, "bind"),
            (of_volume, Kind::Volume, "volume"),
            (of_tmpfs, Kind::Tmpfs, "tmpfs"),
        ] {
            if given && kind != its {
                return Err(wrong(&format!("options that begin with {prefix}- are for type={prefix}")));
            }
        }
        let plain = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let (access, kind) = match kind {
            Kind::Bind => self::bind(text, source, &bind, read_only, ownership)?,
            Kind::Volume => {
                let source = source.filter(|name| !name.is_empty());
                let name = source.map(|name| volume_name(NOUN, text, &name)).transpose()?;
                if subpath.is_some() && name.is_none() {
                    return Err(wrong("a path in a volume needs the volume's name as source"));
                }
                let copy = copy.unwrap_or_default();
                (plain, MountKind::Volume(Volume { name, copy, subpath, labels, ownership }))
            }
            Kind::Tmpfs if source.is_some() => return Err(wrong("a tmpfs has no source")),
            Kind::Tmpfs if ownership.is_some() => {
                return Err(wrong("a tmpfs is owned by whom --tmpfs DESTINATION:uid=N,gid=N says"));
            }
            Kind::Tmpfs => (plain, MountKind::Tmpfs(Tmpfs { size, mode, options: Vec::new() })),
        };
        Ok(Mount { destination, access, kind })
    }
}

fn kind(text: &str, value: &str) -> Result<Kind, Malformed> {
    let reason = match value {
        "bind" => return Ok(Kind::Bind),
        "volume" => return Ok(Kind::Volume),
        "tmpfs" => return Ok(Kind::Tmpfs),
        "npipe" => "named pipes are Windows'",
        "cluster" => "volumes of a cluster are swarm's",
        "image" => "mounts of images are not there yet; expected bind, volume or tmpfs",
        _ => "the type is bind, volume or tmpfs",
    };
    Err(Malformed::new(NOUN, text, reason))
}

fn bind(
    text: &str,
    source: Option<String>,
    fields: &BindFields,
    read_only: bool,
    ownership: Option<Ownership>,
) -> Result<(Access, MountKind), Malformed> {
    let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
    let BindFields { propagation, recursive, missing } = *fields;
    let source =
        source.filter(|source| !source.is_empty()).ok_or_else(|| wrong("a bind mount needs a source"))?;
    if !source.starts_with(['/', '.']) || source.contains('\0') {
        return Err(wrong("the source of a bind mount is an absolute path, or one that begins with ./"));
    }
    let access = match (recursive, read_only) {
        (Some(Recursive::Writable), true) => Access::ReadOnlyAlone,
        (Some(Recursive::ReadOnly), true) => {
            if !matches!(propagation, None | Some(Propagation::RecursivePrivate)) {
                return Err(wrong("bind-recursive=readonly goes with bind-propagation=rprivate only"));
            }
            Access::ReadOnlyTree
        }
        (Some(Recursive::Writable | Recursive::ReadOnly), false) => {
            return Err(wrong("bind-recursive=writable and bind-recursive=readonly need readonly"));
        }
        (_, true) => Access::ReadOnly,
        (_, false) => Access::ReadWrite,
    };
    let reach = if recursive == Some(Recursive::Disabled) { Reach::Alone } else { Reach::Tree };
    let missing = missing.unwrap_or(Missing::Refused);
    let source = PathBuf::from(source);
    Ok((access, MountKind::Bind(Bind { source, missing, reach, propagation, relabel: None, ownership })))
}

fn insert(map: &mut BTreeMap<String, String>, text: &str) -> Result<(), Malformed> {
    let KeyValue { key, value } = text.parse()?;
    map.insert(key, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(source: &str) -> Bind {
        Bind {
            source: source.into(),
            missing: Missing::Refused,
            reach: Reach::Tree,
            propagation: None,
            relabel: None,
            ownership: None,
        }
    }

    #[test]
    fn mounts_have_docker_s_options() {
        use Access::{ReadOnly, ReadOnlyAlone, ReadOnlyTree, ReadWrite};
        let volume = |name: &str| Volume { name: Some(name.to_owned()), ..Volume::default() };
        let part = Volume { subpath: Some("a/b".to_owned()), copy: Copy::Empty, ..volume("data") };
        let tmpfs = Tmpfs { size: Some(Size(1 << 20)), mode: Some(0o1770), options: Vec::new() };
        let slave = Bind { propagation: Some(Propagation::RecursiveSlave), ..bound("/src") };
        let alone = Bind { reach: Reach::Alone, ..bound("/src") };
        let created = Bind { missing: Missing::Created, ..bound("./src") };
        let owned =
            Bind { ownership: Some(Ownership::Owner(Some("1000:1000".parse().unwrap()))), ..bound("/src") };
        for (text, access, kind) in [
            ("target=/d", ReadWrite, MountKind::Volume(Volume::default())),
            ("type=volume,src=data,dst=/d,ro", ReadOnly, MountKind::Volume(volume("data"))),
            ("source=data,destination=/d,readonly=false", ReadWrite, MountKind::Volume(volume("data"))),
            ("src=data,dst=/d,volume-subpath=a/b,volume-nocopy", ReadWrite, MountKind::Volume(part)),
            ("type=bind,src=/src,dst=/d", ReadWrite, MountKind::Bind(bound("/src"))),
            ("type=bind,src=/src,dst=/d,ro,consistency=cached", ReadOnly, MountKind::Bind(bound("/src"))),
            (
                "type=bind,src=/src,dst=/d,ro,bind-recursive=writable",
                ReadOnlyAlone,
                MountKind::Bind(bound("/src")),
            ),
            (
                "type=bind,src=/src,dst=/d,readonly=1,bind-recursive=readonly",
                ReadOnlyTree,
                MountKind::Bind(bound("/src")),
            ),
            ("type=bind,src=/src,dst=/d,bind-nonrecursive", ReadWrite, MountKind::Bind(alone)),
            ("type=bind,src=/src,dst=/d,bind-propagation=rslave", ReadWrite, MountKind::Bind(slave)),
            ("type=bind,src=./src,dst=/d,bind-create-src", ReadWrite, MountKind::Bind(created)),
            ("type=bind,src=/src,dst=/d,owner=1000:1000", ReadWrite, MountKind::Bind(owned)),
            ("type=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=1770", ReadWrite, MountKind::Tmpfs(tmpfs)),
        ] {
            assert_eq!(read(text), Ok(Mount { destination: "/d".to_owned(), access, kind }), "{text}");
        }
    }

    #[test]
    fn other_mounts_are_refused() {
        for (text, words) in [
            ("", "\"\" needs a value"),
            ("type=bind,src=/a", "needs a target"),
            ("type=bind,dst=/a", "needs a source"),
            ("type=bind,src=a,dst=/a", "absolute path, or"),
            ("type=bind,src=/a,dst=a", "absolute path in the container"),
            ("type=bind,src=/a,dst=/", "over the container's root"),
            ("type=bind,src=/a,dst=/a,readonly=maybe", "true or false"),
            ("type=bind,src=/a,dst=/a,volume-nocopy", "for type=volume"),
            ("type=volume,dst=/a,bind-propagation=private", "for type=bind"),
            ("type=volume,dst=/a,tmpfs-size=1", "for type=tmpfs"),
            ("type=bind,src=/a,dst=/a,bind-propagation=both", "expected one of private"),
            ("type=bind,src=/a,dst=/a,bind-recursive=readonly", "need readonly"),
            ("type=bind,src=/a,dst=/a,ro,bind-recursive=readonly,bind-propagation=rshared", "rprivate only"),
            ("type=bind,src=/a,dst=/a,bind-recursive=maybe", "enabled, disabled"),
            ("type=tmpfs,dst=/a,src=/b", "no source"),
            ("type=tmpfs,dst=/a,tmpfs-mode=888", "octal"),
            ("type=tmpfs,dst=/a,owner", "owned by whom"),
            ("type=image,src=a,dst=/a", "not there yet"),
            ("type=Bind,src=/a,dst=/a", "bind, volume or tmpfs"),
            ("src=data,dst=/a,volume-driver=nfs", "no drivers but local"),
            ("src=data,dst=/a,volume-opt=type=nfs", "takes no options: mount it on the host"),
            ("src=data,dst=/a,volume-subpath=../b", "no .."),
            ("dst=/a,volume-subpath=b", "needs the volume's name"),
            ("src=/data,dst=/a", "begins with / or ./"),
            ("src=data,dst=/a,target", "needs a value"),
            ("src=data,dst=/a,foo=bar", "\"foo\" is no option"),
            ("src=data dst=/a", "needs a target"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
