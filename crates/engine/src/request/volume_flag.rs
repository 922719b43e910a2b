//! `--volume [SOURCE:]DESTINATION[:OPTIONS]`.

use std::path::PathBuf;

use super::Malformed;
use super::mount::{
    Access, Bind, Copy, Missing, Mount, MountKind, Ownership, Propagation, Reach, Relabel, Volume,
    destination, volume_name,
};

const NOUN: &str = "volume";

/// Reads one `--volume`. What begins with `/`, `.` or `~` is a path of the host, else a volume's name.
pub(super) fn read(text: &str) -> Result<Mount, Malformed> {
    let wrong = |reason: &str| Malformed::new(NOUN, text, reason);
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let (source, place, options) = match parts[..] {
        [place] => (None, place, ""),
        [source, place] => (Some(source), place, ""),
        [source, place, options] => (Some(source), place, options),
        _ => return Err(wrong("expected [SOURCE:]DESTINATION[:OPTIONS]")),
    };
    if source == Some("") {
        return Err(wrong("the source is empty; a volume without a name is DESTINATION alone"));
    }
    if source.is_some() && !place.starts_with('/') && Options::read(text, place).is_ok() {
        return Err(wrong("a volume without a name takes no options; expected SOURCE:DESTINATION:OPTIONS"));
    }
    let options = Options::read(text, options)?;
    let place = destination(NOUN, text, place)?;
    let is_path = |source: &str| source.starts_with(['/', '.', '~']);
    match source {
        Some(source) if is_path(source) => options.bind(text, source, place),
        Some(name) => options.volume(text, Some(volume_name(NOUN, text, name)?), place),
        None => options.volume(text, None, place),
    }
}

/// What stands behind the last colon, each kind at most once.
#[derive(Default)]
struct Options {
    access: Option<Access>,
    propagation: Option<Propagation>,
    reach: Option<Reach>,
    relabel: Option<Relabel>,
    copy: Option<Copy>,
    ownership: Option<Ownership>,
}

impl Options {
    fn read(text: &str, options: &str) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for option in options.split(',').filter(|_| !options.is_empty()) {
            let (key, value) =
                option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            let first = match (key, value) {
                ("rw", None) => read.access.replace(Access::ReadWrite).is_none(),
                ("ro", None) => read.access.replace(Access::ReadOnly).is_none(),
                ("rro", None) => read.access.replace(Access::ReadOnlyTree).is_none(),
                ("z", None) => read.relabel.replace(Relabel::Shared).is_none(),
                ("Z", None) => read.relabel.replace(Relabel::Private).is_none(),
                ("nocopy", None) => read.copy.replace(Copy::Empty).is_none(),
                ("copy", None) => read.copy.replace(Copy::Filled).is_none(),
                ("bind", None) => read.reach.replace(Reach::Alone).is_none(),
                ("rbind", None) => read.reach.replace(Reach::Tree).is_none(),
                // What they allow to be late is never late here.
                ("consistent" | "cached" | "delegated", None) => true,
                ("owner", user) => read.ownership.replace(Ownership::owner(NOUN, text, user)?).is_none(),
                ("idmap", maps) => read.ownership.replace(Ownership::idmap(NOUN, text, maps)?).is_none(),
                ("U", None) => {
                    let reason =
                        "files of the host do not change hands; owner shows them as the container user's";
                    return Err(Malformed::new(NOUN, text, reason));
                }
                ("O", None) => {
                    return Err(Malformed::new(
                        NOUN,
                        text,
                        "overlays on volumes are not there; --rootfs DIR:O has one",
                    ));
                }
                (word, None) => {
                    let propagation = word.parse().map_err(|_| unknown(text, option))?;
                    read.propagation.replace(propagation).is_none()
                }
                _ => return Err(unknown(text, option)),
            };
            if !first {
                return Err(Malformed::new(
                    NOUN,
                    text,
                    format!("{option:?} contradicts an option before it"),
                ));
            }
        }
        Ok(read)
    }

    fn bind(self, text: &str, source: &str, destination: String) -> Result<Mount, Malformed> {
        let Self { access, propagation, reach, relabel, copy, ownership } = self;
        let wrong = |reason: &str| Err(Malformed::new(NOUN, text, reason));
        if copy.is_some() {
            return wrong("copy and nocopy are for volumes, and this is a path of the host");
        }
        if source.starts_with('~') || source.contains('\0') {
            return wrong(
                "expected an absolute path, or one that begins with ./ (a shell replaces ~ only in front)",
            );
        }
        let access = access.unwrap_or_default();
        let private = matches!(propagation, None | Some(Propagation::RecursivePrivate));
        if access == Access::ReadOnlyTree && !private {
            return wrong(
                "what appears below a mount that receives others cannot be made read-only: leave the propagation out",
            );
        }
        let kind = MountKind::Bind(Bind {
            source: PathBuf::from(source),
            missing: Missing::Created,
            reach: reach.unwrap_or_default(),
            propagation,
            relabel,
            ownership,
        });
        Ok(Mount { destination, access, kind })
    }

    fn volume(self, text: &str, name: Option<String>, destination: String) -> Result<Mount, Malformed> {
        let Self { access, propagation, reach, relabel: _, copy, ownership } = self;
        if propagation.is_some() || reach.is_some() {
            return Err(Malformed::new(
                NOUN,
                text,
                "propagation, bind and rbind are for paths of the host, not for volumes",
            ));
        }
        // Volumes are labelled by whoever makes them, so that `z` and `Z` hold already.
        let kind = MountKind::Volume(Volume {
            name,
            copy: copy.unwrap_or_default(),
            ownership,
            ..Volume::default()
        });
        Ok(Mount { destination, access: access.unwrap_or_default(), kind })
    }
}

