//! The unit of systemd that starts containers with the machine.

use std::path::Path;

use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Writes the unit of systemd that runs `system restart-all` when the machine has booted; for users one of their own
    /// systemd.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when `bulkhead` is not installed.
    pub fn restart_unit(&self) -> Result<String> {
        let command = self.command()?;
        let [program, root, run] =
            [&command, &self.places().root, &self.places().run].map(|path| quoted(path));
        let command = format!("{program} --root {root} --run {run} system restart-all").replace('$', "$$");
        // A user's systemd knows neither file systems nor networks; it begins when both are there.
        let (order, wanted_by) = if rustix::process::geteuid().is_root() {
            let order = "After=local-fs.target network-online.target\nWants=network-online.target\n";
            (order, "multi-user.target")
        } else {
            ("", "default.target")
        };
        // What has started outlives the unit: monitors end with the machine, or when their containers do.
        Ok(format!(
            "[Unit]
Description=Containers of bulkhead that start with the machine
Documentation=man:bulkhead(1)
RequiresMountsFor={root} {run}
{order}
[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={command}

[Install]
WantedBy={wanted_by}
"
        ))
    }
}

/// Writes a path as a word of a unit (systemd.syntax(7), "Quoting", and systemd.unit(5), "Specifiers").
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+@:,=%$".contains(letter);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_words_of_a_unit() {
        for (path, expected) in [
            ("/var/lib/bulkhead", "/var/lib/bulkhead"),
            ("/a b/\"c\"", r#""/a b/\"c\"""#),
            ("/100%/$x", "/100%%/$x"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
