//! From a name to the manifest of the image that is meant.

use bulkhead_image::{Digest, Name, Platform, name};
use ureq::http::{Method, header};

use crate::client::{Call, Client, Target, failed, scopes};
use crate::error::{Error, Result};
use crate::http::{self, Payload};
use crate::manifest::{self, Descriptor, Document, Index, Manifest, media_type};
use crate::registries::{Endpoint, Kind, Meaning};

/// How deep indexes may stand in indexes.
const DEEPEST: usize = 3;

/// The most tags that are listed, and the most pages.
const MOST_TAGS: usize = 100_000;
const MOST_PAGES: usize = 1000;

/// An image that was found, and where.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Its name, in full.
    pub reference: Name,
    /// Its manifest.
    pub manifest: Manifest,
    /// The index that it was chosen from.
    pub index: Option<Index>,
    /// Where it was found, and then where else it may be.
    pub(crate) places: Vec<Endpoint>,
}

impl Resolved {
    /// The digest that the name stands for: that of the index, if there is one.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.index.as_ref().map_or(&self.manifest.digest, |index| &index.digest)
    }

    /// The same image with what belongs to it looked for at the other places alone, if there are any: what the first one has may be damaged.
    #[must_use]
    pub fn elsewhere(&self) -> Option<Self> {
        let places = self.places.get(1..).filter(|places| !places.is_empty())?.to_vec();
        Some(Self { places, ..self.clone() })
    }

    /// The host that had it, a mirror perhaps.
    #[must_use]
    pub fn host(&self) -> &str {
        self.places.first().map_or("", |place| place.host.as_str())
    }
}

impl Client {
    /// Finds the image that somebody means who types a name, in the first registry that has it.
    ///
    /// # Errors
    /// Those of [`Self::resolve`]; if several registries were asked in vain, [`Error::ShortName`]; the error of one that
    /// could not answer, and [`Error::Hidden`] for one that refused to: what the next one calls so may be a stranger's.
    pub fn find(&self, typed: &str, platform: &Platform) -> Result<Resolved> {
        let candidates = match self.registries().meaning(typed)? {
            Meaning::One(reference) => return self.resolve(&reference, platform),
            Meaning::FirstOf(candidates) => candidates,
        };
        for (at, reference) in candidates.iter().enumerate() {
            match (self.resolve(reference, platform), &candidates[at + 1..]) {
                (Err(Error::Unknown { .. }), _) => {}
                (Err(Error::Denied { host, message, .. }), others @ [_, ..]) => {
                    let others = others.iter().map(Name::to_string).collect();
                    return Err(Error::Hidden { name: reference.to_string(), host, message, others });
                }
                (found, _) => return found,
            }
        }
        let searched = candidates.iter().map(|reference| reference.domain().to_owned()).collect();
        Err(Error::ShortName { name: typed.to_owned(), searched })
    }

    /// Finds the manifest of an image for a platform, at the mirrors of its registry first.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Denied`], [`Error::NoPlatform`], [`Error::Manifest`], [`Error::Blocked`] and those of
    /// the network; with mirrors, those of the registry itself.
    pub fn resolve(&self, reference: &Name, platform: &Platform) -> Result<Resolved> {
        let mut places = self.registries().endpoints(reference)?;
        let (mut index, mut document) = match self.document(reference, &mut places)? {
            Document::Manifest(manifest) => {
                return Ok(Resolved { reference: reference.clone(), manifest, index: None, places });
            }
            Document::Index(index) => (Some(index.clone()), index),
        };
        for _ in 0..DEEPEST {
            let chosen = document.choose(platform).ok_or_else(|| Error::NoPlatform {
                name: reference.to_string(),
                wanted: platform.clone(),
                there: document.platforms(),
            })?;
            // A mirror may have the index and not this of its manifests.
            let wanted = chosen.digest.to_string();
            match self.fetch_anywhere(&mut places, &wanted, Some(chosen), reference)? {
                Document::Manifest(manifest) => {
                    return Ok(Resolved {
                        reference: reference.clone(),
                        manifest,
                        index: index.take(),
                        places,
                    });
                }
                Document::Index(inner) => document = inner,
            }
        }
        let reason = format!("is an index of indexes, more than {DEEPEST} deep");
        Err(Error::Manifest { digest: document.digest, reason })
    }

