//! The pinentries that show windows, as Debian has them, on a screen of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::scene::{Mount, PATIENCE, Scene, holds_within, parts, wait_until};

const INSTALL: &str = "apt-get install --no-install-recommends pinentry-gtk2 pinentry-qt \
                       pinentry-gnome3 gcr xvfb xdotool openbox dbus";

/// An X server in memory, a window manager, and a session bus.
struct Desktop {
    /// Ended in this order.
    children: Vec<Child>,
    display: String,
    bus: String,
}

impl Desktop {
    fn open() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24"])
            .args(["-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let display = format!(":{}", first_line(&mut server));
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            // What it starts for others shows itself here: gcr-prompter for pinentry-gnome3.
            .env("DISPLAY", &display)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = first_line(&mut bus);
        let manager = Command::new("openbox")
            .env("DISPLAY", &display)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let desktop = Self {
            children: vec![manager, bus, server],
            display,
            bus: address,
        };
        // What a window manager says of itself once it manages.
        wait_until("the window manager", || {
            desktop.xdotool(&["get_num_desktops"]).is_some()
        });
        desktop
    }

    /// What xdotool prints, if it finds what it is asked for.
    fn xdotool(&self, args: &[&str]) -> Option<String> {
        // Waiting for a window that just then goes would have no end.
        let mut command = Command::new("timeout");
        command.args(["5", "xdotool"]).args(args);
        command.env("DISPLAY", &self.display).stderr(Stdio::null());
        let output = command.output().unwrap();
        let found = output.status.success();
        found.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Types into the dialog until that has its effect, as people do whose keys went elsewhere.
    fn type_into_dialog(&self, line: impl Fn() -> String, effect: impl Fn() -> bool) {
        let title = ["search", "--onlyvisible", "--name", "s3mfa-mount"];
        let typed = holds_within(PATIENCE, || {
            if effect() {
                return true;
            }
            if self.xdotool(&title).is_none() {
                return false;
            }
            // One that has taken the keyboard for itself need not be activated, and may refuse.
            self.xdotool(&[&title[..], &["windowactivate"]].concat());
            self.xdotool(&["key", "ctrl+a"]);
            self.xdotool(&["type", "--delay", "30", &line()]);
            self.xdotool(&["key", "Return"]);
            holds_within(Duration::from_secs(3), &effect)
        });
        let windows = self.xdotool(&["search", "--name", ".", "getwindowname", "%@"]);
        assert!(typed, "no effect; windows: {windows:?}");
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// A wrong code, and a right one, in a real window.
fn in_a_window(program: &str) {
    let needed = [program, "Xvfb", "xdotool", "openbox", "dbus-daemon"];
    if !parts::are_here(program, &needed, INSTALL) {
        return;
    }
    // One screen at a time: window managers take theirs when they are not kept waiting.
    static SCREEN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _screen = SCREEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let desktop = Desktop::open();
    let path = scene.mountpoint("mnt");
    let mut command = scene.command();
    command
        .env("DISPLAY", &desktop.display)
        .env("DBUS_SESSION_BUS_ADDRESS", &desktop.bus);
    command.args(["docs", path.to_str().unwrap(), "--foreground"]);
    command.args(["--pinentry-program", program, "--log-level", "debug"]);
    let mount = Mount::spawn(command, &path);
    let right: u32 = scene.device.code().parse().unwrap();
    let wrong = format!("{:06}", (right + 500_000) % 1_000_000);
    desktop.type_into_dialog(
        || wrong.clone(),
        || mount.log().contains("refused the code"),
    );
    desktop.type_into_dialog(|| scene.device.unspent_code(), || mount.is_served());
    mount.wait_until_mounted();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
}

#[test]
fn pinentry_gtk_2() {
    in_a_window("pinentry-gtk-2");
}

#[test]
fn pinentry_qt() {
    in_a_window("pinentry-qt");
}

#[test]
fn pinentry_gnome3() {
    in_a_window("pinentry-gnome3");
}
