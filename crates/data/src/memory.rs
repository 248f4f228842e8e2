//! How much memory there is.

use std::fs;
use std::path::Path;

/// Bytes of memory that this process can still take without harm to others, if the system tells: what is free or can
/// be freed, within the limits of the control groups that a container is held by.
pub(crate) fn available() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(group_limits(Path::new("/sys/fs/cgroup"), &groups).fold(machine, u64::min))
}

/// `MemAvailable` of `/proc/meminfo`.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control groups (version 2, and the memory controller of version 1) leave, from `/proc/self/cgroup`.
fn group_limits<'a>(root: &'a Path, groups: &'a str) -> impl Iterator<Item = u64> + 'a {
    groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').collect::<Vec<_>>().try_into().ok())
        .flat_map(move |[_, controllers, group]: [&str; 3]| {
            let (root, limit, used) = match controllers {
                "" => (root.to_owned(), "memory.max", "memory.current"),
                _ => (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
            };
            let wanted =
                controllers.is_empty() || controllers.split(',').any(|name| name == "memory");
            let lowest = root.join(group.trim_start_matches('/'));
            let mut folders: Vec<_> = lowest.ancestors().map(Path::to_owned).collect();
            folders.retain(|folder| wanted && folder.starts_with(&root));
            folders.into_iter().filter_map(move |folder| {
                let number = |name: &str| -> Option<u64> {
                    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
                };
                // Pages of files count as used, and are given up when memory is short.
                let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
                let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
                let cached = cached.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
                Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(cached)))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_machine_and_its_groups_leave() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:    12 kB\n"), Some(12 << 10));
        assert_eq!(meminfo("MemTotal: 9 kB\n"), None);
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "max\n");
        write("a/b/memory.max", "1000\n");
        write("a/b/memory.current", "700\n");
        write("a/b/memory.stat", "anon 500\ninactive_file 200\n");
        write("memory/c/memory.limit_in_bytes", "90\n");
        write("memory/c/memory.usage_in_bytes", "100\n");
        let limits = |groups: &str| group_limits(root.path(), groups).collect::<Vec<_>>();
        assert_eq!(limits("0::/a/b\n"), [500]);
        assert_eq!(limits("4:cpu:/c\n7:memory,hugetlb:/c\n"), [0]);
        assert!(limits("0::/a\nnonsense").is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        let bytes = available().unwrap();
        println!("{bytes} bytes");
        assert!((1 << 20..1 << 50).contains(&bytes));
    }
}
