//! Networks as administrators describe them: files of a directory, by convention `/etc/cni/net.d`.
//!
//! A file is a list of plugins with a name (`.conflist`), or a single plugin with the network's name beside its own settings (`.conf`,
//! `.json`); what it is, its members tell. To a list belong the plugins of `NAME/*.conf` beside it, unless it says
//! `loadOnlyInlinedPlugins`. Members that are not known here are kept and given to the plugin as they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::error::{Doing as _, Error, Result};
use super::key::check_name;
use super::version::Version;

/// Where networks are described, unless an administrator has them elsewhere.
pub const DIRECTORY: &str = "/etc/cni/net.d";
/// Where plugins are: as their authors, Debian and Fedora have them.
pub const PLUGINS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// Bytes of a file at most.
const LARGEST: u64 = 1 << 20;
/// What files with networks end with.
const EXTENSIONS: [&str; 3] = ["conflist", "conf", "json"];
/// The version of who does not tell one.
const OLDEST: Version = Version::V0_1_0;

/// The networks that are described in a directory.
#[derive(Debug)]
pub struct Networks {
    directory: PathBuf,
    /// In the order of the files' names. Of several with one name the first counts.
    pub lists: Vec<List>,
    /// What is wrong with other files.
    pub refused: Vec<Error>,
}

impl Networks {
    /// Reads all files of a directory; one that is not there has none.
    ///
    /// # Errors
    /// When the directory cannot be listed. A file that is wrong is among [`Networks::refused`].
    pub fn read(directory: &Path) -> Result<Self> {
        let mut networks = Self { directory: directory.to_owned(), lists: Vec::new(), refused: Vec::new() };
        for file in files(directory, &EXTENSIONS)? {
            match List::read_file(&file) {
                Ok(list) if networks.lists.iter().any(|other| other.name == list.name) => {
                    let reason = format!("is {}, which a file before it describes", list.name);
                    networks.refused.push(Error::Config { file, field: "name".to_owned(), reason });
                }
                Ok(list) => networks.lists.push(list),
                Err(error) => networks.refused.push(error),
            }
        }
        Ok(networks)
    }

    /// Finds a network by its name.
    ///
    /// # Errors
    /// [`Error::NotFound`], with the names of others and what is wrong with files.
    pub fn find(&self, name: &str) -> Result<&List> {
        self.lists.iter().find(|list| list.name == name).ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
            directory: self.directory.clone(),
            known: Vec::from_iter(self.lists.iter().map(|list| list.name.clone())),
            refused: Vec::from_iter(self.refused.iter().map(Error::told)),
        })
    }
}

/// A network: its plugins, in the order in which they are added.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// The file that describes it.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
    /// The versions of the specification that it is written for and that are known here, the oldest first; at least one.
    pub versions: Vec<Version>,
    /// Whether CHECK is never to be asked.
    pub has_no_check: bool,
    /// Whether GC is never to be asked.
    pub has_no_collection: bool,
    /// At least one.
    pub plugins: Vec<Plugin>,
}

/// A plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its type, which is the name of its program.
    pub kind: String,
    /// What it takes for single attachments, as `portMappings`.
    pub capabilities: BTreeSet<String>,
    /// Its settings, without what only we read.
    pub(super) settings: Map<String, Value>,
}

