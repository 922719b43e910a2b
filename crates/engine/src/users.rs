//! The users of a container: decided when it is recorded, and for good.

mod namespace;
mod onlookers;
mod within;

use bulkhead_store::{ContainerRecord, Image};

use crate::configure::{self, Caller, ImageFiles, Subordinate, Users};
use crate::document::Document;
use crate::engine::Engine;
use crate::error::Result;
use crate::host;
use crate::request::{Request, Root, UserNamespace};
use crate::rootfs::RootFs;

pub use namespace::{IN_USERS, enter_users};
pub(crate) use namespace::{are_elsewhere, enter_users_even_alone};
pub(crate) use onlookers::sees_processes;
pub(crate) use within::{WITHIN, Within};

/// What ids that no other container has are chosen by, while the container is recorded: nobody takes them meanwhile.
#[derive(Debug)]
pub(crate) struct Choice {
    caller: Caller,
    own: Subordinate,
    passwd: Vec<u8>,
    group: Vec<u8>,
}

impl Engine {
    /// Decides the users of a new container, unless that takes the records of others: then what they are chosen by is
    /// returned.
    ///
    /// # Errors
    /// As [`configure::users`], and for reading the image.
    pub(crate) fn decide_users(
        &self,
        document: &mut Document,
        image: Option<&Image>,
    ) -> Result<Option<Choice>> {
        let caller = host::caller();
        let asked = document.request.namespaces.user.as_ref();
        if caller == Caller::Root && matches!(asked, None | Some(UserNamespace::Host)) {
            return Ok(None);
        }
        // They were decided with the pod.
        if asked == Some(&UserNamespace::Pod) {
            return Ok(None);
        }
        let own = host::subordinate(caller)?;
        if !(caller == Caller::Root && matches!(asked, Some(UserNamespace::Auto { .. }))) {
            document.users = configure::users(&document.request, (caller, &own), ImageFiles::default(), &[])?;
            return Ok(None);
        }
        let lower = match (&document.request.root, image) {
            (Root::Directory(root), _) => vec![root.path.clone()],
            (Root::Image(_), Some(image)) => self.store.lower(image),
            (Root::Image(_), None) => Vec::new(),
        };
        let [passwd, group] =
            RootFs { lower, below: None, above: None }.read(["/etc/passwd", "/etc/group"])?;
        let (passwd, group) = (passwd.unwrap_or_default(), group.unwrap_or_default());
        Ok(Some(Choice { caller, own, passwd, group }))
    }
}

impl Choice {
    /// Chooses users that no other has.
    ///
    /// # Errors
    /// No ids left, a record of another container that cannot be read.
    pub(crate) fn among(&self, request: &Request, others: &[ContainerRecord]) -> Result<Option<Users>> {
        let users = |record: &ContainerRecord| Document::read(record).map(|document| document.users);
        let taken =
            others.iter().filter_map(|record| users(record).transpose()).collect::<Result<Vec<_>>>()?;
        let image = ImageFiles { passwd: &self.passwd, group: &self.group };
        configure::users(request, (self.caller, &self.own), image, &taken)
    }
}
