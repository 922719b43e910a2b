//! Who may: passwords, tokens, helpers.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bulkhead_registry::{Client, Configuration, Credentials, Error, Keeper, Login, Name, media_type};
use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Scratch, find_program, requires};

use crate::stand_in::{StandIn, answer};
use crate::{Image, here, impatient, noise};

fn client(directory: &Path) -> Client {
    let file = directory.join("config.json");
    let credentials = Credentials { files: vec![file.clone()], written: file, helpers: Vec::new() };
    Client::new(Configuration { credentials, patience: impatient(), ..Configuration::default() })
}

fn login(secret: &str) -> Login {
    Login::Password { name: "user".to_owned(), secret: secret.to_owned() }
}

#[test]
fn a_password_is_asked_for_checked_and_kept() {
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch.path().join("registry"), &Guard::Password, None);
    let host = registry.host();
    let reference = Name::parse(&format!("{host}/private/x:1")).unwrap();
    let image = Image::of(vec![noise(50, 1000)], "amd64");

    let error = client(scratch.path()).resolve(&reference, &here()).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("log in with `bulkhead login {host}`")), "{error}");
    let error = client(scratch.path()).login(&host, &login("wrong")).unwrap_err();
    assert!(matches!(error, Error::Password { .. }), "{error:?}");
    assert!(!scratch.path().join("config.json").exists(), "a wrong password was kept");

    let kept = client(scratch.path()).login(&host, &login("secret")).unwrap();
    assert_eq!(kept, Keeper::File(scratch.path().join("config.json")));
    image.push(&client(scratch.path()), &reference, media_type::MANIFEST);
    let found = client(scratch.path()).resolve(&reference, &here()).unwrap();
    assert_eq!(found.manifest.layers.len(), 1);

    assert_eq!(client(scratch.path()).logout(&host).unwrap().len(), 1);
    assert!(client(scratch.path()).resolve(&reference, &here()).is_err(), "the login was not forgotten");
    assert!(client(scratch.path()).logout(&host).unwrap().is_empty());
}

