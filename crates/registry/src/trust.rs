//! Whom to trust: the system's roots, and what `certs.d` has for a host.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Result};
use crate::files;
use crate::registries::Wall;

/// The longest file with certificates, in bytes.
const LONGEST: u64 = 4 << 20;

/// Certificates of the system and of hosts.
#[derive(Debug)]
pub(crate) struct Trust {
    directories: Vec<PathBuf>,
    provider: Arc<CryptoProvider>,
    /// Read when a first host needs them: a hundred files are some milliseconds.
    system: OnceLock<Vec<Certificate<'static>>>,
}

impl Trust {
    pub(crate) fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, provider: Arc::new(ring::default_provider()), system: OnceLock::new() }
    }

    /// Tells whether there is an authority for this host alone.
    pub(crate) fn has_own(&self, host: &str) -> Result<bool> {
        Ok(!self.files(host, "crt")?.is_empty())
    }

    /// How TLS is spoken with a host.
    ///
    /// # Errors
    /// [`Error::Configuration`] and [`Error::File`], for what `certs.d` has of the host.
    pub(crate) fn tls(&self, host: &str, wall: Wall) -> Result<TlsConfig> {
        let mut roots = self.system.get_or_init(system).clone();
        for path in self.files(host, "crt")? {
            roots.extend(certificates(&path)?);
        }
        let builder = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::clone(&self.provider))
            .root_certs(RootCerts::from(roots))
            .client_cert(self.own_certificate(host)?)
            .disable_verification(wall == Wall::Insecure);
        Ok(builder.build())
    }

    /// The certificate by which we are known to a host: `NAME.cert` and `NAME.key`.
    fn own_certificate(&self, host: &str) -> Result<Option<ClientCert>> {
        if let Some(path) = self.files(host, "cert")?.into_iter().next() {
            return self.pair(&path).map(Some);
        }
        // A key alone is more likely a mistake than meant.
        if let Some(path) = self.files(host, "key")?.into_iter().next() {
            let reason = "has no .cert beside it".to_owned();
            return Err(Error::Configuration { path, reason });
        }
        Ok(None)
    }

    fn pair(&self, path: &Path) -> Result<ClientCert> {
        let place = path.with_extension("key");
        let wrong = |reason: &str| Error::Configuration { path: place.clone(), reason: reason.to_owned() };
        let bytes = files::read(&place, LONGEST)?
            .ok_or_else(|| wrong("is missing, and it is the key of the .cert beside it"))?;
        let key = PrivateKey::from_pem(&bytes).map_err(|_| wrong("has no private key in the form PEM"))?;
        let chain = certificates(path)?;
        // ureq takes for granted that both belong together.
        let der =
            PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| wrong("has no private key that is known"))?;
        let proof = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(RootCertStore::empty()))
            .and_then(|builder| {
                let chain = chain.iter().map(|item| CertificateDer::from(item.der().to_vec()));
                builder.with_client_auth_cert(chain.collect(), der)
            });
        proof.map_err(|error| wrong(&format!("does not go with the .cert beside it: {error}")))?;
        Ok(ClientCert::new_with_certs(&chain, key))
    }

    fn files(&self, host: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for directory in &self.directories {
            all.extend(files::listed(&directory.join(host), extension)?);
        }
        Ok(all)
    }
}

/// What the system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. What cannot be read is not trusted.
fn system() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let wrong = |reason: &str| Error::Configuration { path: path.to_owned(), reason: reason.to_owned() };
    let bytes = files::read(path, LONGEST)?.unwrap_or_default();
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(wrong("has a certificate that is not of the form PEM")),
        }
    }
    if found.is_empty() {
        return Err(wrong("has no certificate of the form PEM"));
    }
    Ok(found)
}
