//! Programs that read everywhere without anybody waiting for what they find: indexers, and the daemons
//! for trash, thumbnails and volumes. Nobody is asked for a code on their account, and they are answered
//! at once.
//!
//! They are known by their names. Whoever gives a program of their own such a name gets no prompts for
//! it, and nothing else.

/// What the kernel keeps of a program's name, in bytes: `TASK_COMM_LEN` in include/linux/sched.h, without
/// the zero at its end.
const KEPT: usize = 15;

/// Their names.
const NAMES: [&str; 40] = [
    // Indexers and searches.
    "akonadi_indexing_agent",
    "baloo_file",
    "baloo_file_extractor",
    "localsearch",
    "mediascanner-service-2.0",
    "minidlnad",
    "recollindex",
    "rygel",
    "tracker-extract",
    "tracker-extract-3",
    "tracker-store",
    "tracker-writeback",
    "tracker-writeback-3",
    "updatedb",
    "zeitgeist-daemon",
    "zeitgeist-datahub",
    "zeitgeist-fts",
    // Trash, recent files and metadata of GVfs. Its `gvfsd-admin` and `gvfsd-archive` read what a person
    // opens.
    "gvfsd",
    "gvfsd-metadata",
    "gvfsd-recent",
    "gvfsd-trash",
    "trash.so",
    // Volumes.
    "devmon",
    "udiskie",
    "udisksd",
    // Thumbnails; the rest has that in its name.
    "tumblerd",
    "totem-video-thumbnailer",
    "xplayer-video-thumbnailer",
    // Desktops that keep house: free space, old files, what was used last.
    "csd-housekeeping",
    "gsd-housekeeping",
    "kactivitymanagerd",
    "kded5",
    "kded6",
    "kiod5",
    "kiod6",
    "msd-housekeeping",
    // Cleaning and scanning.
    "clamd",
    "clamonacc",
    "systemd-tmpfiles",
    "tmpwatch",
];

/// What names begin with where there are many: `gvfs-udisks2-volume-monitor` and its like for phones,
/// cameras and accounts, `localsearch-extractor-3`, `tracker-miner-fs-3`, `updatedb.plocate`.
const BEGINNINGS: [&str; 4] = ["gvfs-", "localsearch-", "tracker-miner", "updatedb."];

/// What is in the names of thumbnailers: `evince-thumbnailer`, `ffmpegthumbnailer`, KDE's
/// `thumbnail.so`.
const THUMBNAIL: &str = "thumbnail";

/// KDE's workers, which all have one name and do what the plugin does that is their first argument.
const WORKERS: [&str; 3] = ["kioworker", "kioslave5", "kioslave"];

/// The plugins that read files for a person, in Dolphin and in dialogs: `kio_file.so` and `kio_archive.so`,
/// without `kio_` before KDE Frameworks 6.
const FILES: [&str; 2] = ["file.so", "archive.so"];

/// Whether a program works for nobody in particular.
///
/// `kept` is its name as the kernel has it (`/proc/PID/comm`), `command` what it was started with
/// (`/proc/PID/cmdline`), if that is needed.
pub(super) fn is_background(kept: &str, command: impl FnOnce() -> Vec<u8>) -> bool {
    let is_kept_of = |name: &str| name.as_bytes().iter().take(KEPT).eq(kept.as_bytes());
    if NAMES.into_iter().any(is_kept_of)
        || BEGINNINGS.iter().any(|begin| kept.starts_with(begin))
        || kept.contains(THUMBNAIL)
    {
        return true;
    }
    let is_worker = WORKERS.contains(&kept);
    if !is_worker && kept.len() < KEPT {
        return false;
    }
    let command = command();
    let mut words = command.split(|byte| *byte == 0).take(2);
    let mut has_word =
        |of: &dyn Fn(&str) -> bool| words.any(|word| std::str::from_utf8(word).is_ok_and(of));
    match is_worker {
        true => !has_word(&|word| FILES.iter().any(|plugin| word.ends_with(plugin))),
        // The name was cut: the whole of it is that of the program, or of the script that it runs.
        false => has_word(&|word| {
            let name = word.rsplit('/').next().unwrap_or_default();
            name.starts_with(kept) && name.contains(THUMBNAIL)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that was started by its path.
    fn started(name: &str, argument: &str) -> bool {
        let kept: String = name.chars().take(KEPT).collect();
        is_background(&kept, || {
            format!("/usr/libexec/{name}\0{argument}\0").into_bytes()
        })
    }

    #[test]
    fn daemons_of_desktops_are_known_however_long_their_names_are() {
        for name in [
            "gvfsd-trash",
            "gvfs-udisks2-volume-monitor",
            "gvfs-mtp-volume-monitor",
            "tumblerd",
            "kiod6",
            "kded5",
            "kioworker",
            "thumbnail.so",
            "evince-thumbnailer",
            "gdk-pixbuf-thumbnailer",
            "gsf-office-thumbnailer",
            "totem-video-thumbnailer",
            "tracker-miner-fs-3",
            "tracker-extract-3",
            "localsearch-extractor-3",
            "baloo_file_extractor",
            "updatedb.plocate",
            "gsd-housekeeping",
        ] {
            assert!(started(name, ""), "{name}");
        }
    }

    #[test]
    fn programs_that_somebody_uses_are_not_among_them() {
        for name in [
            "cat",
            "bash",
            "thunar",
            "pcmanfm",
            "nautilus",
            "dolphin",
            "gvfsd-archive",
            "gnome-text-editor",
            "trackers",
            "baloo",
            "",
        ] {
            assert!(!started(name, ""), "{name}");
        }
    }

    #[test]
    fn a_worker_of_kde_is_what_its_plugin_is() {
        let plugins = "/usr/lib/x86_64-linux-gnu/qt6/plugins/kf6/kio";
        for (plugin, expected) in [
            ("kio_file.so", false),
            ("kio_archive.so", false),
            ("kio_trash.so", true),
            ("thumbnail.so", true),
        ] {
            let plugin = format!("{plugins}/{plugin}");
            assert_eq!(started("kioworker", &plugin), expected, "{plugin}");
        }
    }
}
