//! The levels that a core reads from, as Linux lists them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The caches of the first core, and which cores share each.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";

/// More than caches hold.
const BEYOND: usize = 256 << 20;

/// A cache, or memory, and how much a thread reads again and again to read from there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) bytes: usize,
}

/// The levels of this machine where each of so many threads reads data of its own; those of common
/// processors where the system doesn't tell.
pub(super) fn levels(num_threads: usize) -> Vec<Level> {
    let mut caches = listed(Path::new(CACHES));
    if caches.is_empty() {
        let all = usize::MAX;
        caches.extend([
            (1, Cache { bytes: 32 << 10, num_cores: 1 }),
            (2, Cache { bytes: 1 << 20, num_cores: 1 }),
            (3, Cache { bytes: 32 << 20, num_cores: all }),
        ]);
    }
    let beyond = caches.values().map(|cache| 2 * cache.bytes).fold(BEYOND, usize::max);
    let in_caches = caches.iter().map(|(level, cache)| Level {
        name: format!("L{level}"),
        bytes: cache.bytes / 2 / cache.num_cores.min(num_threads),
    });
    in_caches.chain([Level { name: "memory".to_owned(), bytes: beyond }]).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Cache {
    bytes: usize,
    num_cores: usize,
}

/// The caches for data, by level.
fn listed(folder: &Path) -> BTreeMap<u32, Cache> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| cache(&entry.path())).collect()
}

fn cache(folder: &Path) -> Option<(u32, Cache)> {
    let read = |name: &str| Some(fs::read_to_string(folder.join(name)).ok()?.trim().to_owned());
    if read("type")? == "Instruction" {
        return None;
    }
    let kibibytes: usize = read("size")?.strip_suffix('K')?.parse().ok()?;
    let num_cores = num_listed(&read("shared_cpu_list")?)?;
    let level = read("level")?.parse().ok()?;
    // Virtual machines may list caches of no size.
    (kibibytes * num_cores > 0).then_some((level, Cache { bytes: kibibytes << 10, num_cores }))
}

/// How many numbers a list like `0-3,8` has.
fn num_listed(list: &str) -> Option<usize> {
    let ranges = list.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some((last + 1).saturating_sub(first))
    });
    ranges.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        assert_eq!(num_listed("0"), Some(1));
        assert_eq!(num_listed("0-3,8-9"), Some(6));
        assert_eq!(num_listed(""), None);
        assert_eq!(num_listed("0-x"), None);
    }

    #[test]
    fn caches_for_data_are_read_and_others_left() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("index0", "Data", "1", "48K", "0"),
            ("index1", "Instruction", "1", "32K", "0"),
            ("index2", "Unified", "2", "0K", "0"),
            ("index3", "Unified", "3", "32768K", "0-1"),
            ("uevent", "", "", "", ""),
        ];
        for (name, kind, level, size, shared) in files {
            let index = folder.path().join(name);
            fs::create_dir(&index).unwrap();
            for (name, text) in
                [("type", kind), ("level", level), ("size", size), ("shared_cpu_list", shared)]
            {
                fs::write(index.join(name), format!("{text}\n")).unwrap();
            }
        }
        let expected = [
            (1, Cache { bytes: 48 << 10, num_cores: 1 }),
            (3, Cache { bytes: 32 << 20, num_cores: 2 }),
        ];
        assert_eq!(listed(folder.path()), BTreeMap::from(expected));
        assert!(listed(&folder.path().join("nowhere")).is_empty());
    }

    #[test]
    fn levels_grow_up_to_memory() {
        let levels = levels(2);
        assert!(levels.is_sorted_by_key(|level| level.bytes), "{levels:?}");
        assert_eq!(levels.last().unwrap().name, "memory");
    }
}
