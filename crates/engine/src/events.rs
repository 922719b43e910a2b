//! What happened to containers, images and volumes: docker's events.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bulkhead_store::{Event, Subject};

use crate::engine::{Engine, now};
use crate::error::Result;
use crate::filter::Filters;
use crate::logs::Follow;
use crate::watch::Ends;

/// The keys by which events are filtered (docker's).
pub const FILTERS: [&str; 10] =
    ["container", "image", "volume", "network", "pod", "type", "event", "label", "label!", "action"];

/// Which events are wanted. Times are nanoseconds since 1970 (UTC).
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Also those from this time on that have happened already.
    pub since: Option<u64>,
    /// None after this time.
    pub until: Option<u64>,
    /// Those that fit.
    pub filters: Filters,
    /// Whether to wait for more.
    pub follow: Follow,
}

/// How often is looked for new events.
const INTERVAL: Duration = Duration::from_millis(100);

/// How often is looked at all containers though nothing has happened to any.
const PAUSE: Duration = Duration::from_secs(5);

impl Engine {
    /// Gives the events that fit to `each`, the oldest first, until that breaks or `until` has passed.
    ///
    /// # Errors
    /// As the database.
    pub fn events(&self, wanted: &Events, each: &mut dyn FnMut(&Event) -> ControlFlow<()>) -> Result<()> {
        // Ends are seen by monitors and recorded by whoever looks: watched before the first look, so that none falls between.
        let mut ends = match wanted.follow {
            Follow::No => None,
            // Where nothing can be watched is looked now and then.
            Follow::UntilEnd => {
                Ends::new([self.places().container(""), self.places().container_run("")]).ok()
            }
        };
        self.tell_ends()?;
        let mut looked = Instant::now();
        let mut last = self.store.newest_event()?;
        if wanted.since.is_some() || wanted.follow == Follow::No {
            let since = wanted.since.map(u64::cast_signed);
            let mut events = self.store.events(since, wanted.until.map(u64::cast_signed))?;
            last = events.iter().map(|event| event.sequence).fold(last, i64::max);
            // An end is recorded later than it was.
            events.sort_by_key(|event| event.time);
            for event in events {
                if fits(&wanted.filters, &event) && each(&event).is_break() {
                    return Ok(());
                }
            }
        }
        if wanted.follow == Follow::No {
            return Ok(());
        }
        loop {
            for event in self.store.events_after(last)? {
                last = event.sequence;
                let is_later = wanted.until.is_some_and(|until| event.time > until.cast_signed());
                if !is_later && fits(&wanted.filters, &event) && each(&event).is_break() {
                    return Ok(());
                }
            }
            if wanted.until.is_some_and(|until| now() > until) {
                return Ok(());
            }
            let has_changed = match ends.as_mut().map(|ends| ends.wait(INTERVAL)) {
                Some(Ok(has_changed)) => has_changed,
                Some(Err(_)) | None => {
                    ends = None;
                    std::thread::sleep(INTERVAL);
                    false
                }
            };
            // That a monitor was killed is no event.
            let pause = if ends.is_some() { PAUSE } else { INTERVAL * 5 };
            if has_changed || looked.elapsed() >= pause {
                // Many may be writing all the time.
                std::thread::sleep(INTERVAL.saturating_sub(looked.elapsed()));
                self.tell_ends()?;
                looked = Instant::now();
            }
        }
    }
}

fn fits(filters: &Filters, event: &Event) -> bool {
    let names = |subject: Subject| {
        filters.any(subject.text(), |wanted| {
            event.subject == subject
                && (event.id.starts_with(wanted)
                    || event.attributes.get("name").is_some_and(|name| name == wanted))
        })
    };
    // As docker, for which a name without a tag means all tags.
    let is_of = |image: &str, wanted: &str| {
        image == wanted
            || image.strip_prefix(wanted).is_some_and(|tag| tag.starts_with(':') && !tag.contains('/'))
    };
    let image = |wanted: &str| {
        let names = ["image", "name"].iter().filter_map(|key| event.attributes.get(*key));
        match event.subject {
            Subject::Image => event.id == wanted || names.into_iter().any(|name| is_of(name, wanted)),
            _ => event.attributes.get("image").is_some_and(|image| is_of(image, wanted)),
        }
    };
    // As docker, for which `exec_start` and `health_status` stand for all that follow them after a colon.
    let is = |wanted: &str| {
        event.action.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
    };
    names(Subject::Container)
        && names(Subject::Volume)
        && names(Subject::Pod)
        && names(Subject::Network)
        && filters.any("image", image)
        && filters.any("type", |wanted| wanted == event.subject.text())
        && filters.any("event", is)
        && filters.any("action", is)
        && filters.fits_labels(&event.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(texts: &[&str], event: &Event) -> bool {
        super::fits(&Filters::parse(texts, &FILTERS).unwrap(), event)
    }

    #[test]
    fn events_are_filtered_by_what_they_happened_to() {
        let event =
            Event::new(Subject::Container, "start", "0123").with("name", "web").with("image", "alpine:3");
        for (texts, expected) in [
            (&[][..], true),
            (&["container=web"], true),
            (&["container=01"], true),
            (&["container=db"], false),
            (&["container=db", "container=web"], true),
            (&["volume=web"], false),
            (&["image=alpine"], true),
            (&["image=alpine:3"], true),
            (&["image=alp"], false),
            (&["image=debian"], false),
            (&["type=container", "event=start"], true),
            (&["type=image"], false),
            (&["event=die"], false),
            (&["label=name=web"], true),
        ] {
            assert_eq!(fits(texts, &event), expected, "{texts:?}");
        }
        let event = Event::new(Subject::Container, "health_status: healthy", "0123");
        for (text, expected) in [
            ("event=health_status", true),
            ("event=health_status: healthy", true),
            ("event=health_status: unhealthy", false),
            ("event=health", false),
        ] {
            assert_eq!(fits(&[text], &event), expected, "{text}");
        }
    }
}