impl List {
    /// Reads the text of a file, of which `file` is told in errors only. What lies beside that is not looked at.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn read(text: &[u8], file: &Path) -> Result<Self> {
        let (list, _) = Self::read_some(text, file)?;
        list.unless_empty(file)
    }

    /// Tells whether a plugin of it takes something, as `portMappings`.
    #[must_use]
    pub fn takes(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.capabilities.contains(capability))
    }

    /// Returns the subnets from which its containers get addresses, as far as its file says so, each with its router's address if that
    /// is said: what `host-local` and `static` are told, and others that take the same words.
    #[must_use]
    pub fn subnets(&self) -> Vec<(IpNet, Option<IpAddr>)> {
        let managers = self.plugins.iter().filter_map(|plugin| plugin.settings.get("ipam")?.as_object());
        let mut subnets = Vec::new();
        for manager in managers {
            let each = |name: &str| manager.get(name).and_then(Value::as_array).into_iter().flatten();
            let ranges = each("ranges").filter_map(Value::as_array).flatten().filter_map(Value::as_object);
            let addresses = each("addresses").filter_map(Value::as_object);
            let all = std::iter::once(manager).chain(ranges).chain(addresses);
            subnets.extend(all.filter_map(|said| {
                let text = |name: &str| said.get(name).and_then(Value::as_str);
                let subnet: IpNet = text("subnet").or_else(|| text("address"))?.parse().ok()?;
                Some((subnet.trunc(), text("gateway").and_then(|gateway| gateway.parse().ok())))
            }));
        }
        subnets
    }

    fn read_file(file: &Path) -> Result<Self> {
        let (mut list, more) = Self::read_some(&contents(file)?, file)?;
        if more == More::Beside {
            for file in files(&file.with_file_name(&list.name), &["conf"])? {
                let document = object(&contents(&file)?, &file)?;
                list.plugins.push(Plugin::read(document, Field { file: &file, within: "" })?);
            }
        }
        list.unless_empty(file)
    }

    fn unless_empty(self, file: &Path) -> Result<Self> {
        if !self.plugins.is_empty() {
            return Ok(self);
        }
        let reason = "is missing, and no plugin lies in a directory with the network's name";
        Err(Field { file, within: "" }.wrong("plugins", reason))
    }

    fn read_some(text: &[u8], file: &Path) -> Result<(Self, More)> {
        let mut document = object(text, file)?;
        let top = Field { file, within: "" };
        let name = top.text(&document, "name")?;
        check_name("network", name).map_err(|error| match error {
            Error::Name { value, reason, .. } => top.wrong("name", format!("{value:?} {reason}")),
            other => other,
        })?;
        let mut list = Self {
            file: file.to_owned(),
            name: name.to_owned(),
            versions: versions(&document, top)?,
            has_no_check: top.flag(&document, "disableCheck")?,
            has_no_collection: top.flag(&document, "disableGC")?,
            plugins: Vec::new(),
        };
        if document.contains_key("type") && !document.contains_key("plugins") {
            list.plugins.push(Plugin::read(document, top)?);
            return Ok((list, More::Nowhere));
        }
        let is_whole = top.flag(&document, "loadOnlyInlinedPlugins")?;
        let plugins = match document.remove("plugins") {
            None if is_whole => {
                return Err(top.wrong("plugins", "is missing, though loadOnlyInlinedPlugins is set"));
            }
            None => Vec::new(),
            Some(Value::Array(plugins)) if !plugins.is_empty() => plugins,
            Some(Value::Array(_)) => return Err(top.wrong("plugins", "is empty")),
            Some(_) => return Err(top.wrong("plugins", "is no list")),
        };
        for (index, plugin) in plugins.into_iter().enumerate() {
            let within = format!("plugins[{index}]");
            let Value::Object(plugin) = plugin else { return Err(top.wrong(&within, "is no object")) };
            list.plugins.push(Plugin::read(plugin, Field { file, within: &within })?);
        }
        Ok((list, if is_whole { More::Nowhere } else { More::Beside }))
    }

    /// Writes it down as a file that is read as the same.
    #[must_use]
    pub fn document(&self) -> Value {
        let Self { file: _, name, versions, has_no_check, has_no_collection, plugins } = self;
        let plugins = Vec::from_iter(plugins.iter().map(|plugin| {
            let Plugin { kind: _, capabilities, settings } = plugin;
            let mut document = settings.clone();
            if !capabilities.is_empty() {
                let taken = capabilities.iter().map(|capability| (capability.clone(), Value::Bool(true)));
                document.insert("capabilities".to_owned(), Value::Object(taken.collect()));
            }
            document
        }));
        json!({
            "name": name,
            "cniVersions": Vec::from_iter(versions.iter().map(|version| version.as_str())),
            "disableCheck": has_no_check,
            "disableGC": has_no_collection,
            "loadOnlyInlinedPlugins": true,
            "plugins": plugins,
        })
    }
}

/// Where more plugins of a list are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    Nowhere,
    /// In the directory beside its file that has its name.
    Beside,
}