fn unknown(text: &str, option: &str) -> Malformed {
    let reason = format!(
        "{option:?} is none of ro, rw, rro, nocopy, bind, rbind, z, Z, owner, idmap, \
         and private, shared, slave with or without r in front"
    );
    Malformed::new(NOUN, text, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: Option<&str>) -> Volume {
        Volume { name: name.map(str::to_owned), ..Volume::default() }
    }

    fn bound(source: &str) -> Bind {
        Bind {
            source: source.into(),
            missing: Missing::Created,
            reach: Reach::Tree,
            propagation: None,
            relabel: None,
            ownership: None,
        }
    }

    #[test]
    fn volumes_have_docker_s_forms() {
        use Access::{ReadOnly, ReadOnlyTree, ReadWrite};
        let empty = Volume { copy: Copy::Empty, ..volume(Some("data")) };
        let shared = Bind { propagation: Some(Propagation::RecursiveShared), ..bound("/src") };
        let labelled = Bind { relabel: Some(Relabel::Private), reach: Reach::Alone, ..bound("/src") };
        let owned = Bind { ownership: Some(Ownership::Owner(None)), ..bound("./src") };
        let by_name =
            Bind { ownership: Some(Ownership::Owner(Some("app:adm".parse().unwrap()))), ..bound("/src") };
        for (text, destination, access, kind) in [
            ("/data", "/data", ReadWrite, MountKind::Volume(volume(None))),
            ("data:/data", "/data", ReadWrite, MountKind::Volume(volume(Some("data")))),
            ("data:/data:ro,nocopy", "/data", ReadOnly, MountKind::Volume(empty)),
            ("data:/data:z", "/data", ReadWrite, MountKind::Volume(volume(Some("data")))),
            ("/src:/dst", "/dst", ReadWrite, MountKind::Bind(bound("/src"))),
            ("/src:/dst:", "/dst", ReadWrite, MountKind::Bind(bound("/src"))),
            ("/src:/dst/:ro", "/dst", ReadOnly, MountKind::Bind(bound("/src"))),
            ("/src:/dst:rro,cached", "/dst", ReadOnlyTree, MountKind::Bind(bound("/src"))),
            ("./src:/dst:owner", "/dst", ReadWrite, MountKind::Bind(owned)),
            ("/src:/dst:owner=app:adm", "/dst", ReadWrite, MountKind::Bind(by_name)),
            ("/src:/dst:rshared", "/dst", ReadWrite, MountKind::Bind(shared)),
            ("/src:/dst:Z,bind", "/dst", ReadWrite, MountKind::Bind(labelled)),
            ("..:/dst", "/dst", ReadWrite, MountKind::Bind(bound(".."))),
        ] {
            let expected = Mount { destination: destination.to_owned(), access, kind };
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_volumes_are_refused() {
        for (text, words) in [
            ("", "absolute path in the container"),
            ("data", "absolute path in the container"),
            ("/", "over the container's root"),
            ("/src:/", "over the container's root"),
            ("/src:/..", "over the container's root"),
            (":/dst", "the source is empty"),
            ("/dst:ro", "takes no options"),
            ("/src:dst", "absolute path in the container"),
            ("/src:/dst:ro,rw", "contradicts"),
            ("/src:/dst:z,Z", "contradicts"),
            ("/src:/dst:private,shared", "contradicts"),
            ("/src:/dst:nocopy", "for volumes"),
            ("data:/dst:rshared", "paths of the host"),
            ("/src:/dst:foo", "\"foo\" is none of"),
            ("/src:/dst:RO", "is none of"),
            ("/src:/dst:ro:x", "is none of"),
            ("/src:/dst:ro=1", "is none of"),
            ("/src:/dst:U", "owner shows them"),
            ("/src:/dst:O", "overlays"),
            ("/src:/dst:rro,rslave", "leave the propagation out"),
            ("d:/dst", "is no name of a volume"),
            ("-data:/dst", "is no name of a volume"),
            ("a/b:/dst", "begins with / or ./"),
            ("~/src:/dst", "a shell replaces ~"),
            ("/src:/dst:owner=", "expected owner"),
            ("/src:/dst:idmap=uids=0-1", "expected idmap"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn ids_can_be_mapped() {
        let read = read("/src:/dst:idmap=uids=0-1000-1#1-1-999;gids=0-100-10").unwrap();
        let MountKind::Bind(Bind { ownership: Some(Ownership::Ranges { uids, gids }), .. }) = read.kind
        else {
            panic!("ranges: {read:?}")
        };
        assert_eq!((uids.len(), uids[1].size, gids[0].host_id), (2, 999, 100));
    }
}
