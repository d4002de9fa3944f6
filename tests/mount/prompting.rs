//! Prompts that go wrong, and real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use s3mfa_sandbox::Kind;

use crate::scene::{Mount, PATIENCE, Scene, errno, holds_within, parts, wait_until};

#[test]
fn a_pinentry_that_dies_is_said_and_the_daemon_lives() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    scene.sandbox.sessions().expire_all();
    let dying = scene.pinentry.answer_next("die".to_owned());
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    dying.join().unwrap();
    assert!(
        mount.log().contains("died before it had an answer"),
        "{}",
        mount.log()
    );
    lives(&scene, &mount);
}

#[test]
fn a_pinentry_that_hangs_is_left_at_the_deadline_and_ended_by_renew() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0", "--prompt-timeout", "1"]);
    scene.sandbox.sessions().expire_all();
    let hanging = scene.pinentry.answer_next("hang".to_owned());
    let start = Instant::now();
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    assert!(start.elapsed() < Duration::from_secs(4));
    hanging.join().unwrap();
    let hung = scene.pinentry.process().unwrap();
    // A person at a terminal takes over.
    let typed = thread::spawn({
        let device = scene.device.clone();
        move || device.unspent_code()
    });
    let renewed = renew_on_a_terminal(&scene, &typed.join().unwrap());
    if let Some(renewed) = renewed {
        assert!(renewed.contains("has a session until"), "{renewed}");
        wait_until("the end of the hung dialog", || {
            !std::path::Path::new(&format!("/proc/{hung}")).exists()
                || crate::scene::is_zombie(hung)
        });
        assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    }
}

#[test]
fn a_pinentry_that_is_missing_is_said_with_what_to_install() {
    let scene = Scene::new();
    let mut mount = scene.start(&["--pinentry-program", "/nowhere/pinentry"]);
    assert_eq!(mount.wait().code(), Some(3));
    assert!(
        mount.log().contains("`/nowhere/pinentry` is not installed"),
        "{}",
        mount.log()
    );
    assert!(mount.log().contains("apt-get install"), "{}", mount.log());
}

#[test]
fn without_a_display_and_a_terminal_nobody_can_be_asked_and_renew_is_named() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mut command = scene.command();
    let path = scene.mountpoint("mnt");
    command.env_remove("PINENTRY_PROGRAM");
    command.args(["docs", path.to_str().unwrap(), "--foreground", "--lazy"]);
    let mount = crate::scene::Mount::spawn(command, &path);
    mount.wait_until_mounted();
    let start = Instant::now();
    // A program that has no terminal either.
    let status = Command::new("setsid")
        .arg("cat")
        .arg(mount.file("f"))
        .output()
        .unwrap();
    assert!(!status.status.success());
    assert!(start.elapsed() < Duration::from_secs(5));
    let told = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(told.contains("Key has expired"), "{told}");
    assert!(
        mount.log().contains("no display") && mount.log().contains("renew"),
        "{}",
        mount.log()
    );
    assert_eq!(mount.status(&scene)["session"]["state"], "locked");
}

#[test]
fn a_real_pinentry_without_display_and_terminal_is_a_clear_message() {
    if !parts::are_here(
        "a_real_pinentry_without_display_and_terminal_is_a_clear_message",
        &["pinentry-curses"],
        "apt-get install pinentry-curses",
    ) {
        return;
    }
    let scene = Scene::new();
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_s3mfa-mount"));
    command.env_clear().envs(scene.environment());
    let path = scene.mountpoint("mnt");
    command.args(["docs", path.to_str().unwrap(), "--foreground"]);
    command.args([
        "--pinentry-program",
        "pinentry-curses",
        "--prompt",
        "pinentry",
    ]);
    let outcome = crate::scene::run(&mut command);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(
        outcome.err.contains("neither a display nor a terminal"),
        "{outcome:?}"
    );
}

