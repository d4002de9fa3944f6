//! One line at the bottom of the terminal that stays there, as apt's progress bar does.
//!
//! The prompt of the mount is on the same terminal, and what is printed between its lines would
//! tear it. The terminal is told to scroll all rows but the last, and the last is written with
//! the cursor saved and restored, so that whoever types notices nothing.

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
        // A full last column would wrap, and scroll.
        let text: String = text.chars().take(self.columns.saturating_sub(3)).collect();
        write(&format!(
            "\x1b7\x1b[{};1H\x1b[7m {text} \x1b[0m\x1b[K\x1b8",
            self.rows
        ))
    }

    /// Sets the rows that scroll, at first and whenever the terminal has changed its size.
    fn fit(&mut self) -> Outcome {
        // An ioctl tells the size too, but not without unsafe code.
        let size = Command::new("stty")
            .arg("size")
            .stdin(Stdio::inherit())
            .output()?;
        let size = String::from_utf8(size.stdout)?;
        let (rows, columns) = size.trim().split_once(' ').ok_or("stty tells no size")?;
        let (rows, columns) = (rows.parse()?, columns.parse()?);
        if (rows, columns) == (self.rows, self.columns) {
            return Ok(());
        }
        (self.rows, self.columns) = (rows, columns);
        // One row down and up again, so that the cursor is not in the last row.
        write(&format!(
            "\x1bD\x1b[A\x1b7\x1b[1;{}r\x1b8",
            rows.saturating_sub(1).max(1)
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
