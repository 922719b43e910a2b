//! Files of any server.

use std::io::Read;

use ureq::http::Method;

use crate::client::{Client, failed};
use crate::error::{Error, Result};
use crate::http::{Payload, Request, authority, uri};
use crate::registries::Wall;

impl Client {
    /// Reads a file by its address, which begins with `http://` or `https://`. Nobody's login is told.
    ///
    /// # Errors
    /// [`Error::Protocol`] for what is no address; those of the network and of the server.
    pub fn download(&self, address: &str) -> Result<Box<dyn Read + Send>> {
        let url = uri(address)?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            let reason = "an address begins with http:// or https://".to_owned();
            return Err(Error::Protocol { host: authority(&url), reason });
        }
        let wall = self.http().wall(&authority(&url), Wall::Trusted)?;
        let request = Request { method: Method::GET, url, headers: Vec::new(), payload: Payload::None, wall };
        let response = self.http().send(request)?;
        match response.status {
            200 => Ok(Box::new(response.into_reader())),
            _ => Err(failed(response, &format!("download {address}"))),
        }
    }
}
