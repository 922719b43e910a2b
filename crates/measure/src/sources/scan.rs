//! Finds the functions that a file of the kernel's sources defines, by its layout: pure.
//!
//! The kernel's style puts a definition's first line and its braces at the beginning of a line, and nothing else but
//! declarations, data and macros. Of these only names count that the kernel has as functions, so that what is taken for a
//! definition without being one does no harm but where a function has the same name.

use std::collections::BTreeSet;

/// The functions that are looked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted(BTreeSet<String>);

/// What stands before the name of a system call in the names of its functions.
const CALLS: &[&str] =
    &["__x64_sys_", "__ia32_sys_", "__do_sys_", "__se_sys_", "__arm64_sys_", "__do_compat_sys_"];

/// A definition that is longer, lines, is none.
const LONGEST: usize = 40;

impl Wanted {
    /// These, without what the compiler or [`crate::record`] adds to a name.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(|name| plain(name).to_owned()).collect())
    }

    /// All names that `written` stands for.
    fn matching(&self, written: &str, is_call: bool) -> Vec<String> {
        let calls = CALLS.iter().filter(|_| is_call).map(|before| format!("{before}{written}"));
        std::iter::once(written.to_owned()).chain(calls).filter(|name| self.0.contains(name)).collect()
    }
}

/// A function's name in the sources: without the suffix of a part that the compiler made, and the number of a namesake.
pub fn plain(name: &str) -> &str {
    name.split(['.', '#']).next().unwrap_or(name)
}

/// The wanted functions that this text defines.
pub fn definitions(text: &str, wanted: &Wanted) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // What may become a definition, until its brace comes or it proves to be something else.
    let mut signature = String::new();
    let mut lines = 0;
    for line in text.lines() {
        if line.starts_with("SYM_") {
            found.extend(assembled(line).into_iter().flat_map(|name| wanted.matching(name, false)));
            continue;
        }
        let first = line.chars().next().unwrap_or(' ');
        if first == '{' || (!signature.is_empty() && ends_in_body(line)) {
            if first != '{' {
                signature.push_str(line);
            }
            found.extend(names(&signature, wanted));
            signature.clear();
            continue;
        }
        let begins = first.is_ascii_alphabetic() || first == '_';
        if begins {
            if signature.contains('(') || line.ends_with(':') {
                signature.clear();
            }
            lines = 0;
        } else if signature.is_empty() || first == '#' || line.trim().is_empty() {
            continue;
        }
        lines += 1;
        if lines > LONGEST {
            signature.clear();
            continue;
        }
        signature.push_str(line);
        signature.push('\n');
        if begins && ends_in_body(line) {
            found.extend(names(&signature, wanted));
            signature.clear();
        } else if line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
            signature.clear();
        }
    }
    found
}

/// Whether the parameters' end and the body's beginning stand on this line: `int f(void) { return 0; }`.
fn ends_in_body(line: &str) -> bool {
    line.find('{').is_some_and(|brace| line[..brace].trim_end().ends_with(')'))
}

/// The name behind the assembler's macros: `SYM_FUNC_START(memcpy)`.
fn assembled(line: &str) -> Option<&str> {
    let (macro_name, rest) = line.split_once('(')?;
    macro_name.contains("_START").then(|| rest.split([')', ',']).next().unwrap_or_default().trim())
}

/// The wanted ones among the names before a parenthesis that is in no other, and what macros make of their first word.
fn names(signature: &str, wanted: &Wanted) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for (place, character) in signature.char_indices() {
        match character {
            '(' => {
                if depth == 0 {
                    let name = last_word(&signature[..place]);
                    names.extend(wanted.matching(name, false));
                    // SYSCALL_DEFINE3(read, …), BPF_CALL_1(…), DEFINE_IDTENTRY(…)
                    if name.contains("DEFINE") || name.starts_with("BPF_CALL_") {
                        let argument = signature[place + 1..].split([',', ')']).next().unwrap_or_default();
                        names.extend(wanted.matching(argument.trim(), name.contains("SYSCALL_DEFINE")));
                    }
                }
                depth += 1;
            }
            ')' => depth = depth.saturating_sub(1),
            // The body.
            '{' => break,
            _ => {}
        }
    }
    names
}

fn last_word(text: &str) -> &str {
    let text = text.trim_end();
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let start = text
        .rfind(|character| !word(character))
        .map_or(0, |before| before + text[before..].chars().next().map_or(1, char::len_utf8));
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_known_by_their_layout() {
        let text = "\
/* int in_a_comment(void) */
int declared(int a);
extern int declared_long(int a,
			 int b);
static int data = called(1);
int plain_one(int a)
{
	return called(a);
}
static __always_inline struct page *
on_its_own_line(struct page *page, int (*call)(int),
	int b)
#ifdef CONFIG_X
	__acquires(lock)
#endif
{
	if (x)
		called(b);
}
static inline int short_one(void) { return called(); }
__printf(1, 2) void __sched attributed(const char *format, ...)
{
}
SYSCALL_DEFINE3(read, unsigned int, fd, char __user *, buf, size_t, count)
{
	return ksys_read(fd, buf, count);
}
SYSCALL_DEFINE0(fork)
{
}
BPF_CALL_2(bpf_lookup, struct map *, map, void *, key)
{
}
label:
struct file_operations fops = {
	.open = called,
};
EXPORT_SYMBOL(called);
static int last(void)
{
}
";
        let names = [
            "in_a_comment",
            "declared",
            "declared_long",
            "called",
            "plain_one",
            "on_its_own_line",
            "call",
            "short_one",
            "attributed",
            "__x64_sys_read",
            "__do_sys_fork",
            "bpf_lookup",
            "ksys_read",
            "last.cold",
            "page",
        ];
        let expected = [
            "__do_sys_fork",
            "__x64_sys_read",
            "attributed",
            "bpf_lookup",
            "last",
            "on_its_own_line",
            "plain_one",
            "short_one",
        ];
        let found = definitions(text, &Wanted::of(names));
        assert_eq!(Vec::from_iter(found.iter().map(String::as_str)), expected);
    }

    #[test]
    fn assembler_has_functions_too() {
        let text = "SYM_FUNC_START(memcpy)\n\tret\nSYM_FUNC_END(memset)\nSYM_CODE_START_NOALIGN(entry)\n SYM_FUNC_START(no)\n";
        let found = definitions(text, &Wanted::of(["memcpy", "memset", "entry", "no"]));
        assert_eq!(found, ["entry", "memcpy"].map(str::to_owned).into());
    }

    #[test]
    fn what_is_no_code_defines_nothing() {
        for text in
            ["", "(", "{", "{\n{", "é(\n{", "a\u{301}é(\n{\n", "f(((\n{", ")))(\n{", "SYM_", "SYM_START("]
        {
            assert_eq!(definitions(text, &Wanted::of(["f2"])), BTreeSet::new(), "{text:?}");
        }
    }
}
