//! What is mounted in a container: what was asked for, and the image's volumes.

use bulkhead_store::Defaults;

use super::invalid;
use crate::error::Result;
use crate::request::{Access, Mount, MountKind, Request, Volume};

/// Returns the mounts that were asked for, in their order, and an anonymous volume for each `VOLUME` of the image at whose place
/// there is none of them.
///
/// A volume without a name is the container's own: the caller makes one and writes its name here.
///
/// # Errors
/// Two mounts at one place, a `VOLUME` that is no place in a container.
pub fn mount_points(request: &Request, defaults: &Defaults) -> Result<Vec<Mount>> {
    let mut mounts = request.mounts.clone();
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index].iter().any(|other| other.destination == mount.destination) {
            let reason = "two mounts are asked for at this place; leave one of them out";
            return Err(invalid(format!("mount at {}", mount.destination), reason));
        }
    }
    for place in defaults.volumes.keys() {
        // An image's path may lack the slash at its front, as docker has it.
        let absolute = if place.starts_with('/') { place.clone() } else { format!("/{place}") };
        let volume = Mount::from_volume(&absolute).map_err(|error| invalid("image", error.to_string()))?;
        if !mounts.iter().any(|mount| mount.destination == volume.destination) {
            let kind = MountKind::Volume(Volume::default());
            mounts.push(Mount { destination: volume.destination, access: Access::ReadWrite, kind });
        }
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(volumes: &[&str]) -> Defaults {
        let volumes = volumes.iter().map(|&place| (place.to_owned(), bulkhead_store::Empty {}));
        Defaults { volumes: volumes.collect(), ..Defaults::default() }
    }

    #[test]
    fn volumes_of_the_image_fill_what_is_left() {
        let request = Request {
            mounts: vec![Mount::from_volume("data:/data").unwrap(), Mount::from_tmpfs("/cache").unwrap()],
            ..Request::default()
        };
        let mounts = mount_points(&request, &image(&["/cache/", "/data", "/log", "spool"])).unwrap();
        let places: Vec<&str> = mounts.iter().map(|mount| mount.destination.as_str()).collect();
        assert_eq!(places, ["/data", "/cache", "/log", "/spool"]);
        assert_eq!(mounts[2].kind, MountKind::Volume(Volume::default()));
    }

    #[test]
    fn a_place_has_one_mount() {
        let mounts = ["a1:/data", "/srv:/data/"].map(|text| Mount::from_volume(text).unwrap());
        let request = Request { mounts: mounts.to_vec(), ..Request::default() };
        let error = mount_points(&request, &image(&[])).unwrap_err().to_string();
        assert!(error.starts_with("mount at /data: two mounts"), "{error}");
        assert!(mount_points(&Request::default(), &image(&["/"])).is_err());
    }
}
