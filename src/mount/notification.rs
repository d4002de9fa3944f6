//! Telling the desktop, if there is one: `notify-send` of libnotify.

use std::process::Stdio;
use std::time::Duration;

/// How long handing a notification over may take.
const HANDING_OVER: Duration = Duration::from_secs(5);

/// What `notify-send` prints when the button is pressed.
const PRESSED: &str = "pressed";

/// `notify-send`, ready to be started. Without a session bus there is no desktop.
fn notify_send(arguments: &[&str], title: &str, text: &str) -> Option<tokio::process::Command> {
    std::env::var_os("DBUS_SESSION_BUS_ADDRESS")?;
    let mut command = tokio::process::Command::new("notify-send");
    command
        .args(["-a", "s3mfa-mount"])
        .args(arguments)
        // Titles and texts may begin with a dash.
        .args(["--", title, text])
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    crate::sys::with_usual_limits(command.as_std_mut());
    Some(command)
}

/// Shows something. Nobody waits for who reads it.
pub(super) async fn tell(icon: &str, title: &str, text: &str) {
    if let Some(mut command) = notify_send(&["-i", icon], title, text) {
        let told = command.stdout(Stdio::null()).status();
        let _ = tokio::time::timeout(HANDING_OVER, told).await;
    }
}

/// Shows something with a button, and returns whether that is pressed within `life`.
pub(super) async fn ask(icon: &str, title: &str, text: &str, button: &str, life: Duration) -> bool {
    let action = format!("--action={PRESSED}={button}");
    let Some(mut command) = notify_send(&["-i", icon, &action], title, text) else {
        return false;
    };
    let answered = tokio::time::timeout(life, command.output()).await;
    matches!(answered, Ok(Ok(output)) if output.stdout.trim_ascii() == PRESSED.as_bytes())
}