#[test]
fn a_command_can_give_the_code() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let code = scene.home().join("code");
    fs::write(&code, scene.device.unspent_code()).unwrap();
    let process = format!("cat {}", code.display());
    let mount = scene.start(&["--mfa-process", &process, "--metadata-ttl", "0"]);
    mount.wait_until_mounted();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    scene.sandbox.sessions().expire_all();
    fs::write(&code, scene.device.unspent_code()).unwrap();
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 0);

    scene.sandbox.sessions().expire_all();
    fs::remove_file(&code).unwrap();
    assert_eq!(errno(fs::read(mount.file("f"))), libc::EKEYEXPIRED);
    assert!(
        mount.log().contains("--mfa-process failed"),
        "{}",
        mount.log()
    );
}

#[test]
fn the_dialog_tells_what_for_and_why() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let first = scene.pinentry.last("SETDESC").unwrap();
    for word in ["docs", "default", scene.device.serial(), "demands MFA"] {
        assert!(first.contains(word), "{word}: {first}");
    }
    scene.sandbox.sessions().expire_all();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let read = Command::new("cat").arg(mount.file("f")).output().unwrap();
    assert_eq!(read.stdout, b"content");
    answering.join().unwrap();
    let second = scene.pinentry.last("SETDESC").unwrap();
    assert!(
        second.contains("ended at") && second.contains("cat ("),
        "{second}"
    );
    assert_eq!(
        scene.pinentry.last("SETPROMPT").unwrap(),
        "SETPROMPT MFA code:"
    );
}

/// A terminal that a test types on: tmux.
struct Terminal(String);