    /// Reads what a name stands for, a manifest or an index.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn inspect(&self, reference: &Name) -> Result<Document> {
        self.document(reference, &mut self.registries().endpoints(reference)?)
    }

    /// The digest that a name stands for just now, without reading what it is of.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn digest(&self, reference: &Name) -> Result<Digest> {
        let places = self.registries().endpoints(reference)?;
        let mut last = unknown(reference);
        for place in &places {
            match self.patiently(|| self.head(place, reference)) {
                Ok(Some(digest)) => return Ok(digest),
                // Not every registry says it without being asked for the whole.
                Ok(None) => return self.inspect(reference).map(|document| *document.digest()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Lists the tags of a repository.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn tags(&self, reference: &Name) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let place = self.registries().destination(reference)?;
        let scopes = scopes(&place.repository, "pull");
        let (mut tags, mut next) = (Vec::new(), None);
        let first = format!("{}/tags/list?n=1000", place.repository);
        for _ in 0..MOST_PAGES {
            let target = next.as_ref().map_or(Target::Path(&first), Target::Address);
            let call = Call { place: &place, scopes: &scopes, method: Method::GET, target, headers: &[] };
            let response = self.patiently(|| {
                let response = self.call(&call, &mut || Payload::None)?;
                if response.status == 200 {
                    Ok(response)
                } else {
                    Err(failed(response, &reference.repository()))
                }
            })?;
            let link =
                response.header(header::LINK).and_then(next_page).map(|link| http::join(&response.url, link));
            let link = link.transpose()?;
            let host = response.host.clone();
            let bytes = response.bytes("a list of tags", manifest::LONGEST)?;
            let Page { tags: found } = serde_json::from_slice(&bytes).map_err(|error| Error::Protocol {
                host: host.clone(),
                reason: format!("list of tags: {error}"),
            })?;
            tags.extend(found.unwrap_or_default().into_iter().filter(|tag| name::is_tag(tag)));
            if tags.len() > MOST_TAGS {
                return Err(Error::TooLarge {
                    what: "the list of tags".into(),
                    host,
                    limit: MOST_TAGS as u64,
                });
            }
            match link {
                Some(link) => next = Some(link),
                None => return Ok(tags),
            }
        }
        Err(Error::Protocol {
            host: place.host,
            reason: format!("lists tags on more than {MOST_PAGES} pages"),
        })
    }

    /// What a name stands for.
    fn document(&self, reference: &Name, places: &mut [Endpoint]) -> Result<Document> {
        self.fetch_anywhere(places, &wanted(reference), None, reference)
    }

    /// Reads a manifest or an index at the first of the places that has it, which becomes the first of them. If none has
    /// it, that is told which the registry itself says.
    fn fetch_anywhere(
        &self,
        places: &mut [Endpoint],
        wanted: &str,
        expected: Option<&Descriptor>,
        reference: &Name,
    ) -> Result<Document> {
        let mut told = unknown(reference);
        let mut has_registry_told = false;
        for at in 0..places.len() {
            let place = &places[at];
            match self.patiently(|| self.fetch(place, wanted, expected, reference)) {
                Ok(document) => {
                    places[..=at].rotate_right(1);
                    return Ok(document);
                }
                Err(_) if has_registry_told => {}
                Err(error) => (told, has_registry_told) = (error, place.kind == Kind::Registry),
            }
        }
        Err(told)
    }

    /// Reads a manifest or an index, by a tag or by a digest, which it then has to have.
    fn fetch(
        &self,
        place: &Endpoint,
        wanted: &str,
        expected: Option<&Descriptor>,
        reference: &Name,
    ) -> Result<Document> {
        let scopes = scopes(&place.repository, "pull");
        let path = format!("{}/manifests/{wanted}", place.repository);
        let headers = [(header::ACCEPT, media_type::ACCEPTED.join(", "))];
        let target = Target::Path(&path);
        let call = Call { place, scopes: &scopes, method: Method::GET, target, headers: &headers };
        let response = self.call(&call, &mut || Payload::None)?;
        if response.status != 200 {
            return Err(failed(response, &reference.to_string()));
        }
        let what = format!("manifest {wanted}");
        let kind = response.header(header::CONTENT_TYPE).map(str::to_owned);
        let promised = response.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        let promised = promised.and_then(|text| text.parse::<Digest>().ok());
        let host = response.host.clone();
        let bytes = response.bytes(&what, manifest::LONGEST)?;
        // By digest, that is what counts; by tag, the registry's own word catches what was spoiled on the way.
        let expected_digest = wanted.parse::<Digest>().ok().or(promised);
        let actual = Digest::of(&bytes);
        if let Some(expected) = expected_digest.as_ref().filter(|digest| !digest.is_of(&bytes)) {
            return Err(Error::Content { what, host, expected: *expected, actual });
        }
        if let Some(Descriptor { size, .. }) = expected.filter(|expected| expected.size != bytes.len() as u64)
        {
            return Err(Error::Size { what, host, expected: *size, actual: bytes.len() as u64 });
        }
        let digest = wanted.parse().unwrap_or(actual);
        Document::parse_named(bytes, kind.as_deref(), digest)
    }

    fn head(&self, place: &Endpoint, reference: &Name) -> Result<Option<Digest>> {
        let scopes = scopes(&place.repository, "pull");
        let path = format!("{}/manifests/{}", place.repository, wanted(reference));
        let headers = [(header::ACCEPT, media_type::ACCEPTED.join(", "))];
        let target = Target::Path(&path);
        let call = Call { place, scopes: &scopes, method: Method::HEAD, target, headers: &headers };
        let response = self.call(&call, &mut || Payload::None)?;
        if response.status != 200 {
            return Err(failed(response, &reference.to_string()));
        }
        let digest = response.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(digest.and_then(|text| text.parse().ok()))
    }
}

/// What a registry is asked for: the digest if there is one, else the tag.
fn wanted(reference: &Name) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

fn unknown(reference: &Name) -> Error {
    Error::Unknown { name: reference.to_string(), message: String::new() }
}

/// The address of the next page: `Link: <ADDRESS>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_is_called_so() {
        for (link, expected) in [
            ("</v2/x/tags/list?last=a&n=1>; rel=\"next\"", Some("/v2/x/tags/list?last=a&n=1")),
            ("</v2/x>; rel=prev", None),
            ("/v2/x; rel=\"next\"", None),
            ("<", None),
        ] {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }
}
