//! Work for programs from elsewhere: on a thread with a deep stack, for so long at most.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::guard;

/// Bytes of the stack, of which a system makes room for what is used: values within values are freed by recursion, and the
/// parser recurses too.
const STACK: usize = if cfg!(target_pointer_width = "64") { 256 << 20 } else { 64 << 20 };
/// How long work on one thing may take. What takes longer is left to itself, as a thread cannot be stopped, and its error ends the program.
const MOST_TIME: Duration = Duration::from_secs(60);

/// What work gives.
///
/// # Errors
/// What its panic said, that it takes too long, or that there is no thread for it.
pub(super) fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let mut work = Some(work);
    let mut given = each(MOST_TIME, vec![()], move |()| work.take().map(|work| work()))?;
    given.pop().flatten().ok_or_else(|| NO_RESULT.to_owned())
}

/// What work gives of each of several things, as far as there is time for each.
///
/// # Errors
/// As [`apart`].
pub(super) fn all_apart<I: Send + 'static, T: Send + 'static>(
    things: Vec<I>,
    work: impl FnMut(I) -> T + Send + 'static,
) -> Result<Vec<T>, String> {
    each(MOST_TIME, things, work)
}

const NO_RESULT: &str = "its thread ended without a result";

fn each<I: Send + 'static, T: Send + 'static>(
    time: Duration,
    things: Vec<I>,
    mut work: impl FnMut(I) -> T + Send + 'static,
) -> Result<Vec<T>, String> {
    let (sender, receiver) = channel();
    let count = things.len();
    let run = move || {
        for thing in things {
            let given = guard::catch(|| work(thing));
            // Nobody waits any more after a panic, or when it took too long.
            if given.is_err() | sender.send(given).is_err() {
                break;
            }
        }
    };
    let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK);
    thread.spawn(run).map_err(|error| format!("there is no thread for it: {error}"))?;
    let wait = |_| {
        receiver.recv_timeout(time).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                format!("it took longer than {} seconds", time.as_secs_f64())
            }
            RecvTimeoutError::Disconnected => NO_RESULT.to_owned(),
        })?
    };
    (0..count).map(wait).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_has_an_end() {
        assert_eq!(apart(|| 3), Ok(3));
        assert_eq!(apart(|| -> u8 { panic!("no") }), Err("no".to_owned()));
        let (sender, receiver) = channel::<()>();
        let short = Duration::from_millis(20);
        let late = each(short, vec![1, 2], move |thing| thing == 2 && receiver.recv().is_ok());
        assert_eq!(late, Err("it took longer than 0.02 seconds".to_owned()));
        drop(sender);
        assert_eq!(all_apart(vec![1, 2, 3], |one| 2 * one), Ok(vec![2, 4, 6]));
        assert_eq!(
            all_apart(vec![2, 0, 3], |one| 6 / one),
            Err("attempt to divide by zero".to_owned())
        );
    }

    #[test]
    fn the_stack_is_deep() {
        fn sum(depth: u64) -> u64 {
            let below = if depth == 0 { 0 } else { sum(std::hint::black_box(depth - 1)) };
            std::hint::black_box(below) + 1
        }
        assert_eq!(apart(|| sum(500_000)), Ok(500_001));
    }
}
