//! From start to unmount, and whatever goes wrong between.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use s3mfa_sandbox::Kind;

use crate::scene::{Mount, Scene, errno, kill, parts, wait_until};

/// A mount that returned to the shell.
struct Background(std::path::PathBuf);

impl Drop for Background {
    fn drop(&mut self) {
        crate::scene::detach(&self.0);
    }
}

#[test]
fn the_command_returns_when_the_mount_serves_and_unmount_ends_it() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let path = scene.mountpoint("mnt");
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let started = scene.control(&["docs", path.to_str().unwrap()]);
    let _background = Background(path.clone());
    answering.join().unwrap();
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "content");

    let status = scene.control(&["status"]);
    assert!(
        status.out.contains("docs on") && status.out.contains("live until"),
        "{status:?}"
    );
    let ended = scene.control(&["unmount", path.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!crate::scene::is_mounted(&path));
    wait_until("the daemon's end", || {
        scene.control(&["status"]).out == "nothing is mounted\n"
    });
    let again = scene.control(&["unmount", path.to_str().unwrap()]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("nothing of this program"), "{again:?}");
}

/// A daemon may live on for a program with an open file; it is not the one that is meant then.
#[test]
fn unmount_ends_the_mount_that_is_there_now() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let first = scene.mount(&[]);
    let path = first.path().to_owned();
    let open = fs::File::open(first.file("f")).unwrap();
    let place = path.to_str().unwrap();
    assert_eq!(scene.control(&["unmount", place]).code, 0);
    assert!(!crate::scene::is_mounted(&path));
    let told = scene.control(&["status"]);
    assert!(told.out.contains("unmounted, and still used"), "{told:?}");
    let nothing = scene.control(&["unmount", place]);
    assert_eq!(nothing.code, 1, "{nothing:?}");
    let second = scene.mount(&[]);
    assert_eq!(scene.control(&["lock", place]).out.lines().count(), 1);
    assert_eq!(scene.control(&["unmount", place]).code, 0);
    assert!(!crate::scene::is_mounted(&path));
    drop(open);
    drop((first, second));
}

#[test]
fn what_is_said_in_the_wrong_order_is_told() {
    let scene = Scene::new();
    let told = scene.control(&["--read-only", "check", "docs"]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(
        told.err.contains("is a command, and comes first"),
        "{told:?}"
    );
    let told = scene.control(&["umount", "/nowhere"]);
    assert_eq!(told.code, 1, "{told:?}");
    let path = scene.mountpoint("mnt");
    let told = scene.control(&["docs", path.to_str().unwrap(), "--log-level", "wran"]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(told.err.contains("try info or debug"), "{told:?}");
}

/// As mount(8) and fstab do it, through mount.fuse3.
#[test]
fn mount_8_mounts_it() {
    let test = "mount_8_mounts_it";
    let install = "apt-get install fuse3 mount";
    if !parts::are_here(test, &["mount", "mount.fuse3"], install) || !parts::is_root(test) {
        return;
    }
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let path = scene.mountpoint("mnt");
    // mount(8) takes the environment away, and `-t fuse.s3mfa-mount` is looked for where the system
    // has its programs.
    let program = scene.home().join("s3mfa-mount");
    let mut script = "#!/bin/sh\n".to_owned();
    for (name, value) in scene.environment() {
        script.push_str(&format!("export {name}='{value}'\n"));
    }
    script.push_str(concat!(
        "exec ",
        env!("CARGO_BIN_EXE_s3mfa-mount"),
        " \"$@\"\n"
    ));
    fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    let source = format!("{}#docs", program.display());
    let code = scene.home().join("code");
    fs::write(&code, scene.device.unspent_code()).unwrap();
    let options = format!(
        "ro,noauto,_netdev,nodiratime,x-systemd.automount,mfa_process=\"cat {}\"",
        code.display()
    );
    let mut mount = Command::new("mount");
    mount.args(["-t", "fuse", &source]);
    mount.arg(&path).args(["-o", &options]);
    let mounted = crate::scene::run(&mut mount);
    let _background = Background(path.clone());
    assert_eq!(mounted.code, 0, "{mounted:?}");
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "content");
    assert_eq!(
        errno(fs::write(path.join("new"), "new")),
        libc::EROFS,
        "read-only"
    );
    assert_eq!(scene.pinentry.asked(), 0);
}

#[test]
fn the_daemon_leaves_the_terminals_session_and_its_pipes() {
    let scene = Scene::new();
    let path = scene.mountpoint("mnt");
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    // `control` reads both pipes to their ends: it would hang if the daemon kept one.
    assert_eq!(scene.control(&["docs", path.to_str().unwrap()]).code, 0);
    let _background = Background(path.clone());
    answering.join().unwrap();
    let status: serde_json::Value =
        serde_json::from_str(&scene.control(&["status", "--json"]).out).unwrap();
    let pid = status["mounts"][0]["pid"].as_u64().unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
    assert_eq!(session, pid.to_string());
    if !parts::is_root("the_daemon_leaves_the_terminals_session_and_its_pipes") {
        return;
    }
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(),
        Some("/")
    );
}

