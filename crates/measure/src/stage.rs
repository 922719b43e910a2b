//! One platform in an arena: places for its sandboxes that are ready to run the workload.

use crate::arena::{Arena, WORKLOAD};
use crate::platform::{Platform, Seat};
use crate::stats::Failure;

/// Where sandboxes of one platform are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) platform: &'a Platform,
}

impl Stage<'_> {
    /// A seat that is ready to run the workload with these arguments, and the words of that command.
    pub(crate) fn seat(&self, number: usize, arguments: &[&str]) -> Result<(Seat, Vec<String>), Failure> {
        self.seat_as(number, arguments, |_| {})
    }

    /// The same, on a seat that `fit` has changed.
    pub(crate) fn seat_as<Word: AsRef<str>>(
        &self,
        number: usize,
        arguments: &[Word],
        fit: impl FnOnce(&mut Seat),
    ) -> Result<(Seat, Vec<String>), Failure> {
        let words = std::iter::once(WORKLOAD).chain(arguments.iter().map(AsRef::as_ref));
        let words = Vec::from_iter(words.map(str::to_owned));
        let mut seat = self.arena.seat(self.platform, number)?;
        fit(&mut seat);
        self.platform.prepare(&seat, &words)?;
        Ok((seat, words))
    }

    /// Does something on a fresh seat, and removes what is left there when it fails.
    pub(crate) fn on_seat<T>(
        &self,
        arguments: &[&str],
        what: impl FnOnce(&Seat, &[String]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (seat, words) = self.seat(0, arguments)?;
        what(&seat, &words).inspect_err(|_| self.arena.clear(self.platform, &seat))
    }
}
