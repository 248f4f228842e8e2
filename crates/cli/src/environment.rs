//! What Vulkan's drivers read of the environment: set so that they print nothing of their own.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Sets what drivers are to read. To be called before there is a second thread.
pub fn prepare() {
    if cfg!(unix) {
        for (name, value) in settings(&|name| env::var_os(name)) {
            // SAFETY: this is the first thing that the program does, when it has one thread.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// The variables to set, where those that are set are `var`.
fn settings(var: &dyn Fn(&str) -> Option<OsString>) -> Vec<(&'static str, &'static str)> {
    let is_none_of = |names: &[&str]| names.iter().all(|name| var(name).is_none());
    let mut settings = Vec::new();
    // Mesa's layer that puts the desktop's GPU first asks the Wayland compositor which one that is, and where there is
    // none, as in containers, over ssh and in cron's jobs, libwayland prints an error. The layer is for programs that
    // draw: without it, GPUs are listed in one order with a desktop and without. Users ask it by these variables.
    if is_none_of(&["MESA_VK_DEVICE_SELECT", "DRI_PRIME"]) {
        settings.push(("NODEVICE_SELECT", "1"));
    }
    // Mesa keeps compiled shaders in the user's cache, and says so where it cannot.
    let asked = ["MESA_SHADER_CACHE_DISABLE", "MESA_SHADER_CACHE_DIR", "MESA_GLSL_CACHE_DISABLE"];
    let home = var("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = var("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    if is_none_of(&asked) && cache.is_some_and(|cache| !can_be_written(&cache)) {
        settings.push(("MESA_SHADER_CACHE_DISABLE", "true"));
    }
    settings
}

/// Whether files can be made in a folder, or the folder itself.
fn can_be_written(folder: &Path) -> bool {
    let there = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok());
    there.is_none_or(|folder| folder.is_dir() && is_writable(folder))
}

#[cfg(unix)]
fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_writable(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: (&str, &str) = ("NODEVICE_SELECT", "1");
    const CACHE: (&str, &str) = ("MESA_SHADER_CACHE_DISABLE", "true");

    fn set(variables: &[(&str, &str)]) -> Vec<(&'static str, &'static str)> {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name);
        settings(&|name| value(name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn the_layer_is_off_unless_it_is_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let home = ("HOME", home.path().to_str().unwrap());
        assert_eq!(set(&[home]), [LAYER]);
        assert_eq!(set(&[home, ("MESA_VK_DEVICE_SELECT", "list")]), []);
        assert_eq!(set(&[home, ("DRI_PRIME", "1")]), []);
    }

    #[cfg(unix)]
    #[test]
    fn shaders_are_not_kept_where_they_cannot_be() {
        // No folder can be made in a file, by whom ever.
        let nowhere = ("HOME", "/dev/null");
        assert_eq!(set(&[nowhere]), [LAYER, CACHE]);
        assert_eq!(set(&[nowhere, ("MESA_SHADER_CACHE_DIR", "/elsewhere")]), [LAYER]);
        let there = tempfile::tempdir().unwrap();
        let cache = there.path().join("not/there/yet");
        assert_eq!(set(&[nowhere, ("XDG_CACHE_HOME", cache.to_str().unwrap())]), [LAYER]);
        assert_eq!(set(&[]), [LAYER]);
    }
}
