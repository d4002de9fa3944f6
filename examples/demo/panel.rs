//! One line at the bottom of the terminal that stays there, as apt's progress bar does.
//!
//! The mount asks on the same terminal, and lines printed meanwhile would tear its prompt. So all
//! rows but the last scroll, and the last is written with the cursor saved and restored: whoever
//! types notices nothing.

use std::io::Write;
use std::process::{Command, Stdio};

use super::Outcome;

/// The line; dropping it gives the terminal back.
pub struct Panel {
    rows: usize,
    columns: usize,
}

impl Panel {
    /// Takes the last row of the terminal.
    pub fn open() -> Outcome<Self> {
        let mut panel = Self {
            rows: 0,
            columns: 0,
        };
        panel.fit()?;
        Ok(panel)
    }

    /// Writes the line.
    pub fn show(&mut self, text: &str) -> Outcome {
        self.fit()?;
        // Cut, because a full last row would scroll everything.
        let text: String = text.chars().take(self.columns.saturating_sub(3)).collect();
        write(&format!(
            "\x1b7\x1b[{};1H\x1b[7m {text} \x1b[0m\x1b[K\x1b8",
            self.rows
        ))
    }

    /// Sets the rows that scroll, again whenever the window has changed its size.
    fn fit(&mut self) -> Outcome {
        let size = Command::new("stty")
            .arg("size")
            .stdin(Stdio::inherit())
            .output()?;
        let size = String::from_utf8(size.stdout)?;
        let (rows, columns) = size
            .trim()
            .split_once(' ')
            .ok_or("the terminal has no size")?;
        // A serial line does not know its size; this is the least that terminals have.
        let (rows, columns) = match (rows.parse()?, columns.parse()?) {
            (0, _) | (_, 0) => (24, 80),
            size => size,
        };
        if (rows, columns) == (self.rows, self.columns) {
            return Ok(());
        }
        (self.rows, self.columns) = (rows, columns);
        // Down and up again: so the cursor is not in the last row.
        write(&format!(
            "\x1bD\x1b[A\x1b7\x1b[1;{}r\x1b8",
            rows.saturating_sub(1)
        ))
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        let _ = write(&format!("\x1b7\x1b[r\x1b[{};1H\x1b[2K\x1b8", self.rows));
    }
}

/// Writes in one piece, so that nothing of the mount's comes between.
fn write(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
