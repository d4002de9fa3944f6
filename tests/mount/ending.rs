//! The end of a mount, and who is in its way.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::scene::{Mount, Scene, kill, parts, wait_until};

fn plain_mount() -> (Scene, Mount) {
    let scene = Scene::new();
    scene.bucket.clear_policy();
    scene.bucket.put("f", "content");
    let mount = scene.start(&["--credentials", "plain"]);
    mount.wait_until_mounted();
    (scene, mount)
}

/// A program that is ended with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped());
    Running(command.stdout(Stdio::null()).spawn().unwrap())
}

/// As containers and services with a private `/tmp` make them: none of them uses the mount.
#[test]
fn a_copy_in_another_namespace_keeps_no_mount_alive() {
    let test = "a_copy_in_another_namespace_keeps_no_mount_alive";
    let install = "apt-get install util-linux";
    if !parts::is_root(test) || !parts::are_here(test, &["unshare"], install) {
        return;
    }
    let (scene, mut mount) = plain_mount();
    let place = mount.path().to_str().unwrap().to_owned();
    let other = run(
        "unshare",
        &["-m", "--propagation", "private", "sleep", "600"],
    );
    let has_copy = || {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", other.0.id()));
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let its = fs::read_link(format!("/proc/{}/ns/mnt", other.0.id())).unwrap();
        own != its && mounts.unwrap().contains(&place)
    };
    wait_until("the other namespace", has_copy);
    let ended = scene.control(&["unmount", &place]);
    assert_eq!(ended.out, format!("{place} is unmounted\n"), "{ended:?}");
    assert_eq!(mount.wait().code(), Some(0));
    assert!(has_copy(), "or nothing was shown");
}

#[test]
fn who_has_files_open_is_named_and_waited_for() {
    let (scene, mut mount) = plain_mount();
    let place = mount.path().to_str().unwrap().to_owned();
    let file = mount.file("f");
    let open = fs::File::open(&file).unwrap();
    let reader = run("tail", &["-f", file.to_str().unwrap()]);
    let inside = run("sh", &["-c", &format!("cd {place} && exec sleep 600")]);
    let comm = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    wait_until("both programs", || {
        comm(inside.0.id()) == "sleep\n" && comm(reader.0.id()) == "tail\n"
    });
    let ended = scene.control(&["unmount", &place]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let this = std::process::id();
    for name in [
        format!("tail ({})", reader.0.id()),
        format!("sleep ({})", inside.0.id()),
        format!("({this})"),
    ] {
        assert!(ended.out.contains(&name), "{name}: {ended:?}");
    }
    assert!(!mount.has_ended());
    drop((open, reader));
    kill(inside.0.id(), libc::SIGKILL);
    assert_eq!(mount.wait().code(), Some(0));
}

#[test]
fn bind_mounts_of_it_go_along() {
    let test = "bind_mounts_of_it_go_along";
    if !parts::is_root(test) {
        return;
    }
    let (scene, mut mount) = plain_mount();
    let other = scene.mountpoint("other");
    let bound = Command::new("mount")
        .arg("--bind")
        .arg(mount.path())
        .arg(&other)
        .status();
    assert!(bound.unwrap().success());
    assert!(other.join("f").exists());
    let ended = scene.control(&["unmount", mount.path().to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(mount.wait().code(), Some(0));
    assert!(!crate::scene::is_mounted(&other));
}
