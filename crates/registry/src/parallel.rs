//! Several things at once, but not all.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Does the same with every item, `most` at a time, and gives the results in the order of the items. After the first
/// error no further item is begun; it is the error of the whole.
///
/// Threads are those of this call: none is left when it returns. One item needs none.
///
/// # Errors
/// The first one of `work`, in time.
pub fn in_parallel<T, R, E>(
    items: &[T],
    most: NonZeroUsize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
{
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::new(), None));
    let body = || {
        while let Some((at, item)) = take(&next, items) {
            let result = work(item);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(result) => results.0.push((at, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    results.1.get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..most.get().min(items.len()) {
            // Where no thread can be had, there is one less.
            let _ = thread::Builder::new().name("layer".to_owned()).spawn_scoped(scope, body);
        }
        body();
    });
    match results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        (_, Some(error)) => Err(error),
        (mut results, None) => {
            results.sort_unstable_by_key(|(at, _)| *at);
            Ok(results.into_iter().map(|(_, result)| result).collect())
        }
    }
}

fn take<'t, T>(next: &AtomicUsize, items: &'t [T]) -> Option<(usize, &'t T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    #[test]
    fn results_come_in_order_and_never_more_than_allowed_run() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items = Vec::from_iter(0..20u64);
        let results = in_parallel(&items, THREE, |item| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20 - item));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(item * 2)
        });
        assert_eq!(results.unwrap(), Vec::from_iter((0..20).map(|item| item * 2)));
        assert!((2..=3).contains(&most.into_inner()), "not three ran at once");
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let (failed, begun_later) = (AtomicBool::new(false), AtomicUsize::new(0));
        let items = Vec::from_iter(0..100);
        let result = in_parallel(&items, THREE, |item| {
            begun_later.fetch_add(usize::from(failed.load(Ordering::SeqCst)), Ordering::SeqCst);
            if *item == 5 {
                failed.store(true, Ordering::SeqCst);
                return Err("five");
            }
            thread::sleep(Duration::from_millis(5));
            Ok(())
        });
        assert_eq!(result, Err("five"));
        assert!(begun_later.into_inner() <= 3, "items were begun after the error");
    }
}