#[test]
fn each_kind_of_failure_has_its_exit_code_and_a_sentence() {
    let scene = Scene::new();
    let path = scene.mountpoint("mnt");
    let place = path.to_str().unwrap();
    let try_with = |args: &[&str], code: i32, words: &str| {
        let outcome = scene.control(args);
        assert_eq!(outcome.code, code, "{args:?}: {outcome:?}");
        assert!(outcome.err.contains(words), "{args:?}: {outcome:?}");
    };
    try_with(&["docs"], 2, "MOUNTPOINT");
    try_with(&["docs", place, "--frobnicate"], 2, "--frobnicate");
    try_with(&["docs", "/nowhere/at/all"], 2, "mkdir -p");
    try_with(
        &["docs", place, "--profile", "absent"],
        2,
        "there are: default",
    );
    try_with(&["docs", place, "--mfa-serial", "short"], 2, "MFA device");
    try_with(&["docs", place, "--prompt", "none"], 3, "switched off");
    try_with(&["check", place], 2, "s3://NAME");
    try_with(&["man", "nothing"], 2, "is no command");
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    try_with(&["absent", place], 4, "no bucket");
    answering.join().unwrap();
    let dead = ["--sts-endpoint-url", "http://127.0.0.1:9"];
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    try_with(
        &["docs", place, dead[0], dead[1]],
        4,
        "STS at http://127.0.0.1:9",
    );
    answering.join().unwrap();
    scene.log_out();
    let refusing = scene.pinentry.answer_next("cancel".to_owned());
    try_with(&["docs", place], 3, "cancelled");
    refusing.join().unwrap();
    if !parts::is_root("each_kind_of_failure_has_its_exit_code_and_a_sentence") {
        return;
    }
    // A device that is not there is noticed before anybody is asked.
    let asked = scene.pinentry.asked();
    let mut command = scene.command();
    command.args(["docs", place, "--foreground"]);
    let outcome = crate::scene::run(crate::scene::without_fuse(&mut command));
    assert_eq!(outcome.code, 5, "{outcome:?}");
    assert!(outcome.err.contains("/dev/fuse"), "{outcome:?}");
    assert_eq!(scene.pinentry.asked(), asked);
}

#[test]
fn a_lazy_mount_asks_at_the_first_access() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.start(&["--lazy"]);
    mount.wait_until_mounted();
    assert!(fs::metadata(mount.path()).unwrap().is_dir());
    assert_eq!(scene.sandbox.counts().total(), 0);
    assert_eq!(scene.pinentry.asked(), 0);
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    answering.join().unwrap();
}

#[test]
fn a_signal_unmounts_cleanly() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let scene = Scene::new();
        scene.bucket.put("f", "content");
        let mut mount = scene.mount(&[]);
        let open = fs::File::open(mount.file("f")).unwrap();
        mount.signal(signal);
        assert_eq!(mount.wait().code(), Some(0));
        assert!(!mount.is_mounted(), "also with a file open");
        drop(open);
        let mut left = fs::read_dir(scene.home().join("run/s3mfa-mount")).unwrap();
        assert!(left.all(|entry| entry.unwrap().path().extension() != Some("sock".as_ref())));
    }
}

#[test]
fn a_signal_ends_a_mount_that_waits_for_a_person() {
    let scene = Scene::new();
    let mut mount = scene.start(&[]);
    scene.pinentry.wait_until_asked(1);
    mount.signal(libc::SIGINT);
    let ended = std::os::unix::process::ExitStatusExt::signal(&mount.wait());
    assert_eq!(ended, Some(libc::SIGINT), "as if nobody had caught it");
    wait_until("the end of the dialog", || !scene.pinentry.is_open());

    let mut mount = scene.start(&["--lazy"]);
    mount.wait_until_mounted();
    let file = mount.file("f");
    let reader = std::thread::spawn(move || errno(fs::read(file)));
    scene.pinentry.wait_until_asked(2);
    let start = Instant::now();
    mount.signal(libc::SIGTERM);
    assert_eq!(mount.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(reader.join().unwrap(), libc::EKEYEXPIRED);
}

#[test]
fn an_unmount_from_outside_ends_the_daemon_and_nothing_else() {
    let scene = Scene::new();
    let mut mount = scene.mount(&[]);
    crate::scene::detach(mount.path());
    // Somebody else's mount on the same place, at once.
    let other = Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(mount.path())
        .status();
    let is_root = other.is_ok_and(|status| status.success());
    assert_eq!(mount.wait().code(), Some(0));
    if is_root {
        let unmounted = Command::new("umount").arg(mount.path()).status();
        assert!(
            unmounted.unwrap().success(),
            "the other mount is still there"
        );
    }
}

#[test]
fn a_mount_over_a_dead_mount_works() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mut mount = scene.mount(&[]);
    let open = fs::File::open(mount.file("f")).unwrap();
    mount.signal(libc::SIGKILL);
    mount.wait();
    assert!(mount.is_mounted(), "the kernel keeps it");
    assert_eq!(errno(fs::metadata(mount.path())), libc::ENOTCONN);

    let again = scene.mount(&[]);
    assert_eq!(fs::read_to_string(again.file("f")).unwrap(), "content");
    let status: serde_json::Value =
        serde_json::from_str(&scene.control(&["status", "--json"]).out).unwrap();
    assert_eq!(status["mounts"].as_array().unwrap().len(), 1);
    drop(open);
}

