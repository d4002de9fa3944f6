//! The list of what is left out, compared with what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What pjdfstest says of a case that only root can run.
const NEEDS_ROOT: &str = "requires root privileges";

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Passed,
    Failed,
    /// pjdfstest itself did not run it.
    Skipped,
    /// The same, for want of root: the other run has it.
    NeedsRoot,
}

/// Everything that one run has found: by name, how the case ended and what was said of it.
pub struct Found {
    pub cases: BTreeMap<String, (Ending, String)>,
    pub took: Duration,
}

impl Found {
    /// Reads what pjdfstest prints: a line for each case, and more lines, indented, with reasons.
    pub fn read(text: &str, took: Duration) -> Self {
        let mut cases = BTreeMap::<String, (Ending, String)>::new();
        let mut last = None;
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let ending = match words[..] {
                [name, "ok"] => Some((name, Ending::Passed)),
                [name, "FAILED"] => Some((name, Ending::Failed)),
                [name, "skipped"] => Some((name, Ending::Skipped)),
                _ => None,
            };
            if let Some((name, ending)) = ending {
                let before = cases.insert(name.to_owned(), (ending, String::new()));
                assert!(before.is_none(), "two cases of the name {name}");
                last = Some(name.to_owned());
            } else if let Some(case) = last.as_ref().and_then(|name| cases.get_mut(name))
                && !line.starts_with("Summary")
            {
                if case.0 == Ending::Skipped && line.trim() == NEEDS_ROOT {
                    case.0 = Ending::NeedsRoot;
                }
                case.1.push_str(line);
                case.1.push('\n');
            }
        }
        Self { cases, took }
    }

    /// Adds another run, of cases that were not run in this one.
    pub fn add(&mut self, other: Self) {
        for (name, case) in other.cases {
            let before = self.cases.insert(name.clone(), case);
            assert!(
                before.is_some_and(|(ending, _)| ending == Ending::Skipped),
                "{name}"
            );
        }
        self.took += other.took;
    }
}

/// How many cases ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    passed: usize,
    failed: usize,
    left_out: usize,
    needs_root: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            left_out,
            needs_root,
        } = self;
        write!(
            f,
            "{passed} passed, {failed} failed, {left_out} left out, {needs_root} for root"
        )
    }
}

/// One run's part of the list.
pub struct Exceptions {
    run: String,
    counts: String,
    /// By name, how the case is known to end.
    cases: BTreeMap<String, Ending>,
}

impl Exceptions {
    /// Reads the part for a run. The first lines of the file say what it is made of.
    pub fn read(run: &str) -> Self {
        let text = std::fs::read_to_string(super::list()).unwrap();
        let mut exceptions = Self {
            run: run.to_owned(),
            counts: String::new(),
            cases: BTreeMap::new(),
        };
        let mut is_this = false;
        let mut ending = None;
        for (number, line) in text.lines().enumerate() {
            let at = format!("exceptions.txt, line {}: {line}", number + 1);
            if line.is_empty() || line.starts_with('#') {
            } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                is_this = name == run;
                ending = None;
            } else if !is_this {
            } else if let Some(counts) = line.strip_prefix("counts: ") {
                counts.clone_into(&mut exceptions.counts);
            } else if line.starts_with("fails: ") {
                ending = Some(Ending::Failed);
            } else if line.starts_with("not run: ") {
                ending = Some(Ending::Skipped);
            } else {
                let name = line.strip_prefix("    ").expect(&at);
                let before = exceptions.cases.insert(name.to_owned(), ending.expect(&at));
                assert!(before.is_none(), "{at}: it is there twice");
            }
        }
        exceptions
    }

    /// Writes the numbers that were found into the list.
    pub fn write(&self, verdict: &mut Verdict) {
        verdict.listed = verdict.counts.to_string();
        let text = std::fs::read_to_string(super::list()).unwrap();
        let mut is_this = false;
        let mut lines = Vec::new();
        for line in text.lines() {
            if line.starts_with('[') {
                is_this = line == format!("[{}]", self.run);
            }
            if is_this && line.starts_with("counts: ") {
                lines.push(format!("counts: {}\n", verdict.listed));
            } else {
                lines.push(format!("{line}\n"));
            }
        }
        std::fs::write(super::list(), lines.concat()).unwrap();
    }

    pub fn compare(&self, found: &Found) -> Verdict {
        let mut verdict = Verdict {
            listed: self.counts.clone(),
            ..Verdict::default()
        };
        for (name, (ending, said)) in &found.cases {
            let listed = self.cases.get(name);
            let count = match (ending, listed) {
                (Ending::Passed, _) => &mut verdict.counts.passed,
                (Ending::NeedsRoot, _) => &mut verdict.counts.needs_root,
                (ending, Some(listed)) if ending == listed => &mut verdict.counts.left_out,
                _ => &mut verdict.counts.failed,
            };
            *count += 1;
            match (ending, listed) {
                (Ending::Failed, None) => verdict.say(name, "fails", said),
                (Ending::Skipped, None) => verdict.say(name, "was not run", said),
                (ending, Some(listed)) if ending != listed => {
                    verdict.say(
                        name,
                        &format!("is {ending:?} but listed as {listed:?}"),
                        said,
                    );
                }
                _ => {}
            }
        }
        for name in self.cases.keys() {
            if !found.cases.contains_key(name) {
                verdict.say(name, "is listed and does not exist", "");
            }
        }
        verdict
    }
}

/// What is not as the list says.
#[derive(Default)]
pub struct Verdict {
    pub counts: Counts,
    listed: String,
    complaints: Vec<String>,
}

impl Verdict {
    fn say(&mut self, name: &str, what: &str, said: &str) {
        self.complaints.push(format!("{name} {what}\n{said}"));
    }

    pub fn is_as_expected(&self) -> bool {
        self.complaints.is_empty() && self.listed == self.counts.to_string()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in &self.complaints {
            write!(f, "\n{complaint}")?;
        }
        writeln!(f, "\n{} found", self.counts)?;
        write!(f, "{} listed in tests/posix/exceptions.txt", self.listed)
    }
}
