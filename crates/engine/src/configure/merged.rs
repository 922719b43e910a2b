//! What a container does by default, once the image's word and the request's are joined: docker's `Config`.

use std::collections::BTreeMap;

use bulkhead_store::{Defaults, Empty, Healthcheck};

use super::labels;
use crate::request::{self, HealthCommand, Limit, MountKind, Nanoseconds, Request};

/// Joins what a request asks for to what the image says, by docker's rules: as `inspect` tells it, in the form in which an
/// image has it.
pub fn merged(request: &Request, image: &Defaults) -> Defaults {
    let asked = &request.process;
    let text = |asked: Option<String>, of_image: &str| asked.unwrap_or_else(|| of_image.to_owned());
    let (entrypoint, cmd) = command(asked, image);
    Defaults {
        user: text(asked.user.as_ref().map(ToString::to_string), &image.user),
        exposed_ports: image.exposed_ports.clone(),
        env: environment(asked, image),
        entrypoint,
        cmd,
        volumes: volumes(request, image),
        working_dir: text(asked.directory.clone(), &image.working_dir),
        labels: labels(request, image),
        stop_signal: text(request.stop_signal.map(|signal| signal.to_string()), &image.stop_signal),
        stop_timeout: request.stop_timeout.map(Limit::signed).or(image.stop_timeout),
        healthcheck: health(&request.health, image.healthcheck.as_ref()),
        shell: image.shell.clone(),
        on_build: image.on_build.clone(),
    }
}

/// Entrypoint and command: whoever names an entrypoint does without the image's command.
fn command(asked: &request::Process, image: &Defaults) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let own = Some(asked.command.clone()).filter(|words| !words.is_empty());
    match &asked.entrypoint {
        Some(entrypoint) => (Some(entrypoint.clone()).filter(|words| !words.is_empty()), own),
        None => (image.entrypoint.clone(), own.or_else(|| image.cmd.clone())),
    }
}

/// What was asked for, in its order, and behind it those of the image that nobody has named.
fn environment(asked: &request::Process, image: &Defaults) -> Vec<String> {
    let name = |text: &str| text.split_once('=').map_or(text, |(name, _)| name).to_owned();
    let mut variables: Vec<String> = Vec::new();
    for request::Variable { name, value } in &asked.environment {
        // A name alone takes a variable of the image away, and docker keeps it for that.
        variables.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
    }
    let is_named = |text: &&String| asked.environment.iter().any(|variable| variable.name == name(text));
    variables.extend(image.env.iter().filter(|text| !is_named(text)).cloned());
    variables
}

/// Places of the image's volumes, and of those that were asked for without a name.
fn volumes(request: &Request, image: &Defaults) -> BTreeMap<String, Empty> {
    let is_anonymous = |kind: &MountKind| matches!(kind, MountKind::Volume(volume) if volume.name.is_none());
    let own = request.mounts.iter().filter(|mount| is_anonymous(&mount.kind));
    let own = own.map(|mount| (mount.destination.clone(), Empty {}));
    own.chain(image.volumes.clone()).collect()
}

fn health(asked: &request::Health, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let of_image = image.cloned().unwrap_or_default();
    let test = match &asked.command {
        HealthCommand::None => vec!["NONE".to_owned()],
        HealthCommand::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        HealthCommand::Image => of_image.test,
    };
    let time = |asked: Option<Nanoseconds>, of_image: i64| match asked {
        Some(Nanoseconds(time)) if time > 0 => i64::try_from(time).unwrap_or(i64::MAX),
        _ => of_image,
    };
    let health = Healthcheck {
        test,
        interval: time(asked.interval, of_image.interval),
        timeout: time(asked.timeout, of_image.timeout),
        start_period: time(asked.start_period, of_image.start_period),
        start_interval: time(asked.start_interval, of_image.start_interval),
        retries: asked.retries.filter(|&retries| retries > 0).map_or(of_image.retries, i64::from),
    };
    Some(health).filter(|health| *health != Healthcheck::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Mount;

    fn image() -> Defaults {
        let set = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Empty {})).collect();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Defaults {
            user: "app".to_owned(),
            exposed_ports: set(&["80/tcp"]),
            env: words("PATH=/bin A=1 B=2"),
            entrypoint: Some(words("/entry --")),
            cmd: Some(words("serve all")),
            volumes: set(&["/data"]),
            working_dir: "/app".to_owned(),
            labels: BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]),
            stop_signal: "SIGQUIT".to_owned(),
            healthcheck: Some(Healthcheck { test: words("CMD true"), retries: 5, ..Healthcheck::default() }),
            ..Defaults::default()
        }
    }

    #[test]
    fn who_asks_for_nothing_has_what_the_image_says() {
        assert_eq!(merged(&Request::default(), &image()), image());
        assert_eq!(merged(&Request::default(), &Defaults::default()), Defaults::default());
    }

    #[test]
    fn what_is_asked_for_goes_over_it() {
        let mut request = Request::default();
        let process = &mut request.process;
        process.environment = ["C=3", "A=9", "B"].map(|text| text.parse().unwrap()).into();
        process.user = Some("0:0".parse().unwrap());
        process.directory = Some("/w".to_owned());
        process.command = vec!["x".to_owned()];
        request.labels = BTreeMap::from([("b".to_owned(), "3".to_owned())]);
        request.stop_signal = Some("TERM".parse().unwrap());
        request.mounts =
            ["/more", "named:/n", "/host:/h"].map(|text| Mount::from_volume(text).unwrap()).into();
        request.health.interval = Some(Nanoseconds(7_000_000_000));
        let joined = merged(&request, &image());
        assert_eq!(joined.env, ["C=3", "A=9", "B", "PATH=/bin"]);
        assert_eq!((joined.user.as_str(), joined.working_dir.as_str()), ("0:0", "/w"));
        assert_eq!(joined.entrypoint.unwrap(), ["/entry", "--"]);
        assert_eq!(joined.cmd.unwrap(), ["x"]);
        assert_eq!(Vec::from_iter(joined.labels.values()), ["1", "3"]);
        assert_eq!(Vec::from_iter(joined.volumes.keys()), ["/data", "/more"]);
        let health = joined.healthcheck.unwrap();
        assert_eq!((health.test[1].as_str(), health.interval, health.retries), ("true", 7_000_000_000, 5));
    }

    #[test]
    fn an_entrypoint_takes_the_command_of_the_image_away() {
        let mut request = Request::default();
        request.process.entrypoint = Some(vec!["/own".to_owned()]);
        let joined = merged(&request, &image());
        assert_eq!((joined.entrypoint.unwrap(), joined.cmd), (vec!["/own".to_owned()], None));
        request.process.entrypoint = Some(Vec::new());
        assert_eq!(merged(&request, &image()).entrypoint, None);
        request.health.command = HealthCommand::None;
        assert_eq!(merged(&request, &image()).healthcheck.unwrap().test, ["NONE"]);
    }
}