impl Terminal {
    fn open(scene: &Scene, command: &str) -> Self {
        let socket = scene.home().join("tmux");
        let terminal = Self(socket.display().to_string());
        let mut tmux = terminal.tmux();
        tmux.env_clear()
            .envs(scene.environment())
            .env("TERM", "xterm");
        tmux.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "90",
            "-y",
            "24",
            command,
        ]);
        assert!(tmux.status().unwrap().success());
        terminal
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-S", &self.0]);
        tmux
    }

    fn text(&self) -> String {
        let output = self.tmux().args(["capture-pane", "-p"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait_for(&self, words: &str) {
        let mut text = String::new();
        let shown = holds_within(PATIENCE, || {
            text = self.text();
            text.contains(words)
        });
        assert!(shown, "{words:?} is not on the screen:\n{text}");
    }

    /// The modes of the terminal, as `stty -a` writes them.
    fn modes(&self) -> String {
        let tty = self
            .tmux()
            .args(["display", "-p", "#{pane_tty}"])
            .output()
            .unwrap();
        let tty = String::from_utf8(tty.stdout).unwrap();
        let modes = Command::new("stty").args(["-a", "-F", tty.trim()]).output();
        String::from_utf8(modes.unwrap().stdout).unwrap()
    }

    /// Types into a dialog, which must have set the terminal up for itself.
    fn type_into_dialog(&self, modes: &str, line: &str) {
        wait_until("the dialog's terminal modes", || {
            self.modes().contains(modes)
        });
        self.type_line(line);
    }

    fn type_line(&self, line: &str) {
        let typed = self.tmux().args(["send-keys", line, "Enter"]).status();
        assert!(typed.unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

fn tmux_is_here(test: &str) -> bool {
    parts::are_here(test, &["tmux"], "apt-get install tmux")
}

/// Runs `renew` on a terminal and types a code.
fn renew_on_a_terminal(scene: &Scene, code: &str) -> Option<String> {
    if !tmux_is_here("renew_on_a_terminal") {
        return None;
    }
    let command = format!("{} renew; exec sleep 60", env!("CARGO_BIN_EXE_s3mfa-mount"));
    let terminal = Terminal::open(scene, &command);
    terminal.wait_for("MFA code:");
    terminal.type_line(code);
    terminal.wait_for("has a session");
    Some(terminal.text().replace('\n', ""))
}

/// A wrong code and a right one, in a pinentry on a terminal which it sets to these modes.
fn in_a_terminal(program: &str, modes: &str) {
    let install = format!("apt-get install {program}");
    if !tmux_is_here(program) || !parts::are_here(program, &[program], &install) {
        return;
    }
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let path = scene.mountpoint("mnt");
    let command = format!(
        "{} docs {} --pinentry-program {program}; echo exit $?; exec sleep 60",
        env!("CARGO_BIN_EXE_s3mfa-mount"),
        path.display()
    );
    let terminal = Terminal::open(&scene, &command);
    terminal.wait_for("MFA code:");
    terminal.wait_for("Device: arn:aws:iam::123456789012:mfa/alice");
    let right: u32 = scene.device.code().parse().unwrap();
    terminal.type_into_dialog(modes, &format!("{:06}", (right + 500_000) % 1_000_000));
    terminal.wait_for("refused the code");
    terminal.type_into_dialog(modes, &scene.device.unspent_code());
    terminal.wait_for("exit 0");
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "content");
    crate::scene::detach(&path);
}

#[test]
fn a_real_pinentry_curses_takes_a_wrong_code_and_a_right_one() {
    in_a_terminal("pinentry-curses", "-icrnl");
}

#[test]
fn a_real_pinentry_tty_takes_a_wrong_code_and_a_right_one() {
    in_a_terminal("pinentry-tty", "-echo ");
}

#[test]
fn without_pinentry_the_terminal_itself_asks() {
    if !tmux_is_here("without_pinentry_the_terminal_itself_asks") {
        return;
    }
    let scene = Scene::new();
    let path = scene.mountpoint("mnt");
    let command = format!(
        "{} docs {} --prompt tty; echo exit $?; exec sleep 60",
        env!("CARGO_BIN_EXE_s3mfa-mount"),
        path.display()
    );
    let terminal = Terminal::open(&scene, &command);
    terminal.wait_for("MFA code:");
    terminal.type_line("12345");
    terminal.wait_for("has six digits");
    terminal.type_line(&scene.device.unspent_code());
    terminal.wait_for("exit 0");
    crate::scene::detach(&path);
}

#[test]
fn a_dialog_on_a_terminal_goes_with_who_waits_there() {
    let test = "a_dialog_on_a_terminal_goes_with_who_waits_there";
    let install = "apt-get install pinentry-curses";
    if !tmux_is_here(test) || !parts::are_here(test, &["pinentry-curses"], install) {
        return;
    }
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let command = "PS1='ready$ ' exec sh -i";
    let path = scene.mountpoint("mnt");
    let mut mount = scene.command();
    mount.args(["docs", path.to_str().unwrap(), "--foreground", "--lazy"]);
    mount.args(["--prompt-timeout", "2"]);
    mount.args(["--pinentry-program", "pinentry-curses"]);
    let mount = Mount::spawn(mount, &path);
    mount.wait_until_mounted();
    let terminal = Terminal::open(&scene, command);
    terminal.wait_for("ready$");
    terminal.type_line(&format!("cat {}", path.join("f").display()));
    terminal.wait_for("MFA code:");
    // Nobody answers, and cat ends. What is typed then is the shell's.
    wait_until("the end of the dialog", || {
        mount.log().contains("the terminal is given back")
    });
    wait_until("the shell's own keys", || {
        terminal.type_line("echo $((6 * 7))");
        terminal.text().contains("42")
    });
    // Whoever comes next is asked again.
    assert!(scene.pinentry.asked() == 0);
    let status = mount.status(&scene);
    assert_eq!(status["session"]["state"], "locked", "{status}");
}

/// Lines on a terminal are the shell's again at once, the first character of them.
#[test]
fn lines_on_a_terminal_are_the_shells_when_nobody_waits() {
    let test = "lines_on_a_terminal_are_the_shells_when_nobody_waits";
    if !tmux_is_here(test) {
        return;
    }
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let path = scene.mountpoint("mnt");
    let mut mount = scene.command();
    mount.args(["docs", path.to_str().unwrap(), "--foreground", "--lazy"]);
    mount.args([
        "--prompt-timeout",
        "2",
        "--pinentry-program",
        "/nonexistent",
    ]);
    let mount = Mount::spawn(mount, &path);
    mount.wait_until_mounted();
    let terminal = Terminal::open(&scene, "PS1='ready$ ' exec sh -i");
    terminal.wait_for("ready$");
    terminal.type_line(&format!("cat {}", path.join("f").display()));
    terminal.wait_for("MFA code:");
    wait_until("the end of the dialog", || {
        mount.log().contains("the terminal is given back")
    });
    terminal.type_line("echo $((6 * 7))");
    terminal.wait_for("42");
}

/// A command may want a token touched: it is run once for each code, when there is a new one.
#[test]
fn a_command_is_run_once_for_each_code() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let code = scene.home().join("code");
    let runs = scene.home().join("runs");
    let process = format!("echo run >>{}; cat {}", runs.display(), code.display());
    let count = || fs::read_to_string(&runs).unwrap().lines().count();
    fs::write(&code, scene.device.unspent_code()).unwrap();
    let mount = scene.start(&["--mfa-process", &process]);
    mount.wait_until_mounted();
    assert_eq!(count(), 1);
    scene.sandbox.sessions().expire_all();
    let reading = thread::spawn({
        let file = mount.file("f");
        move || fs::read_to_string(file)
    });
    wait_until("the wait", || mount.log().contains("for the next code"));
    assert_eq!(count(), 1, "its code of this moment is spent");
    fs::write(&code, scene.device.unspent_code()).unwrap();
    assert_eq!(reading.join().unwrap().unwrap(), "content");
    assert!(!mount.log().contains("no session after"), "{}", mount.log());
    assert_eq!(count(), 2);
}

#[test]
fn a_command_that_gives_no_code_is_run_once_and_told_with_its_own_words() {
    let scene = Scene::new();
    let runs = scene.home().join("runs");
    let script = scene.home().join("give-code");
    let text = format!(
        "#!/bin/sh\necho run >>{}\necho secret-of-no-use\necho 'Touch the key' >&2\n\
         echo between >&2\necho 'Operation timed out' >&2\n",
        runs.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let process = script.display().to_string();
    let mut mount = scene.start(&["--mfa-process", &process]);
    assert_eq!(mount.wait().code(), Some(3), "{}", mount.log());
    assert_eq!(fs::read_to_string(&runs).unwrap(), "run\n");
    let log = mount.log();
    for words in ["give-code", "Touch the key", "Operation timed out"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains("secret-of-no-use"), "{log}");
    assert!(!log.contains("clock"), "{log}");
}

#[test]
fn a_code_that_was_sent_serves_whoever_comes_next() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&[]);
    scene.sandbox.sessions().expire_all();
    let faults = scene.sandbox.faults();
    faults.hold_answer(Kind::GetSessionToken, 1);
    let mut cat = Command::new("cat").arg(mount.file("f")).spawn().unwrap();
    scene.pinentry.wait_until_asked(2);
    assert!(scene.pinentry.answer(&scene.device.unspent_code()));
    wait_until("the code at STS", || faults.stalled() == 1);
    cat.kill().unwrap();
    cat.wait().unwrap();
    wait_until("the end of the wait", || {
        mount.log().contains("nobody waits for it any more")
    });
    faults.release();
    wait_until("the session", || {
        mount.log().contains("it is kept for the next")
    });
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    assert_eq!(scene.pinentry.asked(), 2);
}

#[test]
fn control_c_at_the_first_prompt_ends_the_command() {
    if !tmux_is_here("control_c_at_the_first_prompt_ends_the_command") {
        return;
    }
    let scene = Scene::new();
    let path = scene.mountpoint("mnt");
    let command = format!(
        "{} docs {} --prompt tty; echo exit $?; exec sleep 60",
        env!("CARGO_BIN_EXE_s3mfa-mount"),
        path.display()
    );
    let shell = format!("sh -c 'trap : INT; {command}'");
    let terminal = Terminal::open(&scene, &shell);
    terminal.wait_for("MFA code:");
    terminal.tmux().args(["send-keys", "C-c"]).status().unwrap();
    terminal.wait_for("exit ");
    assert!(!crate::scene::is_mounted(&path));
}

fn lives(scene: &Scene, mount: &crate::scene::Mount) {
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let renewed = scene.control(&["renew", mount.path().to_str().unwrap()]);
    answering.join().unwrap();
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
}

#[test]
fn a_real_pinentry_curses_goes_when_the_daemon_is_killed() {
    let test = "a_real_pinentry_curses_goes_when_the_daemon_is_killed";
    if !tmux_is_here(test)
        || !parts::are_here(
            test,
            &["pinentry-curses"],
            "apt-get install pinentry-curses",
        )
    {
        return;
    }
    let scene = Scene::new();
    let path = scene.mountpoint("mnt");
    let pid = scene.home().join("pid");
    let command = format!(
        "sh -c 'echo $$ >{}; exec {} docs {} --foreground --pinentry-program pinentry-curses'; \
         exec cat",
        pid.display(),
        env!("CARGO_BIN_EXE_s3mfa-mount"),
        path.display()
    );
    let terminal = Terminal::open(&scene, &command);
    terminal.wait_for("MFA code:");
    let daemon = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    crate::scene::kill(daemon, libc::SIGKILL);
    wait_until("the terminal as it was: lines and echo", || {
        let modes = terminal.modes();
        modes.contains(" icanon") && modes.contains(" echo ")
    });
    terminal.type_line("typed");
    terminal.wait_for("typed");
}

#[test]
fn the_dialog_gets_the_display_of_the_moment() {
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    // A user manager that knows a display, which desktops import there at each login.
    let bin = scene.home().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::create_dir(scene.home().join("run/systemd")).unwrap();
    let display = scene.home().join("display");
    let systemctl = format!("#!/bin/sh\ncat {}\n", display.display());
    fs::write(bin.join("systemctl"), systemctl).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bin.join("systemctl"), mode).unwrap();
    let mut command = scene.command();
    let path = scene.mountpoint("mnt");
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    command.env("PATH", search).env("DISPLAY", ":98");
    command.args([
        "docs",
        path.to_str().unwrap(),
        "--foreground",
        "--metadata-ttl",
        "0",
    ]);

    fs::write(&display, "DISPLAY=:1\nOTHER=x\n").unwrap();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    let mount = crate::scene::Mount::spawn(command, &path);
    mount.wait_until_mounted();
    answering.join().unwrap();
    for shown in ["DISPLAY=:2", "DISPLAY=:3"] {
        scene.sandbox.sessions().expire_all();
        fs::write(&display, format!("{shown}\n")).unwrap();
        let asked = scene.pinentry.asked();
        let file = mount.file("f");
        let reader = thread::spawn(move || fs::read_to_string(file));
        scene.pinentry.wait_until_asked(asked + 1);
        let dialog = scene.pinentry.process().unwrap();
        let environment = fs::read(format!("/proc/{dialog}/environ")).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.split('\0').any(|v| v == shown), "{environment}");
        assert!(scene.pinentry.answer(&scene.device.unspent_code()));
        assert_eq!(reader.join().unwrap().unwrap(), "content");
    }
}

