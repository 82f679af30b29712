//! How much memory boot images may occupy: a share of the machine's memory, or of a smaller limit
//! of the control group.

use std::fs;
use std::path::{Path, PathBuf};

use super::limits::{MEMORY_MIN, MEMORY_SHARE, MEMORY_SHARE_MAX};

/// The most memory that this process can ever have, and the source of that limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryCeiling {
    /// Bytes.
    pub bytes: u64,
    /// `MemTotal`, or the file of a control group.
    pub source: String,
}

impl MemoryCeiling {
    /// Reads the limit from the kernel.
    pub fn read() -> Self {
        Self::told_by(|path| fs::read_to_string(path).ok())
    }

    fn told_by(read: impl Fn(&Path) -> Option<String>) -> Self {
        let machine = Self { bytes: read_mem_total(&read).unwrap_or(0), source: "MemTotal".into() };
        let groups = list_group_limits(&read).into_iter().filter_map(|file| {
            let bytes = read(&file)?.trim().parse().ok()?;
            Some(Self { bytes, source: file.display().to_string() })
        });
        groups.fold(machine, |least, group| if group.bytes < least.bytes { group } else { least })
    }

    /// The budget for boot images, bytes: the value of the configuration, or else a share. Never
    /// more than is safe to lock, since the kernel kills a process whose locked memory leaves no
    /// room for other memory.
    pub fn budget(&self, asked: Option<u64>) -> u64 {
        let share = |(part, of): (u64, u64)| self.bytes / of * part;
        asked.unwrap_or_else(|| share(MEMORY_SHARE).max(MEMORY_MIN)).min(share(MEMORY_SHARE_MAX))
    }
}

/// `MemTotal:       24105000 kB` of proc_meminfo(5).
fn read_mem_total(read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files that limit this process's memory: of its group and of every group above, in both
/// versions of cgroups(7).
fn list_group_limits(read: &impl Fn(&Path) -> Option<String>) -> Vec<PathBuf> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mut files = Vec::new();
    for mount in mounts.lines().filter_map(CgroupMount::of) {
        // `hierarchy:controllers:path`; version 2 names no controllers.
        let path = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let is_its = if mount.is_v2 {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|c| c == "memory")
            };
            is_its.then_some(path)
        });
        // In a container the mount may begin below the root of the hierarchy.
        let below = path.and_then(|path| Path::new(path).strip_prefix(mount.root).ok());
        let file = if mount.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        for group in below.unwrap_or(Path::new("")).ancestors() {
            files.push(mount.at.join(group).join(file));
        }
    }
    files
}

/// The mount point of a hierarchy of control groups that can limit memory.
struct CgroupMount<'a> {
    root: &'a Path,
    at: &'a Path,
    is_v2: bool,
}

impl<'a> CgroupMount<'a> {
    /// `36 35 0:31 /root /mount/point options - type source super-options` of
    /// proc_pid_mountinfo(5).
    fn of(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, at) = (Path::new(left.next()?), Path::new(left.next()?));
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        match kind {
            "cgroup2" => Some(Self { root, at, is_v2: true }),
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                Some(Self { root, at, is_v2: false })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:       4194304 kB\nMemFree: 1 kB\n");

    fn ceiling(files: &[(&str, &str)]) -> MemoryCeiling {
        MemoryCeiling::told_by(|path| {
            let found = files.iter().chain([&MEMINFO]).find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_counts_in_both_versions() {
        assert_eq!(ceiling(&[]), MemoryCeiling { bytes: 4096 * MIB, source: "MemTotal".into() });
        let v2 = ceiling(&[
            ("/proc/self/cgroup", "0::/system.slice/ringboot.service\n"),
            (
                "/proc/self/mountinfo",
                "26 25 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            ),
            ("/sys/fs/cgroup/system.slice/ringboot.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
        ]);
        let source = "/sys/fs/cgroup/system.slice/memory.max".to_owned();
        assert_eq!(v2, MemoryCeiling { bytes: 1024 * MIB, source });
        let v1 = ceiling(&[
            ("/proc/self/cgroup", "5:devices:/\n4:memory:/docker/1234\n0::/\n"),
            (
                "/proc/self/mountinfo",
                "36 35 0:31 /docker/1234 /cg/memory rw - cgroup cgroup rw,memory\n37 35 0:32 / \
                 /cg/cpu rw - cgroup cgroup rw,cpu\n",
            ),
            ("/cg/memory/memory.limit_in_bytes", "536870912\n"),
        ]);
        assert_eq!(
            v1,
            MemoryCeiling { bytes: 512 * MIB, source: "/cg/memory/memory.limit_in_bytes".into() }
        );
    }

    #[test]
    fn a_budget_above_the_ceiling_is_impossible() {
        let ceiling = MemoryCeiling { bytes: 1024 * MIB, source: String::new() };
        assert_eq!(ceiling.budget(None), 512 * MIB);
        assert_eq!(ceiling.budget(Some(100 * MIB)), 100 * MIB);
        assert_eq!(ceiling.budget(Some(u64::MAX)), 768 * MIB);
        let tiny = MemoryCeiling { bytes: 20 * MIB, source: String::new() };
        assert_eq!(tiny.budget(None), 15 * MIB);
    }
}
