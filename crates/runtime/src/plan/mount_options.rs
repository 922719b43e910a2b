//! The options of a mount: which are attributes, which propagation, and which belong to the file system.

use bulkhead_sys::mount::{Propagation, Reach, attribute};

/// What the options of one mount say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `bind` or `rbind`.
    pub bind: Option<Reach>,
    /// `remount`: the attributes of what is mounted there change.
    pub remount: bool,
    /// Attributes of the mount itself.
    pub attributes: Change,
    /// Whether any word was one of mount(2)'s flags.
    is_flagged: bool,
    atime: Atime,
    /// Attributes of the mount and all below it.
    pub recursive: Change,
    recursive_atime: Atime,
    /// Propagation, in the order given.
    pub propagation: Vec<(Propagation, Reach)>,
    /// Flags of the file system rather than the mount, such as `sync` and `async`, in the order given.
    pub filesystem_flags: Vec<&'static str>,
    /// `tmpcopyup`: what the tmpfs hides is copied into it.
    pub copy_up: bool,
    /// `copy-symlink`: a source that is a link is not followed, and made again.
    pub copy_link: bool,
    /// `mount-namespace`: the source is a mount namespace, of which the root is bound.
    pub of_namespace: bool,
    /// `idmap` or `ridmap`.
    pub idmap: Option<Reach>,
    /// Everything else, for the file system: key and value.
    pub data: Vec<(String, Option<String>)>,
}

/// What words say of the access times, of which there is one setting.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Atime {
    /// Nothing.
    #[default]
    Unsaid,
    /// It is this one.
    Chosen(u64),
    /// It is not what was said before, or what would be.
    TakenBack,
}

/// Bits to set and to clear.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

impl Change {
    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    /// Chooses one of the access-time settings, which are values of one field.
    fn set_atime(&mut self, value: u64) {
        self.set = self.set & !attribute::ATIME | value;
        self.clear |= attribute::ATIME;
    }
}

impl Options {
    /// Decides the access times. What is mounted, bound or mounted again keeps what it has unless a setting was chosen; a new
    /// file system has relatime of its own. For a whole tree, to take a setting back leaves the same.
    fn settle_atime(&mut self) {
        if let Atime::Chosen(value) = self.atime {
            self.attributes.set_atime(value);
        }
        match self.recursive_atime {
            Atime::Unsaid => {}
            Atime::Chosen(value) => self.recursive.set_atime(value),
            Atime::TakenBack => self.recursive.set_atime(attribute::RELATIME),
        }
    }

    /// What the mount becomes if it is a bind mount, and which bits are cleared besides where no lock forbids that.
    ///
    /// As under runc: with no flag it stays what its source is; with one it has what the flags say, and nothing else of
    /// its source but the access times, which only another choice of them changes. In a user namespace attributes of the
    /// host are locked: what was not named stays then, and what was named fails.
    pub fn bound(&self) -> (Change, u64) {
        if !self.is_flagged {
            return (Change::default(), 0);
        }
        let mut set = self.attributes.set & !attribute::ATIME;
        let mut clear = self.attributes.clear & LOCKABLE | attribute::NOSYMFOLLOW & !set;
        let chosen = match self.atime {
            Atime::Chosen(value) => Some(value),
            Atime::Unsaid | Atime::TakenBack => None,
        };
        if chosen.is_some() || set & attribute::NODIRATIME != 0 {
            clear |= attribute::ATIME | attribute::NODIRATIME & !set;
            set |= chosen.unwrap_or(attribute::RELATIME);
        }
        (Change { set, clear }, LOCKABLE & !set & !clear)
    }
}

/// What a user namespace cannot take back, but for the access times.
const LOCKABLE: u64 = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;

/// What one word does.
enum Effect {
    Set(u64),
    Clear(u64),
    Atime(u64),
    /// Takes this setting back; another that was chosen before stays.
    AtimeBack(u64),
    Propagate(Propagation, Reach),
    Filesystem(&'static str),
    /// A flag of mount(2) that changes nothing to be seen.
    Unseen,
    Nothing,
}

/// Reads the options of one mount; a later word wins over an earlier one.
pub fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        apply(&mut parsed, option);
    }
    parsed.settle_atime();
    parsed
}

