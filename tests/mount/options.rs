//! The options of mount(8) and fstab(5): each has its effect, or is refused in a sentence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::scene::{Mount, Scene, errno, parts, run};

/// Keys that need no code, for a bucket that demands none.
const PLAIN: [&str; 2] = ["--credentials", "plain"];

fn open_scene() -> Scene {
    let scene = Scene::new();
    scene.bucket.clear_policy();
    scene
}

fn mount_with(scene: &Scene, list: &str) -> Mount {
    let mount = scene.start(&[PLAIN[0], PLAIN[1], "-o", list]);
    mount.wait_until_mounted();
    mount
}

/// What the kernel keeps of a mount: its own options, and those of its filesystem.
fn kept(process: &str, path: &Path) -> (Vec<String>, Vec<String>) {
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let place = format!(" {} ", path.display());
    let line = mounts.lines().find(|line| line.contains(&place)).unwrap();
    let (mount, filesystem) = line.split_once(" - ").unwrap();
    let list = |field: Option<&str>| field.unwrap().split(',').map(str::to_owned).collect();
    (
        list(mount.split(' ').nth(5)),
        list(filesystem.split(' ').nth(2)),
    )
}

#[test]
fn what_mount_8_knows_has_its_effect() {
    if !parts::is_root("what_mount_8_knows_has_its_effect") {
        return;
    }
    let scene = open_scene();
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("rw", &["rw", "nosuid", "nodev", "noatime"], &["noexec"]),
        ("users", &["noexec", "nosuid", "nodev"], &[]),
        ("user=root,exec", &["nosuid", "nodev"], &["noexec"]),
        ("dev,suid", &["noatime"], &["nosuid", "nodev"]),
        (
            "relatime,nodiratime",
            &["relatime", "nodiratime"],
            &["noatime"],
        ),
        (
            "strictatime,nosymfollow",
            &["nosymfollow"],
            &["noatime", "relatime"],
        ),
        (
            "sync,dirsync,lazytime",
            &["sync", "dirsync", "lazytime"],
            &[],
        ),
        ("noexec,ro,nofail,x-gvfs-show", &["ro", "noexec"], &["rw"]),
    ];
    for (list, has, has_not) in cases {
        let mount = mount_with(&scene, list);
        let (mut all, of_filesystem) = kept("self", mount.path());
        assert!(of_filesystem.iter().any(|o| o == "default_permissions"));
        if !has_not.contains(&"rw") {
            all.extend(of_filesystem);
        }
        for option in has {
            assert!(all.iter().any(|one| one == option), "{list}: {all:?}");
        }
        for option in has_not {
            assert!(all.iter().all(|one| one != option), "{list}: {all:?}");
        }
    }
}

#[test]
fn programs_run_only_where_that_is_allowed() {
    let scene = open_scene();
    for (list, runs) in [("noexec", false), ("noexec,exec", true)] {
        let mount = mount_with(&scene, list);
        let program = mount.file("program");
        fs::write(&program, "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        match Command::new(&program).output() {
            Ok(output) => assert!(runs && output.stdout == b"ran\n", "{list}"),
            Err(error) => assert!(
                !runs && error.raw_os_error() == Some(libc::EACCES),
                "{list}"
            ),
        }
    }
}

