//! TLS with an authority of our own.

use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_registry::{Client, Configuration, Error, Name, Registries, media_type};
use bulkhead_testkit::registry::{Guard, Papers, Registry};
use bulkhead_testkit::{Scratch, find_program, requires};

use crate::{Image, here, impatient, noise};

/// Runs openssl.
pub(crate) fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an authority, `ca.crt`.
fn authority(directory: &Path) -> PathBuf {
    let (key, certificate) = (directory.join("ca.key"), directory.join("ca.crt"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=authority of a test",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        certificate.to_str().unwrap(),
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    ]);
    certificate
}

/// Makes a certificate by the authority of the directory, and its key.
fn certificate(directory: &Path, name: &str, extension: &str) -> (PathBuf, PathBuf) {
    let place = |kind: &str| directory.join(format!("{name}.{kind}"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        &text(&place("key")),
        "-out",
        &text(&place("csr")),
    ]);
    std::fs::write(place("ext"), extension).unwrap();
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &text(&place("csr")),
        "-CA",
        &text(&directory.join("ca.crt")),
        "-CAkey",
        &text(&directory.join("ca.key")),
        "-CAcreateserial",
        "-extfile",
        &text(&place("ext")),
        "-out",
        &text(&place("crt")),
    ]);
    (place("crt"), place("key"))
}

struct Grounds {
    scratch: Scratch,
    registry: Registry,
}

macro_rules! with_tls {
    ($extension:expr, $clients:expr) => {{
        requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
        requires!(find_program("openssl").is_some(), "openssl is missing");
        let scratch = Scratch::new();
        let clients = Some(authority(scratch.path())).filter(|_| $clients);
        let (certificate, key) = certificate(scratch.path(), "server", $extension);
        let papers = Papers { certificate, key, clients };
        let registry = Registry::start(&scratch.path().join("registry"), &Guard::Nobody, Some(&papers));
        Grounds { scratch, registry }
    }};
}

impl Grounds {
    /// Where `certs.d` has what belongs to the registry.
    fn certificates(&self) -> PathBuf {
        let directory = self.scratch.path().join("certs.d").join(self.registry.host());
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn client(&self, registries: &str) -> Client {
        let mut known = Registries::default();
        known.add_text(registries).unwrap();
        Client::new(Configuration {
            registries: known,
            certificates: vec![self.scratch.path().join("certs.d")],
            patience: impatient(),
            ..Configuration::default()
        })
    }

    fn reference(&self) -> Name {
        Name::parse(&format!("{}/x:1", self.registry.host())).unwrap()
    }
}

#[test]
fn an_authority_of_certs_d_is_trusted_for_its_host_and_no_other() {
    let grounds = with_tls!("subjectAltName=IP:127.0.0.1", false);
    let ca = grounds.scratch.path().join("ca.crt");
    std::fs::copy(&ca, grounds.certificates().join("ca.crt")).unwrap();
    let client = grounds.client("");
    let image = Image::of(vec![noise(60, 2 << 20)], "amd64");
    image.push(&client, &grounds.reference(), media_type::MANIFEST);
    let found = client.resolve(&grounds.reference(), &here()).unwrap();
    assert_eq!(crate::read(&client, &found, &found.manifest.layers[0]).unwrap(), image.layers[0]);

    // Another authority is there now.
    let other = grounds.scratch.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(authority(&other), grounds.certificates().join("ca.crt")).unwrap();
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("an authority that is not known here") && text.contains("certs.d"), "{text}");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let grounds = with_tls!("subjectAltName=DNS:other.example", false);
    std::fs::copy(grounds.scratch.path().join("ca.crt"), grounds.certificates().join("ca.crt")).unwrap();
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(error.to_string().contains("its certificate is for another name"), "{error}");
}

#[test]
fn loopback_and_what_is_insecure_need_prove_nothing() {
    let grounds = with_tls!("subjectAltName=DNS:other.example", false);
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "loopback is insecure, as with docker: {error:?}");
    // With an authority it is not, unless that is configured.
    std::fs::copy(grounds.scratch.path().join("ca.crt"), grounds.certificates().join("ca.crt")).unwrap();
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", grounds.registry.host());
    let error = grounds.client(&text).resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}

#[test]
fn a_host_without_tls_is_told_from_one_that_is_not_trusted() {
    let ground = crate::ground!();
    let scratch = &ground.scratch;
    let directory = scratch.path().join("certs.d").join(ground.registry.host());
    std::fs::create_dir_all(&directory).unwrap();
    requires!(find_program("openssl").is_some(), "openssl is missing");
    std::fs::copy(authority(scratch.path()), directory.join("ca.crt")).unwrap();
    let client = Client::new(Configuration {
        certificates: vec![scratch.path().join("certs.d")],
        patience: impatient(),
        ..Configuration::default()
    });
    let error = client.resolve(&ground.reference("x:1"), &here()).unwrap_err();
    assert!(matches!(error, Error::Plain { .. }), "{error:?}");
    assert!(error.to_string().contains("insecure = true"), "{error}");
}

#[test]
fn a_certificate_of_the_client_is_shown() {
    let grounds = with_tls!("subjectAltName=IP:127.0.0.1", true);
    let place = grounds.certificates();
    std::fs::copy(grounds.scratch.path().join("ca.crt"), place.join("ca.crt")).unwrap();
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(matches!(error, Error::Tls { .. } | Error::Network { .. }), "{error:?}");
    let (own, key) = certificate(grounds.scratch.path(), "client", "extendedKeyUsage=clientAuth");
    std::fs::copy(own, place.join("client.cert")).unwrap();
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(error.to_string().contains("client.key: is missing"), "{error}");
    let (_, other) = certificate(grounds.scratch.path(), "other", "extendedKeyUsage=clientAuth");
    std::fs::copy(other, place.join("client.key")).unwrap();
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(error.to_string().contains("does not go with the .cert"), "{error}");
    std::fs::copy(key, place.join("client.key")).unwrap();
    let error = grounds.client("").resolve(&grounds.reference(), &here()).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}
