//! The pinentries that show windows, as Debian has them, on a screen of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

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
        Self {
            children: vec![manager, bus, server],
            display,
            bus: address,
        }
    }

    fn xdotool(&self, args: &[&str]) -> bool {
        // Waiting for a window that just then goes would have no end.
        let mut command = Command::new("timeout");
        command.args(["5", "xdotool"]).args(args);
        command.env("DISPLAY", &self.display);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// Types into the dialog, once it has the keyboard.
    fn type_into_dialog(&self, line: &str) {
        let title = ["search", "--onlyvisible", "--name", "s3mfa-mount"];
        wait_until("the window", || self.xdotool(&title));
        // One that has taken the keyboard for itself need not be activated, and may refuse to be.
        let _ = self.xdotool(&[&title[..], &["windowactivate"]].concat());
        assert!(self.xdotool(&["type", "--delay", "30", line]));
        assert!(self.xdotool(&["key", "Return"]));
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
    command.args(["--pinentry-program", program]);
    let mount = Mount::spawn(command, &path);
    let right: u32 = scene.device.code().parse().unwrap();
    desktop.type_into_dialog(&format!("{:06}", (right + 500_000) % 1_000_000));
    let refused = holds_within(PATIENCE, || mount.log().contains("refused the code"));
    assert!(refused, "{}", mount.log());
    desktop.type_into_dialog(&scene.device.unspent_code());
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
