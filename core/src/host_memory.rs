//! The host's memory, as the system tells of it: the machine's, or that of the container that the process is in.

use std::fs::read_to_string;

/// Bytes that this process may use in all; `None` where the system does not say.
pub fn total_memory() -> Option<u64> {
    let machine = in_meminfo(&read_to_string("/proc/meminfo").ok()?, "MemTotal")?;
    Some(machine.min(Group::own().limit.unwrap_or(u64::MAX)))
}

/// Bytes that this process can have without another giving up any; `None` where the system does not say.
pub fn free_memory() -> Option<u64> {
    let machine = in_meminfo(&read_to_string("/proc/meminfo").ok()?, "MemAvailable")?;
    Some(machine.min(Group::own().free().unwrap_or(u64::MAX)))
}

/// What `/proc/meminfo` says of a name, in bytes.
fn in_meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A control group's account of memory.
struct Group {
    /// Bytes that it may use; `None` for as many as there are.
    limit: Option<u64>,
    used: Option<u64>,
    /// Of these, cached files that can go.
    cached: u64,
}

impl Group {
    /// The group of this process, as a container shows it: version 2 of the interface, else version 1.
    fn own() -> Group {
        let two = Group::from("/sys/fs/cgroup/memory", ["max", "current", "stat"], "inactive_file");
        let one = ["limit_in_bytes", "usage_in_bytes", "stat"];
        if two.limit.is_some() { two } else { Group::from("/sys/fs/cgroup/memory/memory", one, "total_inactive_file") }
    }

    fn from(start: &str, names: [&str; 3], cached: &str) -> Group {
        let [limit, used, stat] = names.map(|name| read_to_string(format!("{start}.{name}")).ok());
        // Without a limit version 2 says `max`, version 1 a number that no machine has.
        let number = |text: Option<String>| text?.trim().parse().ok();
        Group { limit: number(limit), used: number(used), cached: stat.and_then(|s| in_stat(&s, cached)).unwrap_or(0) }
    }

    fn free(&self) -> Option<u64> {
        Some(self.limit?.saturating_sub(self.used?.saturating_sub(self.cached)))
    }
}

fn in_stat(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let meminfo = "MemTotal:       16 kB\nMemFree:         1 kB\nMemAvailable:    8 kB\n";
        assert_eq!(in_meminfo(meminfo, "MemTotal"), Some(16 << 10));
        assert_eq!(in_meminfo(meminfo, "MemAvailable"), Some(8 << 10));
        assert_eq!((in_meminfo(meminfo, "Mem"), in_meminfo(meminfo, "Swap")), (None, None));
        let stat = "inactive_file_x 7\ninactive_file 4096\nslab 1";
        assert_eq!((in_stat(stat, "inactive_file"), in_stat(stat, "file")), (Some(4096), None));
    }

    #[test]
    fn cached_files_of_a_group_can_go() {
        let group = |limit, used, cached| Group { limit, used, cached }.free();
        assert_eq!(group(Some(100), Some(70), 30), Some(60));
        assert_eq!(group(Some(100), Some(130), 0), Some(0));
        assert_eq!(group(None, Some(130), 0), None);
    }

    #[test]
    fn there_is_less_free_than_there_is() {
        if let (Some(total), Some(free)) = (total_memory(), free_memory()) {
            assert!(0 < free && free <= total, "{free} of {total}");
        }
    }
}