impl Plugin {
    fn read(mut document: Map<String, Value>, field: Field<'_>) -> Result<Self> {
        let kind = field.text(&document, "type")?.to_owned();
        field.check_program("type", &kind)?;
        if let Some(ipam) = document.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str)
            && !ipam.is_empty()
        {
            field.check_program("ipam.type", ipam)?;
        }
        let mut capabilities = BTreeSet::new();
        match document.remove("capabilities") {
            None | Some(Value::Null) => {}
            Some(Value::Object(wanted)) => {
                for (name, is_taken) in wanted {
                    let at = || format!("capabilities.{name}");
                    match is_taken {
                        Value::Bool(true) => drop(capabilities.insert(name)),
                        Value::Bool(false) => {}
                        _ => return Err(field.wrong(&at(), "is neither true nor false")),
                    }
                }
            }
            Some(_) => return Err(field.wrong("capabilities", "is no object")),
        }
        // These are ours to give, and mean something only for one attachment.
        document.retain(|key, _| key != "prevResult" && !key.starts_with("cni.dev/"));
        Ok(Self { kind, capabilities, settings: document })
    }
}

/// Where a member of a file stands, to be named in errors.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    file: &'a Path,
    /// The object with it; nothing for the file's own.
    within: &'a str,
}

impl Field<'_> {
    fn wrong(&self, field: &str, reason: impl Into<String>) -> Error {
        let dot = if self.within.is_empty() { "" } else { "." };
        let field = format!("{}{dot}{field}", self.within);
        Error::Config { file: self.file.to_owned(), field, reason: reason.into() }
    }

    /// A text that must be there.
    fn text<'d>(&self, document: &'d Map<String, Value>, field: &str) -> Result<&'d str> {
        match document.get(field) {
            None | Some(Value::Null) => Err(self.wrong(field, "is missing")),
            Some(Value::String(text)) if text.is_empty() => Err(self.wrong(field, "is empty")),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.wrong(field, "is no text")),
        }
    }

    /// A switch, which other clients take as a word, too.
    fn flag(&self, document: &Map<String, Value>, field: &str) -> Result<bool> {
        match document.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(is_so)) => Ok(*is_so),
            Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(word)) if word.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.wrong(field, "is neither true nor false")),
        }
    }

    /// Checks the name of a program, which is sought in the directories for plugins and nowhere else.
    fn check_program(&self, field: &str, name: &str) -> Result<()> {
        if is_program(name) {
            return Ok(());
        }
        Err(self.wrong(field, format!("is {name:?}, which is no name of a program, as bridge is")))
    }
}

/// Tells whether a name is that of a program in a directory, and leads to nowhere else.
pub(super) fn is_program(name: &str) -> bool {
    let is_odd = |letter: char| matches!(letter, '/' | '\\') || letter.is_control();
    (1..=255).contains(&name.len()) && name != "." && name != ".." && !name.contains(is_odd)
}

/// Reads `cniVersion` and `cniVersions`: the known ones of all that stand there.
fn versions(document: &Map<String, Value>, top: Field<'_>) -> Result<Vec<Version>> {
    let mut named = Vec::new();
    match document.get("cniVersion") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => named.push(text.as_str()),
        Some(_) => return Err(top.wrong("cniVersion", "is no text")),
    }
    match document.get("cniVersions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(texts)) => {
            for (index, text) in texts.iter().enumerate() {
                let text = text.as_str();
                named.push(text.ok_or_else(|| top.wrong(&format!("cniVersions[{index}]"), "is no text"))?);
            }
        }
        Some(_) => return Err(top.wrong("cniVersions", "is no list")),
    }
    if named.is_empty() {
        return Ok(vec![OLDEST]);
    }
    let mut known = Vec::from_iter(named.iter().filter_map(|text| Version::read(text)));
    known.sort_unstable();
    known.dedup();
    if !known.is_empty() {
        return Ok(known);
    }
    let all = Version::ALL.map(Version::as_str).join(", ");
    Err(top.wrong("cniVersion", format!("is {}, and known are {all}", named.join(", "))))
}