/// A dialog is open on the desktop, and the person sits at a terminal elsewhere.
#[test]
fn renew_joins_an_open_dialog_and_the_first_answer_wins() {
    if !tmux_is_here("renew_joins_an_open_dialog_and_the_first_answer_wins") {
        return;
    }
    let scene = Scene::new();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    let renew = format!("{} renew; echo exit $?", env!("CARGO_BIN_EXE_s3mfa-mount"));
    for at_the_terminal in [true, false] {
        scene.sandbox.sessions().expire_all();
        let file = mount.file("f");
        let asked = scene.pinentry.asked();
        let reader = thread::spawn(move || fs::read_to_string(file));
        scene.pinentry.wait_until_asked(asked + 1);
        let terminal = Terminal::open(&scene, "exec bash --norc");
        terminal.type_line(&renew);
        terminal.wait_for("MFA code:");
        assert!(scene.pinentry.is_open(), "the dialog stays");
        let code = scene.device.unspent_code();
        match at_the_terminal {
            true => terminal.type_line(&code),
            false => assert!(scene.pinentry.answer(&code)),
        }
        assert_eq!(reader.join().unwrap().unwrap(), "content");
        terminal.wait_for("exit 0");
        wait_until("the end of the dialog", || !scene.pinentry.is_open());
        assert_eq!(scene.pinentry.asked(), asked + 1);
    }
}
