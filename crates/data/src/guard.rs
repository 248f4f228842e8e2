//! The border to libraries that may panic, on damaged files or on a GPU that is lost: a panic becomes an error, and nothing
//! is printed of it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::DataError;

thread_local! {
    /// Calls of [`catch_here`] that this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Calls of [`catch`] that any thread is in.
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// Calls a library; the message of its panic if it panics.
///
/// The panic is not reported on stderr, in this thread or in one of rayon's that works for it: rayon carries a panic
/// of its threads to the caller. Whatever the call was changing must not be used after a panic.
///
/// # Errors
/// What the library said as it panicked.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let _within = WithinPool::enter();
    catch_here(call)
}

/// Calls a library that panics in this thread alone; the message of its panic if it panics, which is not reported on
/// stderr. Whatever the call was changing must not be used after a panic.
///
/// # Errors
/// What the library said as it panicked.
pub fn catch_here<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_of_pool = || rayon::current_thread_index().is_some();
            let expected = DEPTH.get() > 0 || (GUARDED.load(Ordering::SeqCst) > 0 && is_of_pool());
            if !expected {
                report(info);
            }
        }));
    });
    let _within = Within::enter();
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| message(&*panic))
}

/// Calls a library that reads a file of the kind `what` ("images", "Parquet files"), as [`catch`] does.
///
/// # Errors
/// [`DataError::File`] where it panics.
pub(crate) fn guarded<T>(
    path: &Path,
    what: &str,
    call: impl FnOnce() -> T,
) -> Result<T, DataError> {
    catch(call).map_err(|panic| DataError::File {
        path: path.display().to_string(),
        problem: format!(
            "it is damaged, or unlike what is known of {what}: the library that reads them gave up ({panic})"
        ),
    })
}

/// Counts a call of [`catch`] while it lasts, for all threads.
struct WithinPool;

impl WithinPool {
    fn enter() -> Self {
        GUARDED.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for WithinPool {
    fn drop(&mut self) {
        GUARDED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a call of [`catch_here`] while it lasts, for its thread.
struct Within;

impl Within {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// What a panic said, in one line.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next()).unwrap_or("no reason given");
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch(|| 3), Ok(3));
        let numbers: Vec<usize> = vec![1, 2];
        let beyond = catch(|| numbers[numbers.len() + 3]).unwrap_err();
        assert!(beyond.contains("the len is 2 but the index is 5"), "{beyond}");
        let nested = catch(|| catch(|| panic!("inner\nline")).unwrap_err());
        assert_eq!(nested, Ok("inner".to_owned()));
    }

    #[test]
    fn an_error_names_the_file() {
        let error = guarded(Path::new("a/b.png"), "images", || panic!("no such tile")).unwrap_err();
        let wanted = "a/b.png: it is damaged, or unlike what is known of images: the library that reads them gave up (no \
                      such tile)";
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn a_panic_of_a_thread_of_rayon_is_caught_too() {
        let broken = catch(|| {
            (0..1000)
                .into_par_iter()
                .map(|n| if n == 700 { panic!("at {n}") } else { n })
                .sum::<i32>()
        });
        assert_eq!(broken, Err("at 700".to_owned()));
    }
}
