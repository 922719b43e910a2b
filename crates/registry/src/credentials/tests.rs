use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn file(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

fn password(name: &str, secret: &str) -> Login {
    Login::Password { name: name.to_owned(), secret: secret.to_owned() }
}

#[test]
fn entries_are_found_by_path_host_and_old_names() {
    let encode = |text: &str| STANDARD.encode(text);
    let text = format!(
        r#"{{"auths": {{
            "https://index.docker.io/v1/": {{"auth": "{}"}},
            "h.example/team/app": {{"auth": "{}"}}, "h.example/team": {{"auth": "{}"}}, "h.example": {{"auth": "{}"}},
            "https://old.example/v2/": {{"username": "o", "password": "p"}},
            "token.example": {{"auth": "", "identitytoken": "T"}}, "empty.example": {{}}
        }}}}"#,
        encode("hub:pw:with:colons"),
        encode("app:1\0\0"),
        encode("team:2"),
        encode("all:3"),
    );
    let file = file(&text);
    for (host, repository, expected) in [
        ("docker.io", "library/alpine", Some(password("hub", "pw:with:colons"))),
        ("h.example", "team/app", Some(password("app", "1"))),
        ("h.example", "team/app/part", Some(password("app", "1"))),
        ("h.example", "team/other", Some(password("team", "2"))),
        ("h.example", "teamwork", Some(password("all", "3"))),
        ("old.example", "x", Some(password("o", "p"))),
        ("token.example", "x", Some(Login::Identity("T".to_owned()))),
        ("empty.example", "x", None),
        ("example", "x", None),
    ] {
        let found = find_in(Path::new("f"), &file, host, repository).unwrap();
        assert_eq!(found, expected, "{host}/{repository}");
    }
}

#[test]
fn a_spoiled_entry_is_named() {
    let file = file(r#"{"auths": {"h.example": {"auth": "%%%"}}}"#);
    let error = find_in(Path::new("f"), &file, "h.example", "x").unwrap_err().to_string();
    assert!(error.contains("auth of h.example is not the base64"), "{error}");
}

#[test]
fn a_login_is_written_for_its_owner_and_the_rest_is_kept() {
    let directory = std::env::temp_dir().join(format!("bulkhead-credentials-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("config.json");
    std::fs::write(&path, r#"{"HttpHeaders": {"X": "y"}, "auths": {"other": {"auth": "eDp5"}}}"#).unwrap();
    let credentials = Credentials { files: vec![path.clone()], written: path.clone(), helpers: Vec::new() };
    let login = password("me", "secret");
    assert_eq!(credentials.store("docker.io", &login).unwrap(), Keeper::File(path.clone()));
    assert_eq!(credentials.find("docker.io", "x/y").unwrap(), Some(login));
    let written = read(&path).unwrap().unwrap();
    assert_eq!(written["HttpHeaders"]["X"], "y");
    assert!(written["auths"].get(DOCKER_KEY).is_some(), "docker does not find what it needs");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(credentials.erase("docker.io").unwrap(), [Keeper::File(path)]);
    assert_eq!(credentials.find("docker.io", "x/y").unwrap(), None);
    assert_eq!(credentials.find("other", "x").unwrap(), Some(password("x", "y")));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "something is left beside the file");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The directory may be that of another user, as `HOME` is under some sudo.
#[test]
fn a_link_beside_the_file_leads_nowhere() {
    let directory = std::env::temp_dir().join(format!("bulkhead-credentials-link-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let victim = directory.join("victim");
    std::fs::write(&victim, "mine").unwrap();
    // Names that somebody could foresee.
    for name in [format!(".config.json.{}", std::process::id()), ".config.json".to_owned()] {
        std::os::unix::fs::symlink(&victim, directory.join(name)).unwrap();
    }
    let path = directory.join("config.json");
    let credentials = Credentials { files: vec![path.clone()], written: path, helpers: Vec::new() };
    credentials.store("h.example", &password("me", "secret")).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine", "a link was followed");
    assert_eq!(credentials.find("h.example", "x").unwrap(), Some(password("me", "secret")));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn of_many_logins_at_once_none_is_lost() {
    let directory = std::env::temp_dir().join(format!("bulkhead-credentials-many-{}", std::process::id()));
    let path = directory.join("made/config.json");
    let credentials = Credentials { files: vec![path.clone()], written: path, helpers: Vec::new() };
    std::thread::scope(|scope| {
        for number in 0..20 {
            let credentials = &credentials;
            scope.spawn(move || {
                credentials.store(&format!("h{number}.example"), &password("me", "secret")).unwrap();
            });
        }
    });
    for number in 0..20 {
        let found = credentials.find(&format!("h{number}.example"), "x").unwrap();
        assert_eq!(found, Some(password("me", "secret")), "the login at h{number}.example is lost");
    }
    for made in [&directory, &directory.join("made")] {
        let mode = std::fs::metadata(made).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{} was made for others, too", made.display());
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_helper_has_a_name_and_no_path() {
    for helper in ["", "../x", "a/b", "a b"] {
        let error = call(helper, "get", b"").unwrap_err().to_string();
        assert!(error.contains("is no name of a program"), "{helper:?} says {error}");
    }
    let error = call("bulkhead-has-none", "get", b"").unwrap_err().to_string();
    assert!(error.contains("start it"), "{error}");
}
