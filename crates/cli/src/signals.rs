//! Signals that ask a long command to save what it has and stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::flag;

/// As shells give it: a process that a signal stopped.
const SIGNALLED: usize = 128;

/// Those signals: Ctrl-C, and what `kill`, schedulers and a closed terminal send.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::signal::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// Exit code of a command that a signal stopped.
pub fn exit_code(signal: usize) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX)
}

/// The number of the signal that came, from now on; 0 until then. A second signal ends the process at once.
///
/// A signal that is ignored stays so: `nohup` wants to outlive its terminal.
///
/// # Errors
/// When the system refuses.
pub fn watch() -> io::Result<Arc<AtomicUsize>> {
    let (came, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for signal in SIGNALS.into_iter().filter(|signal| !is_ignored(*signal)) {
        let number = usize::try_from(signal).unwrap_or(0);
        // Handlers run in this order: the first signal only sets what the second one finds.
        let code = i32::from(exit_code(number));
        flag::register_conditional_shutdown(signal, code, again.clone())?;
        flag::register(signal, again.clone())?;
        flag::register_usize(signal, came.clone(), number)?;
    }
    Ok(came)
}

/// Whether the process was begun with the signal ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: `sigaction` is plain data, for which zeros are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with no new action it only writes the present one to `action`, which outlives the call.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(not(unix))]
fn is_ignored(_: i32) -> bool {
    false
}