/// README's own line for fstab. mount(8) says what `users` implies, and mount.fuse3 asks for `dev`
/// and `suid` where nothing is said.
#[test]
fn what_fstab_implies_for_users_is_kept() {
    let test = "what_fstab_implies_for_users_is_kept";
    let install = "apt-get install fuse3 mount";
    if !parts::are_here(test, &["mount", "mount.fuse3"], install) || !parts::is_root(test) {
        return;
    }
    let scene = open_scene();
    let program = scene.home().join("s3mfa-mount");
    let variables = scene.environment().into_iter();
    let exports: String = variables
        .map(|(name, value)| format!("export {name}='{value}'\n"))
        .collect();
    let daemon = env!("CARGO_BIN_EXE_s3mfa-mount");
    let script = format!("#!/bin/sh\n{exports}exec {daemon} \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = scene.mountpoint("mnt");
    let fstab = scene.home().join("fstab");
    let line = format!(
        "{}#docs {} fuse noauto,users,_netdev,lazy,credentials=plain 0 0\n",
        program.display(),
        path.display()
    );
    fs::write(&fstab, line).unwrap();
    let mut mount = Command::new("mount");
    mount.arg("-T").arg(&fstab).arg(&path);
    let mounted = run(&mut mount);
    assert_eq!(mounted.code, 0, "{mounted:?}");
    let (options, _) = kept("self", &path);
    let unmounted = scene.control(&["unmount", path.to_str().unwrap()]);
    assert_eq!(unmounted.code, 0, "{unmounted:?}");
    for option in ["noexec", "nosuid", "nodev"] {
        assert!(options.iter().any(|one| one == option), "{options:?}");
    }
}

#[test]
fn what_is_not_here_is_refused_before_anything_is_mounted() {
    let scene = open_scene();
    let path = scene.mountpoint("mnt");
    let cases = [
        ("umask=022", "--file-mode 0644"),
        ("vfs-cache-mode=writes", "leave it out"),
        ("allow_othr", "Is allow_other meant?"),
        ("mand", "leave it out"),
        ("uid=no-such-user", "no such user"),
    ];
    for (list, words) in cases {
        let told = scene.control(&["docs", path.to_str().unwrap(), "-o", list]);
        assert_eq!(told.code, 2, "{list}: {told:?}");
        assert!(told.err.contains(words), "{list}: {told:?}");
        assert!(!told.err.contains("Usage:"), "{list}: {told:?}");
    }
    assert_eq!(scene.sandbox.counts().total(), 0);
}

#[test]
fn owners_are_named() {
    let scene = open_scene();
    scene.bucket.put("f", "content");
    let mount = mount_with(&scene, "uid=daemon,gid=daemon,allow_other");
    let about = fs::metadata(mount.file("f")).unwrap();
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&about);
    assert_eq!(owner, daemon.uid.as_raw());
}

/// Starts a mount as `nobody`, in a namespace where `/dev/fuse` is everybody's.
fn start_as_nobody(scene: &Scene, list: &str) -> Mount {
    let script = r#"
        mount --make-rprivate /
        mount -t tmpfs tmpfs "$SCRATCH" && mknod -m 666 "$SCRATCH/fuse" c 10 229
        mount --bind "$SCRATCH/fuse" /dev/fuse && cd /
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
    "#;
    let path = scene.mountpoint("mnt");
    let scratch = scene.home().join("scratch");
    let _ = fs::create_dir(&scratch);
    let program = scene.home().join("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_s3mfa-mount"), &program).unwrap();
    }
    let owned = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(scene.home())
        .status();
    assert!(owned.unwrap().success());
    let mut command = Command::new("unshare");
    command.env_clear().envs(scene.environment());
    command.env("SCRATCH", &scratch).stdin(Stdio::null());
    command.args(["-m", "--", "sh", "-c", script, "sh"]);
    command.arg(program).arg("docs").arg(&path);
    command.args(["--foreground", PLAIN[0], PLAIN[1], "-o", list]);
    Mount::spawn(command, &path)
}

#[test]
fn an_ordinary_user_gets_what_fusermount3_gives_and_hears_of_the_rest() {
    let test = "an_ordinary_user_gets_what_fusermount3_gives_and_hears_of_the_rest";
    let programs = ["fusermount3", "unshare", "setpriv"];
    let install = "apt-get install fuse3 util-linux";
    if !parts::is_root(test) || !parts::are_here(test, &programs, install) {
        return;
    }
    let scene = open_scene();
    let mount = start_as_nobody(&scene, "noexec,sync,dirsync,relatime,suid");
    mount.wait_until_mounted();
    let (of_mount, of_filesystem) = kept(&mount.pid().to_string(), mount.path());
    for option in ["noexec", "nosuid", "nodev", "relatime"] {
        assert!(of_mount.iter().any(|one| one == option), "{of_mount:?}");
    }
    for option in ["sync", "dirsync"] {
        let has_it = of_filesystem.iter().any(|one| one == option);
        assert!(has_it, "{of_filesystem:?}");
    }
    assert!(mount.log().contains("suid and dev are for root"));
    mount.signal(libc::SIGTERM);
    drop(mount);
    // No fusermount3 sets this one.
    let mut refused = start_as_nobody(&scene, "strictatime");
    assert_eq!(refused.wait().code(), Some(5));
    let log = refused.log();
    assert!(log.contains("fusermount3 cannot set strictatime"), "{log}");
}

#[test]
fn read_only_is_so_for_the_kernel_and_for_programs() {
    let scene = open_scene();
    scene.bucket.put("f", "content");
    let mount = mount_with(&scene, "rw,ro");
    assert_eq!(errno(fs::write(mount.file("new"), "new")), libc::EROFS);
    let mount = {
        drop(mount);
        mount_with(&scene, "ro,rw")
    };
    fs::write(mount.file("new"), "new").unwrap();
}
