//! Opening a page in the person's browser.

use std::process::Stdio;

use super::screen;

/// Opens an address, if there is a browser that can show it. Returns whether one was started.
///
/// `BROWSER` is respected (freedesktop.org's xdg-open does, too); without it a display is needed.
pub(crate) async fn open_browser(url: &str) -> bool {
    // What a server sends must not become an option or a command.
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return false;
    }
    let chosen = std::env::var("BROWSER").ok();
    let chosen = chosen.and_then(|list| {
        let first = list.split(':').find(|program| !program.is_empty());
        first.map(str::to_owned)
    });
    let variables = screen::present_display().await;
    let has_display = variables
        .iter()
        .any(|(name, value)| name.ends_with("DISPLAY") && !value.is_empty());
    let program = match chosen {
        Some(program) => program,
        None if has_display => "xdg-open".to_owned(),
        None => return false,
    };
    let mut browser = tokio::process::Command::new(program);
    crate::sys::with_usual_limits(browser.as_std_mut());
    let started = browser
        .arg(url)
        .envs(variables)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Ok(mut child) => {
            // It may live as long as the browser; it is only waited for so that it can end.
            tokio::spawn(async move { child.wait().await });
            true
        }
        Err(_) => false,
    }
}