fn apply(parsed: &mut Options, option: &str) {
    match option {
        // podman writes one with --systemd=always; mount(2) ignores what stands between two commas, fsconfig(2) not.
        "" => {}
        "bind" => parsed.bind = parsed.bind.or(Some(Reach::Mount)),
        "rbind" => parsed.bind = Some(Reach::Tree),
        "remount" => parsed.remount = true,
        "tmpcopyup" => parsed.copy_up = true,
        "copy-symlink" => parsed.copy_link = true,
        "mount-namespace" => parsed.of_namespace = true,
        "idmap" => parsed.idmap = Some(Reach::Mount),
        "ridmap" => parsed.idmap = Some(Reach::Tree),
        _ => {
            if let Some(effect) = effect(option) {
                parsed.is_flagged |= !matches!(effect, Effect::Propagate(..) | Effect::Nothing);
                perform(
                    (&mut parsed.attributes, &mut parsed.atime),
                    &mut parsed.propagation,
                    &mut parsed.filesystem_flags,
                    &effect,
                );
            } else if let Some(effect) = option.strip_prefix('r').and_then(recursive_effect) {
                perform(
                    (&mut parsed.recursive, &mut parsed.recursive_atime),
                    &mut parsed.propagation,
                    &mut parsed.filesystem_flags,
                    &effect,
                );
            } else {
                let (key, value) =
                    option.split_once('=').map_or((option, None), |(k, v)| (k, Some(v.to_owned())));
                parsed.data.push((key.to_owned(), value));
            }
        }
    }
}

fn perform(
    (change, atime): (&mut Change, &mut Atime),
    propagation: &mut Vec<(Propagation, Reach)>,
    filesystem: &mut Vec<&'static str>,
    effect: &Effect,
) {
    match *effect {
        Effect::Set(bits) => change.set(bits),
        Effect::Clear(bits) => change.clear(bits),
        Effect::Atime(value) => *atime = Atime::Chosen(value),
        Effect::AtimeBack(back) => match *atime {
            Atime::Chosen(value) if value != back => {}
            _ => *atime = Atime::TakenBack,
        },
        Effect::Propagate(kind, reach) => propagation.push((kind, reach)),
        Effect::Filesystem(flag) => filesystem.push(flag),
        Effect::Unseen | Effect::Nothing => {}
    }
}

/// The words of mount(8) and of the specification's table (config.md, "Linux mount options").
fn effect(word: &str) -> Option<Effect> {
    use Effect::{Atime, AtimeBack, Clear, Filesystem, Nothing, Propagate, Set, Unseen};
    use attribute::{NOATIME, RELATIME, STRICTATIME};
    Some(match word {
        "private" => Propagate(Propagation::Private, Reach::Mount),
        "rprivate" => Propagate(Propagation::Private, Reach::Tree),
        "shared" => Propagate(Propagation::Shared, Reach::Mount),
        "rshared" => Propagate(Propagation::Shared, Reach::Tree),
        "slave" => Propagate(Propagation::Slave, Reach::Mount),
        "rslave" => Propagate(Propagation::Slave, Reach::Tree),
        "unbindable" => Propagate(Propagation::Unbindable, Reach::Mount),
        "runbindable" => Propagate(Propagation::Unbindable, Reach::Tree),
        "ro" => Set(attribute::RDONLY),
        "rw" => Clear(attribute::RDONLY),
        "nosuid" => Set(attribute::NOSUID),
        "suid" => Clear(attribute::NOSUID),
        "nodev" => Set(attribute::NODEV),
        "dev" => Clear(attribute::NODEV),
        "noexec" => Set(attribute::NOEXEC),
        "exec" => Clear(attribute::NOEXEC),
        "nodiratime" => Set(attribute::NODIRATIME),
        "diratime" => Clear(attribute::NODIRATIME),
        "nosymfollow" => Set(attribute::NOSYMFOLLOW),
        "symfollow" => Clear(attribute::NOSYMFOLLOW),
        "noatime" => Atime(NOATIME),
        "relatime" => Atime(RELATIME),
        "strictatime" => Atime(STRICTATIME),
        "atime" => AtimeBack(NOATIME),
        "norelatime" => AtimeBack(RELATIME),
        "nostrictatime" => AtimeBack(STRICTATIME),
        "sync" => Filesystem("sync"),
        "dirsync" => Filesystem("dirsync"),
        "lazytime" => Filesystem("lazytime"),
        "mand" => Filesystem("mand"),
        "async" => Filesystem("async"),
        "nolazytime" => Filesystem("nolazytime"),
        "nomand" => Filesystem("nomand"),
        "silent" | "loud" | "iversion" | "noiversion" => Unseen,
        "defaults" | "acl" | "noacl" => Nothing,
        _ => return None,
    })
}

/// The words that have a recursive form: attributes only.
fn recursive_effect(word: &str) -> Option<Effect> {
    effect(word).filter(|effect| {
        matches!(effect, Effect::Set(_) | Effect::Clear(_) | Effect::Atime(_) | Effect::AtimeBack(..))
    })
}

