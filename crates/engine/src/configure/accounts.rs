//! Who a user is that stays the same inside, for an image that knows no such: a line of `/etc/passwd` and one of `/etc/group`.
//!
//! Programs that ask who they are, such as ssh, git and shells, fail or tell only a number otherwise. The files are in the
//! container's own layer, as podman has it, so that programs which add users can change them; they have the image's lines, too.

use super::{Identity, Scene, identity};
use crate::request::UserNamespace;

/// Returns the files that are written: names, which are those below `/etc`, and texts.
pub(super) fn files(scene: &Scene<'_>, identity: &Identity) -> Vec<(&'static str, String)> {
    let is_kept = matches!(scene.request.namespaces.user, Some(UserNamespace::KeepId { .. }));
    // An image without accounts has no programs that ask for them.
    let (passwd, group) = (scene.image.passwd, scene.image.group);
    if !is_kept || passwd.is_empty() || identity::has_user(passwd, &identity.uid.to_string()) {
        return Vec::new();
    }
    let Identity { uid, gid, home, .. } = identity;
    let name = scene.facts.user.as_deref().filter(|name| !identity::has_user(passwd, name));
    let name = name.map_or_else(|| uid.to_string(), str::to_owned);
    let mut files = vec![("passwd", with_line(passwd, &format!("{name}:*:{uid}:{gid}::{home}:/bin/sh")))];
    if !group.is_empty() && !identity::has_group(group, &gid.to_string()) {
        let name = if identity::has_group(group, &name) { gid.to_string() } else { name };
        files.push(("group", with_line(group, &format!("{name}:*:{gid}:"))));
    }
    files
}

/// Adds a line at the end. What is no UTF-8 is nobody that programs here know.
fn with_line(file: &[u8], line: &str) -> String {
    let mut text = String::from_utf8_lossy(file).into_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text + line + "\n"
}
