//! Options of other mounts that people bring along: what to say instead.
//!
//! Names are those of the manuals: mount.fuse3(8), s3fs(1), `rclone mount --help`, goofys,
//! Mountpoint for Amazon S3, gcsfuse, sshfs(1), nfs(5), ext4(5).

/// What this program does without being told: such an option changes nothing.
const HERE_ANYWAY: &str = "big_writes default_permissions nonempty allow_non_empty hard_remove use_ino \
     readdir_ino intr large_read async_read atomic_o_trunc auto_cache clone_fd \
     use_xattr enable_content_md5 allow_delete allow_overwrite implicit_dirs daemon";

/// Names, with blanks between, and what to do instead.
const ADVICE: &[(&str, &str)] = &[
    // How files look.
    (
        "file_perms fmask",
        "permissions of files are said whole: --file-mode 0644",
    ),
    (
        "dir_perms dmask mp_umask",
        "permissions of directories are said whole: --dir-mode 0755",
    ),
    (
        "fsname devname volname",
        "a mount shows the name of its bucket: leave it out",
    ),
    (
        "subtype blkdev blksize fd rootmode user_id group_id",
        "this is for fusermount3, and is set by itself: leave it out",
    ),
    // How long things are believed.
    (
        "attr_timeout entry_timeout negative_timeout ac_attr_timeout \
         stat_cache_expire stat_cache_interval_expire stat_cache_ttl type_cache_ttl \
         dir_cache_time poll_interval max_stat_cache_size enable_noobj_cache \
         disable_noobj_cache actimeo acregmin acregmax acdirmin acdirmax",
        "names and attributes are believed for --metadata-ttl SECONDS",
    ),
    // How much at a time.
    (
        "max_read max_write max_readahead max_background congestion_threshold rsize \
         wsize",
        "requests of the kernel are as large as it allows: leave it out",
    ),
    (
        "buffer_size vfs_read_ahead max_dirty_data",
        "pages take up to --memory-limit SIZE",
    ),
    (
        "multipart_size multipart_copy_size singlepart_copy_limit vfs_read_chunk_size \
         s3_chunk_size read_part_size write_part_size",
        "parts have --part-size SIZE",
    ),
    (
        "multireq_max parallel_count transfers checkers max_thread_count max_threads \
         s3_upload_concurrency limit_ops_per_sec",
        "requests run side by side up to --max-requests N",
    ),
    (
        "bwlimit maximum_throughput_gbps",
        "the speed is limited by --download-limit and --upload-limit",
    ),
    // Caches.
    (
        "kernel_cache noauto_cache direct_io sync_read remember noforget",
        "the kernel keeps the pages of an object for as long as that is the same: \
         leave it out",
    ),
    (
        "use_cache cache cache_dir cache_file_dir vfs_cache_max_size \
         vfs_cache_max_age vfs_cache_poll_interval del_cache check_cache_dir_exist \
         max_cache_size file_cache_max_size_mb",
        "what is read is kept in memory, up to --memory-limit SIZE: leave it out",
    ),
    (
        "vfs_cache_mode streamupload incremental_upload",
        "files can always be read, changed and appended to: leave it out",
    ),
    (
        "tmpdir temp_dir ensure_diskfree free_space_ratio",
        "unsaved writes are in $XDG_STATE_HOME/s3mfa-mount, up to --spool-limit SIZE",
    ),
    (
        "vfs_write_back write_back_cache writeback_cache",
        "--write-back closes files when they are on the local disk",
    ),
    (
        "no_modtime no_checksum noxmlns nomixupload nomultipart nocopyapi norenameapi \
         complement_stat compat_dir notsup_compat_dir update_parent_dir_stat cheap \
         no_implicit_dir use_content_type mime rename_dir_limit use_wtf8 links \
         modules ecs sigv2 sigv4 upload_checksums dir_cache nodnscache nosscache \
         iconv stat_file_type",
        "what a store can do is found out by itself: leave it out",
    ),
    // Who and where.
    (
        "url servicepath service_path s3_endpoint",
        "the store's address is --endpoint-url URL",
    ),
    (
        "endpoint",
        "the region is --region NAME, and the store's address --endpoint-url URL",
    ),
    (
        "use_path_request_style s3_force_path_style subdomain",
        "write --force-path-style",
    ),
    (
        "bucket only_dir prefix",
        "what is mounted comes first: BUCKET or BUCKET/PREFIX",
    ),
    (
        "passwd_file ahbe_conf credlib credlib_opts use_session_token key_file config \
         env_auth ibm_iam_auth ibm_iam_endpoint shared_config",
        "keys come from ~/.aws, as the AWS CLI has them: --profile NAME",
    ),
    (
        "iam_role ram_role imdsv1only",
        "an instance's role is found by itself, and another one is --role-arn ARN",
    ),
    (
        "public_bucket no_sign_request",
        "every request is signed: a bucket for everybody needs no session, and other \
         programs mount it",
    ),
    (
        "no_check_certificate ssl_verify_hostname no_verify_ssl ca_cert",
        "certificates are always checked: --ca-bundle FILE trusts your own",
    ),
    (
        "proxy http_proxy",
        "proxies come from HTTPS_PROXY and NO_PROXY",
    ),
    (
        "dual_stack transfer_acceleration use_accelerate_endpoint ipresolve",
        "this is in the AWS profile, or an --endpoint-url",
    ),
    // How objects are stored.
    (
        "use_sse sse_c load_sse_c",
        "encryption is --sse AES256, aws:kms or aws:kms:dsse; keys of your own \
         (SSE-C) are not supported",
    ),
    ("default_acl s3_acl", "the canned ACL is --acl NAME"),
    ("use_rrs", "write --storage-class REDUCED_REDUNDANCY"),
    ("requester_pay request_payer", "write --requester-pays"),
    // How it runs.
    (
        "dbglevel curldbg debug debug_s3 debug_fuse debug_gcs sshfs_debug verbose \
         no_time_stamp_msg",
        "write --log-level debug",
    ),
    (
        "logfile log_file log_directory syslog",
        "the log goes to standard error, under systemd to the journal: redirect that",
    ),
    (
        "retries low_level_retries connect_timeout readwrite_timeout http_timeout \
         timeout contimeout daemon_timeout daemon_wait",
        "attempts and times are chosen by themselves: leave it out",
    ),
    (
        "auto_unmount",
        "a mount whose daemon was killed is taken away when it is mounted again: \
         leave it out",
    ),
    (
        "drop_privileges pass_fuse_fd",
        "it mounts as the user that setuid=USER names in fstab",
    ),
    (
        "no_remote_lock no_remote_posix_lock no_remote_flock nolock local_lock lock",
        "locks need no option: leave it out",
    ),
    (
        "reconnect soft hard softreval bg fg retry timeo retrans vers nfsvers proto \
         tcp udp port mountport sec nocto noresvport fsc",
        "this is of NFS or sshfs, and means nothing here: leave it out",
    ),
    (
        "errors data journal commit barrier nobarrier discard nodiscard usrquota \
         grpquota prjquota quota noquota journal_checksum user_xattr pri loop offset \
         sizelimit utf8 iocharset codepage shortname",
        "this is of filesystems on disks, and means nothing here: leave it out",
    ),
    (
        "noacl posix_acl",
        "POSIX ACLs are not supported: leave it out",
    ),
    // What the kernel or mount(8) has for other filesystems.
    (
        "remount",
        "a mount of a bucket cannot be changed: unmount it, and mount it again",
    ),
    (
        "bind rbind move private rprivate shared rshared slave rslave unbindable \
         runbindable",
        "this is for mount(8) alone: say it when the bucket is mounted, as `mount \
         --bind` does",
    ),
    (
        "mand",
        "Linux has no mandatory locks any more (since 5.15): leave it out",
    ),
    (
        "iversion",
        "FUSE counts no versions of inodes: leave it out",
    ),
];