/// Lists the words that are attributes, propagation or extensions, for the features document.
pub fn known() -> Vec<String> {
    const WORDS: &[&str] = &[
        "acl",
        "async",
        "atime",
        "bind",
        "copy-symlink",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "idmap",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "mount-namespace",
        "noacl",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "rbind",
        "relatime",
        "remount",
        "ridmap",
        "ro",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
    ];
    let recursive =
        WORDS.iter().filter(|word| recursive_effect(word).is_some()).map(|word| format!("r{word}"));
    let mut words: Vec<String> = WORDS.iter().map(ToString::to_string).chain(recursive).collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Options {
        parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn attributes_set_and_clear_and_the_last_word_wins() {
        assert_eq!(
            parsed("ro,nosuid,rw").attributes,
            Change { set: attribute::NOSUID, clear: attribute::RDONLY }
        );
    }

    #[test]
    fn an_empty_word_is_none() {
        assert_eq!(parsed(""), Options::default());
        assert_eq!(parsed("size=1m,,").data, vec![("size".to_owned(), Some("1m".to_owned()))]);
    }

    #[test]
    fn access_times_are_one_field() {
        let change = parsed("noatime,strictatime").attributes;
        assert_eq!(change, Change { set: attribute::STRICTATIME, clear: attribute::ATIME });
        for (words, left) in [
            ("atime", None),
            ("norelatime", None),
            ("noatime,atime", None),
            ("strictatime,atime", Some(attribute::STRICTATIME)),
            ("noatime,norelatime", Some(attribute::NOATIME)),
            ("relatime,norelatime", None),
            ("strictatime,nostrictatime", None),
            ("nostrictatime,noatime", Some(attribute::NOATIME)),
        ] {
            let change = left.map(|set| Change { set, clear: attribute::ATIME });
            assert_eq!(parsed(words).attributes, change.unwrap_or_default(), "{words}");
            // A tree has no setting of its own that could stay.
            let recursive = format!("r{}", words.replace(',', ",r"));
            let change = Change { set: left.unwrap_or(attribute::RELATIME), clear: attribute::ATIME };
            assert_eq!(parsed(&recursive).recursive, change, "{recursive}");
        }
    }

    #[test]
    fn recursive_forms_are_kept_apart_and_rprivate_is_propagation() {
        let options = parsed("rro,rprivate,rbind");
        assert_eq!(options.recursive, Change { set: attribute::RDONLY, clear: 0 });
        assert_eq!(options.propagation, vec![(Propagation::Private, Reach::Tree)]);
        assert_eq!(options.bind, Some(Reach::Tree));
    }

    #[test]
    fn relatime_is_not_a_recursive_elatime() {
        assert_eq!(parsed("relatime").attributes, Change { set: 0, clear: attribute::ATIME });
        assert_eq!(parsed("rrelatime").recursive, Change { set: 0, clear: attribute::ATIME });
    }

    #[test]
    fn a_bind_mount_with_a_flag_has_those_alone() {
        use attribute::{ATIME, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY};
        let nothing = (Change::default(), 0);
        assert_eq!(parsed("rbind,rprivate,rro,defaults").bound(), nothing);
        let change = |set, clear| Change { set, clear };
        for word in ["async", "atime", "diratime", "silent", "symfollow"] {
            assert_eq!(parsed(word).bound(), (change(0, NOSYMFOLLOW), LOCKABLE), "{word} is a flag");
        }
        assert_eq!(parsed("ro,nosuid").bound(), (change(RDONLY | NOSUID, NOSYMFOLLOW), NODEV | NOEXEC));
        let named = (change(NODEV, RDONLY | NOSYMFOLLOW), NOSUID | NOEXEC);
        assert_eq!(parsed("rw,nodev").bound(), named, "what is named is no affair of locks");
        assert_eq!(parsed("nosymfollow").bound(), (change(NOSYMFOLLOW, 0), LOCKABLE));
        let times = ATIME | NOSYMFOLLOW;
        assert_eq!(parsed("noatime").bound().0, change(NOATIME, times | NODIRATIME));
        assert_eq!(parsed("nodiratime").bound().0, change(NODIRATIME, times), "relatime comes along");
        assert_eq!(parsed("noatime,atime").bound().0, change(0, NOSYMFOLLOW), "taken back");
        assert_eq!(parsed("noatime,norelatime").bound().0, change(NOATIME, times | NODIRATIME));
    }

    #[test]
    fn other_words_belong_to_the_file_system() {
        let data = parsed("mode=755,size=64k,inode64").data;
        let expected = [("mode", Some("755")), ("size", Some("64k")), ("inode64", None)];
        assert_eq!(data, expected.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))));
    }
}