fn object(text: &[u8], file: &Path) -> Result<Map<String, Value>> {
    let wrong = |field: String, reason: String| Error::Config { file: file.to_owned(), field, reason };
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("line 1".to_owned(), "is no JSON object".to_owned())),
        Err(error) => Err(wrong(format!("line {}", error.line()), format!("is no JSON: {error}"))),
    }
}

/// Lists the files of a directory that end so, in the order of their names; none of a directory that is not there.
fn files(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let doing = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.doing(doing)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.doing(doing)?.path();
        let ends = path.extension().and_then(|end| end.to_str()).is_some_and(|end| extensions.contains(&end));
        if ends && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn contents(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut text));
    let length = opened.doing(|| format!("read {}", file.display()))?;
    if u64::try_from(length).is_ok_and(|length| length <= LARGEST) {
        return Ok(text);
    }
    let reason = format!("is larger than {LARGEST} bytes");
    Err(Error::Config { file: file.to_owned(), field: "the file".to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    fn read(text: &str) -> Result<List> {
        List::read(text.as_bytes(), Path::new("/etc/cni/net.d/10-a.conflist"))
    }

    #[test]
    fn a_list_keeps_what_is_not_ours_to_know() {
        let text = r#"{
            "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"], "name": "office", "disableCheck": "TRUE",
            "plugins": [
                {"type": "bridge", "ipam": {"type": "host-local", "x": [1, {"y": null}]}, "prevResult": {}, "cni.dev/x": 1,
                 "args": {"cni": {"labels": []}}},
                {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}, "snat": true}
            ]
        }"#;
        let list = read(text).unwrap();
        assert_eq!((list.name.as_str(), list.has_no_check, list.has_no_collection), ("office", true, false));
        assert_eq!(list.versions, [Version::V0_4_0, Version::V1_0_0, Version::V1_1_0]);
        assert_eq!(
            Value::Object(list.plugins[0].settings.clone()),
            json!({
                "type": "bridge", "ipam": {"type": "host-local", "x": [1, {"y": null}]}, "args": {"cni": {"labels": []}}
            })
        );
        assert_eq!(Value::Object(list.plugins[1].settings.clone()), json!({"type": "portmap", "snat": true}));
        assert!(list.takes("portMappings") && !list.takes("mac"));
        assert_eq!(read(&list.document().to_string()).unwrap(), list, "written and read the same");
    }

    #[test]
    fn subnets_are_those_of_which_the_file_tells() {
        let said = |ipam: &str| {
            let list = read(&format!(r#"{{"name": "a", "type": "bridge", "ipam": {ipam}}}"#)).unwrap();
            Vec::from_iter(list.subnets().into_iter().map(|(subnet, gateway)| {
                format!("{subnet} {}", gateway.map_or_else(String::new, |gateway| gateway.to_string()))
            }))
        };
        let single = r#"{"type": "host-local", "subnet": "10.1.0.0/16", "gateway": "10.1.0.9"}"#;
        assert_eq!(said(single), ["10.1.0.0/16 10.1.0.9"]);
        let several = r#"{"type": "host-local", "ranges": [[{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}], 1]}"#;
        assert_eq!(said(several), ["10.2.0.0/24 ", "fd00::/64 "]);
        let fixed = r#"{"type": "static", "addresses": [{"address": "10.3.0.7/24", "gateway": "10.3.0.1"}]}"#;
        assert_eq!(said(fixed), ["10.3.0.0/24 10.3.0.1"]);
        for nothing in [r#"{"type": "dhcp"}"#, r#"{"subnet": "x", "ranges": {}}"#, "{}", "[]"] {
            assert!(said(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let list = read(r#"{"name": "lo", "type": "loopback"}"#).unwrap();
        assert_eq!((list.versions.as_slice(), list.plugins.len()), (&[Version::V0_1_0][..], 1));
        assert_eq!(read(&list.document().to_string()).unwrap(), list, "written and read the same");
    }

    #[test]
    fn what_is_wrong_is_named_by_file_and_field() {
        for (text, wrong) in [
            ("", "line 1 is no JSON: EOF"),
            ("[]", "line 1 is no JSON object"),
            ("{\"name\":\n \"a\",}", "line 2 is no JSON: trailing comma"),
            ("{}", "name is missing"),
            (r#"{"name": 1}"#, "name is no text"),
            (r#"{"name": "../a"}"#, "name \"../a\" must begin with a letter"),
            (r#"{"name": "a"}"#, "plugins is missing, and no plugin lies"),
            (r#"{"name": "a", "loadOnlyInlinedPlugins": true}"#, "plugins is missing, though"),
            (r#"{"name": "a", "plugins": []}"#, "plugins is empty"),
            (r#"{"name": "a", "plugins": {}}"#, "plugins is no list"),
            (r#"{"name": "a", "plugins": [1]}"#, "plugins[0] is no object"),
            (r#"{"name": "a", "plugins": [{"type": "x"}, {}]}"#, "plugins[1].type is missing"),
            (r#"{"name": "a", "plugins": [{"type": "/bin/sh"}]}"#, "plugins[0].type is \"/bin/sh\", which"),
            (r#"{"name": "a", "plugins": [{"type": ".."}]}"#, "plugins[0].type is \"..\", which"),
            (r#"{"name": "a", "type": "x", "ipam": {"type": "../y"}}"#, "ipam.type is \"../y\", which"),
            (r#"{"name": "a", "type": "x", "capabilities": []}"#, "capabilities is no object"),
            (r#"{"name": "a", "type": "x", "capabilities": {"mac": 1}}"#, "capabilities.mac is neither"),
            (
                r#"{"name": "a", "type": "x", "cniVersion": "2.0.0"}"#,
                "cniVersion is 2.0.0, and known are 0.1.0, ",
            ),
            (r#"{"name": "a", "type": "x", "cniVersions": [1]}"#, "cniVersions[0] is no text"),
            (r#"{"name": "a", "type": "x", "disableGC": "maybe"}"#, "disableGC is neither true nor false"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("/etc/cni/net.d/10-a.conflist: "), "{error}");
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }

    #[test]
    fn a_directory_s_files_are_read_in_the_order_of_their_names() {
        let scratch = Scratch::new();
        let write = |name: &str, text: &str| fs::write(scratch.path().join(name), text).unwrap();
        write("20-b.conf", r#"{"name": "b", "type": "x"}"#);
        write("10-a.conflist", r#"{"name": "a", "plugins": [{"type": "x"}]}"#);
        write("30-b.json", r#"{"name": "b", "type": "y"}"#);
        write("05-broken.conflist", "{");
        write("40-c.conflist", r#"{"name": "c"}"#);
        write("notes.txt", "{");
        fs::create_dir(scratch.path().join("50-d.conf")).unwrap();
        let beside = scratch.path().join("c");
        fs::create_dir(&beside).unwrap();
        for (name, kind) in [("2.conf", "z"), ("1.conf", "y"), ("3.json", "no")] {
            fs::write(beside.join(name), format!(r#"{{"type": "{kind}"}}"#)).unwrap();
        }
        let networks = Networks::read(scratch.path()).unwrap();
        let names = Vec::from_iter(networks.lists.iter().map(|list| list.name.as_str()));
        assert_eq!(names, ["a", "b", "c"]);
        let kinds = |name| {
            Vec::from_iter(networks.find(name).unwrap().plugins.iter().map(|plugin| plugin.kind.as_str()))
        };
        assert_eq!((kinds("b"), kinds("c")), (vec!["x"], vec!["y", "z"]));
        let refused = Vec::from_iter(networks.refused.iter().map(ToString::to_string));
        assert!(refused[0].contains("05-broken.conflist: line 1 is no JSON"), "{refused:?}");
        assert!(refused[1].contains("30-b.json: name is b, which a file before it describes"), "{refused:?}");
        let error = networks.find("d").unwrap_err().to_string();
        assert!(error.contains("no network d is described in /"), "{error}");
        assert!(
            error.contains("there are a, b, c. Not understood: ") && error.contains("05-broken"),
            "{error}"
        );
        let none = Networks::read(&scratch.path().join("nowhere")).unwrap();
        assert!(none.find("a").unwrap_err().to_string().ends_with(", nor is another"));
    }
}
