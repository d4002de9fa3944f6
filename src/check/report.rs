//! What `check` has found, for people while it goes on, and for programs when it is done.

use std::io::Write;

use serde::Serialize;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and is worth knowing.
    Note,
    /// It does not work, or lets in whom it should not.
    Problem,
    /// It could not be found out.
    Unknown,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// What was looked at: a word or two.
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    /// What was seen.
    pub(crate) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: u32,
    bucket: String,
    steps: Vec<Step>,
    /// Whether the bucket can be mounted.
    pub(crate) mountable: bool,
    /// The command that mounts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
    #[serde(skip)]
    as_json: bool,
}

impl Report {
    /// Begins a report, which is printed step by step unless it is for a program.
    pub(crate) fn new(bucket: &str, as_json: bool) -> Self {
        Self {
            version: 1,
            bucket: bucket.to_owned(),
            steps: Vec::new(),
            mountable: false,
            command: None,
            as_json,
        }
    }

    /// Tells what a step has shown.
    pub(crate) fn tell(&mut self, step: Step) -> std::io::Result<()> {
        if !self.as_json {
            let mark = match step.outcome {
                Outcome::Ok => "ok",
                Outcome::Note => "note",
                Outcome::Problem => "NO",
                Outcome::Unknown => "?",
            };
            let mut text = format!("{mark:>4}  {:<12} {}\n", step.name, step.text);
            if let Some(fix) = &step.fix {
                text.push_str(&format!("{:18} -> {fix}\n", ""));
            }
            out(&text)?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// The last words.
    pub(crate) fn finish(&self) -> std::io::Result<()> {
        if self.as_json {
            let json = serde_json::to_string_pretty(self)?;
            return out(&format!("{json}\n"));
        }
        match (&self.command, self.mountable) {
            (Some(command), true) => out(&format!("\nIt can be mounted:\n\n    {command}\n")),
            _ => out("\nIt cannot be mounted like this: see the lines with NO.\n"),
        }
    }
}

fn out(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // Whoever read it has had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