/// A service that hands out tokens which docker-registry takes: JSON web tokens, signed by openssl.
fn token_service(directory: &Path) -> (StandIn, std::path::PathBuf) {
    let (key, certificate) = (directory.join("token.key"), directory.join("token.crt"));
    crate::tls::openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=testkit",
        "-days",
        "2",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        certificate.to_str().unwrap(),
    ]);
    let pem = std::fs::read_to_string(&certificate).unwrap();
    let der = pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let service = StandIn::new(move |asked| {
        let path = asked.line.split(' ').nth(1).unwrap_or_default().replace("%20", " ");
        let expected = format!("Basic {}", STANDARD.encode("user:secret"));
        if asked.header("authorization").is_some_and(|found| found != expected) {
            return answer("401 No", &[], br#"{"errors":[{"message":"wrong password"}]}"#);
        }
        let is_user = asked.header("authorization").is_some();
        let scopes = path.split(['?', '&']).filter_map(|part| part.strip_prefix("scope=repository:"));
        let access = scopes.filter_map(|scope| scope.split_once(':')).map(|(name, actions)| {
            // Everybody may pull; the user may push.
            let actions = actions.split(',').filter(|action| is_user || *action == "pull");
            let actions = Vec::from_iter(actions.map(|action| format!("\"{action}\"")));
            format!(r#"{{"type":"repository","name":"{name}","actions":[{}]}}"#, actions.join(","))
        });
        let access = Vec::from_iter(access).join(",");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let head = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{der}"]}}"#);
        let claims = format!(
            r#"{{"iss":"testkit","sub":"user","aud":"testkit registry","exp":{},"nbf":{},"iat":{now},"jti":"{now}","access":[{access}]}}"#,
            now + 60,
            now - 5
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let mut sign = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        sign.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
        let signature = sign.wait_with_output().unwrap().stdout;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        answer("200 OK", &["Content-Type: application/json"], format!(r#"{{"token":"{token}"}}"#).as_bytes())
    });
    (service, certificate)
}

#[test]
fn tokens_are_got_for_what_is_done_and_used_again() {
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    requires!(find_program("openssl").is_some(), "openssl is missing");
    let scratch = Scratch::new();
    let (service, certificate) = token_service(scratch.path());
    let realm = format!("http://{}/token", service.host());
    let registry =
        Registry::start(&scratch.path().join("registry"), &Guard::Token { realm, certificate }, None);
    let host = registry.host();
    let reference = Name::parse(&format!("{host}/team/x:1")).unwrap();
    let image = Image::of(vec![noise(51, 1000), noise(52, 1000)], "amd64");

    // As nobody one may pull, and nothing is there.
    let error = client(scratch.path()).resolve(&reference, &here()).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
    let push = client(scratch.path()).push(&reference).unwrap();
    let error = push.blob(&crate::descriptor("", b"x"), &[], &crate::opener(b"x")).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");

    let error = client(scratch.path()).login(&host, &login("wrong")).unwrap_err();
    assert!(error.to_string().contains("wrong password"), "{error}");
    client(scratch.path()).login(&host, &login("secret")).unwrap();
    let before = service.asked().len();
    let own = client(scratch.path());
    image.push(&own, &reference, media_type::MANIFEST);
    assert_eq!(service.asked().len(), before + 1, "one token is enough for a push");
    let asked = service.asked().pop().unwrap();
    assert!(
        asked.line.contains("service=testkit%20registry&scope=repository:team/x:pull,push"),
        "{}",
        asked.line
    );
    let other = Name::parse(&format!("{host}/team/y:1")).unwrap();
    let layer = crate::descriptor("", &image.layers[0]);
    let pushed = own.push(&other).unwrap().blob(
        &layer,
        std::slice::from_ref(&reference),
        &crate::opener(&image.layers[0]),
    );
    assert_eq!(pushed.unwrap(), bulkhead_registry::Pushed::Mounted);
    let asked = service.asked().pop().unwrap();
    assert!(asked.line.contains("scope=repository:team/x:pull&"), "no token for both: {}", asked.line);
    own.resolve(&reference, &here()).unwrap();
}

#[test]
fn an_identity_token_gets_tokens_by_a_form() {
    let service = StandIn::new(|asked| match asked.line.as_str() {
        "POST /token HTTP/1.1" => answer("200 OK", &[], br#"{"access_token":"T1"}"#),
        _ => answer("404 No", &[], b""),
    });
    let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"", service.host());
    let manifest = Image::of(vec![], "amd64").manifest(media_type::MANIFEST);
    let registry = StandIn::new(move |asked| match asked.header("authorization") {
        Some("Bearer T1") => answer("200 OK", &[], &manifest),
        _ => answer("401 Who", &[&realm], b""),
    });
    let scratch = Scratch::new();
    let host = registry.host();
    client(scratch.path()).login(&host, &Login::Identity("long lived".to_owned())).unwrap();
    let reference = Name::parse(&format!("{host}/x:1")).unwrap();
    client(scratch.path()).resolve(&reference, &here()).unwrap();
    let asked = service.asked().pop().unwrap();
    assert!(asked.body.contains("grant_type=refresh_token&service=s"), "{}", asked.body);
    assert!(asked.body.contains("scope=repository:x:pull&refresh_token=long%20lived"), "{}", asked.body);
}

/// CVE-2020-15157: where a registry sends us, somebody else may ask for a name and a password.
#[test]
fn nobody_whom_the_registry_sends_us_to_learns_who_we_are() {
    let thief = StandIn::new(|_| answer("200 OK", &[], br#"{"token":"T"}"#));
    let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"", thief.host());
    for challenge in [realm.as_str(), "WWW-Authenticate: Basic realm=\"x\""] {
        for login in [login("secret"), Login::Identity("long lived".to_owned())] {
            let challenge = challenge.to_owned();
            let elsewhere = StandIn::new(move |_| answer("401 Who", &[&challenge], b""));
            let location = format!("Location: http://{}/there", elsewhere.host());
            let registry = StandIn::new(move |asked| match asked.line.as_str() {
                "GET /v2/ HTTP/1.1" => answer("200 OK", &[], b""),
                _ => answer("307 There", &[&location], b""),
            });
            let scratch = Scratch::new();
            let own = client(scratch.path());
            own.login(&registry.host(), &login).unwrap();
            let reference = Name::parse(&format!("{}/x:1", registry.host())).unwrap();
            let error = own.resolve(&reference, &here()).unwrap_err();
            let said = format!("it sends us to {}, which wants to know who asks", elsewhere.host());
            assert!(error.to_string().contains(&said), "{error}");
            assert_eq!(thief.asked().len(), 0, "a stranger was told who we are");
            for asked in elsewhere.asked().iter().chain(&registry.asked()) {
                assert_eq!(asked.header("authorization"), None, "{}: who we are was told", asked.line);
            }
        }
    }
}

#[test]
fn a_helper_keeps_what_is_not_to_stand_in_a_file() {
    let scratch = Scratch::new();
    let kept = scratch.path().join("kept");
    let helper = scratch.path().join("docker-credential-bulkheadtest");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0};;\nerase) rm {0};;\nget) read host; if test -e {0}; then cat {0}; else \
         echo 'credentials not found in native keychain'; exit 1; fi;;\nesac\n",
        kept.display()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = scratch.path().join("config.json");
    std::fs::write(&file, r#"{"credHelpers": {"h.example": "bulkheadtest"}, "auths": {}}"#).unwrap();
    // A helper is found in PATH, which is that of this whole process: so it is asked in another.
    let program = std::env::current_exe().unwrap();
    let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH").unwrap());
    let mut child = Command::new(program);
    child.args(["--exact", "authentication::in_another_path", "--nocapture"]).env("PATH", path);
    let output = child.env("BULKHEAD_TEST_CREDENTIALS", &file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains("c2VjcmV0") && !text.contains("secret"),
        "the password stands in the file: {text}"
    );
}

#[test]
fn in_another_path() {
    let Some(file) = std::env::var_os("BULKHEAD_TEST_CREDENTIALS").map(std::path::PathBuf::from) else {
        return;
    };
    let credentials = Credentials { files: vec![file.clone()], written: file, helpers: Vec::new() };
    assert_eq!(credentials.find("h.example", "x").unwrap(), None);
    let keeper = credentials.store("h.example", &login("secret")).unwrap();
    assert_eq!(keeper, Keeper::Helper("bulkheadtest".to_owned()));
    assert_eq!(credentials.find("h.example", "x").unwrap(), Some(login("secret")));
    assert_eq!(credentials.erase("h.example").unwrap(), [keeper]);
    assert_eq!(credentials.find("h.example", "x").unwrap(), None);
}