/// The kernel lists a mount by its real path, which cannot be asked for any more.
#[test]
fn a_dead_mount_behind_a_symbolic_link_is_taken_away() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let real = scene.home().join("real");
    let link = scene.home().join("link");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let place = scene.mountpoint("link/mnt");
    let start = || {
        let mount = Mount::start(&scene, "docs", &place, &[]);
        mount.wait_until_mounted();
        mount
    };
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let mut mount = start();
    answering.join().unwrap();
    mount.signal(libc::SIGKILL);
    mount.wait();
    let mut again = start();
    assert_eq!(fs::read_to_string(again.file("f")).unwrap(), "content");
    again.signal(libc::SIGKILL);
    again.wait();
    let outcome = scene.control(&["unmount", place.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(!crate::scene::is_mounted(&real.join("mnt")));
}

#[test]
fn a_dead_mount_can_be_unmounted() {
    let scene = Scene::new();
    let mut mount = scene.mount(&[]);
    mount.signal(libc::SIGKILL);
    mount.wait();
    let outcome = scene.control(&["unmount", mount.path().to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(!mount.is_mounted());
}

#[test]
fn a_mount_over_a_living_one_is_refused_and_harms_nothing() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&[]);
    let second = scene.control(&["docs", mount.path().to_str().unwrap()]);
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.err.contains("already"), "{second:?}");
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 1);
}

#[test]
fn a_dialog_does_not_outlive_a_daemon_that_was_killed() {
    let scene = Scene::new();
    let mut mount = scene.start(&[]);
    scene.pinentry.wait_until_asked(1);
    assert!(scene.pinentry.is_open());
    mount.signal(libc::SIGKILL);
    mount.wait();
    wait_until("the end of the dialog", || !scene.pinentry.is_open());
}

#[test]
fn only_its_user_may_use_the_control_socket() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let socket = scene
        .home()
        .join(format!("run/s3mfa-mount/{}.sock", mount.pid()));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    if !parts::is_root("only_its_user_may_use_the_control_socket") {
        return;
    }
    // The file's mode cannot be had by a stranger, so it is opened up first.
    for path in [
        scene.home(),
        &scene.home().join("run"),
        socket.parent().unwrap(),
        &socket,
    ] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(path, mode).unwrap();
    }
    let script = r#"
        use Socket;
        $SIG{PIPE} = 'IGNORE';
        socket(S, AF_UNIX, SOCK_STREAM, 0) or die;
        connect(S, sockaddr_un($ARGV[0])) or die;
        syswrite(S, "{\"v\":1,\"command\":\"status\"}\n");
        print 0 + sysread(S, $reply, 100);
    "#;
    let stranger = Command::new("perl")
        .args(["-e", script])
        .arg(&socket)
        .uid(65534)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&stranger.stdout),
        "0",
        "hung up without a word"
    );
    assert_eq!(scene.sandbox.counts().of(Kind::GetSessionToken), 1);
}

#[test]
fn a_mount_can_be_killed_and_started_again_and_again() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    for _ in 0..3 {
        let mut mount = scene.mount(&[]);
        assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
        kill(mount.pid(), libc::SIGKILL);
        mount.wait();
        // Left as it is for the next start to clean.
        Mount::abandon(mount);
    }
}

#[test]
fn a_bucket_in_another_region_is_found_there() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    // STS goes by its own region here, and the keys as they are ask it for nothing.
    scene.bucket.clear_policy();
    let mount = scene.start(&["--region", "eu-west-1", "--credentials", "plain"]);
    mount.wait_until_mounted();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert!(
        mount.log().contains("the bucket is in us-east-1"),
        "{}",
        mount.log()
    );
    assert_eq!(scene.pinentry.asked(), 0);
}

#[test]
fn a_mount_says_so_if_it_hides_something() {
    let scene = Scene::new();
    let path = scene.mountpoint("mnt");
    fs::write(path.join("mine"), "mine").unwrap();
    let mount = scene.mount(&[]);
    assert!(mount.log().contains("is not empty"), "{}", mount.log());
    drop(mount);
    assert_eq!(fs::read_to_string(path.join("mine")).unwrap(), "mine");
}

#[test]
fn a_watcher_hears_of_each_change() {
    use std::io::BufRead;
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let mut watcher = scene
        .command()
        .args(["status", "--watch", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut state = || {
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        status["session"]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(), "live");
    assert_eq!(scene.control(&["lock"]).code, 0);
    assert_eq!(state(), "locked");
    drop(mount);
    assert!(watcher.wait().unwrap().success(), "it ends with the mount");
}