/// Whether an option asks for what is so anyway.
pub(super) fn is_here_anyway(name: &str) -> bool {
    names(HERE_ANYWAY).any(|known| known == normal(name))
}

/// What to do instead of an option that other mounts have.
pub(super) fn advice(name: &str, value: Option<&str>) -> Option<String> {
    let name = normal(name);
    if name == "umask" {
        return Some(instead_of_umask(value));
    }
    let (_, advice) = ADVICE
        .iter()
        .find(|(all, _)| names(all).any(|known| known == name))?;
    Some((*advice).to_owned())
}

fn names(all: &'static str) -> impl Iterator<Item = &'static str> {
    all.split_whitespace()
}

/// rclone's options have dashes, and in fstab often underscores.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn instead_of_umask(value: Option<&str>) -> String {
    let mask = value.and_then(|value| u16::from_str_radix(value, 8).ok());
    let (file, directory) = match mask {
        Some(mask) => (0o666 & !mask, 0o777 & !mask),
        None => (0o644, 0o755),
    };
    format!("permissions are said whole: --file-mode {file:04o} and --dir-mode {directory:04o}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// One of them would never be reached.
    #[test]
    fn none_of_them_is_an_option_here() {
        let command = crate::cli::Cli::command();
        let ours: Vec<_> = command
            .get_arguments()
            .filter_map(|argument| Some(normal(argument.get_long()?)))
            .collect();
        let advised = ADVICE.iter().flat_map(|(all, _)| names(all));
        for name in advised.chain(names(HERE_ANYWAY)) {
            assert!(!ours.iter().any(|our| our == name), "{name}");
            assert_eq!(normal(name), name);
        }
    }

    /// Advice that names an option names one that there is.
    #[test]
    fn what_is_advised_exists() {
        let command = crate::cli::Cli::command();
        for (names, advice) in ADVICE {
            for word in advice
                .split([' ', ',', ';', ':'])
                .filter(|w| w.starts_with("--"))
            {
                let long = &word[2..];
                let is_ours = command
                    .get_arguments()
                    .any(|argument| argument.get_long() == Some(long));
                assert!(is_ours || word == "--bind`", "{names:?}: {word}");
            }
        }
    }

    #[test]
    fn a_umask_becomes_two_modes() {
        let said = advice("umask", Some("027")).unwrap();
        assert!(
            said.contains("--file-mode 0640") && said.contains("--dir-mode 0750"),
            "{said}"
        );
        assert!(advice("umask", None).unwrap().contains("0644"));
    }
}
