//! Configuration files as people and tools write them: a row each, with what comes of it.
//!
//! `src/config/botocore_tests.rs` reads every row twice, by botocore (`by_botocore.py`) and by this program. A
//! row that is not the same for both says why. `{home}` is the row's home directory. Where version 2 of
//! the AWS CLI, which has a botocore of its own, is known to differ from botocore, the row says that, too.

mod around;
mod keys;
mod texts;

use serde_json::{Value, json};

/// What this program makes of a row.
pub enum Ours {
    /// What botocore makes of it.
    Same,
    /// An error with these words, as botocore has one.
    RefusedToo(&'static str),
    /// An error with these words, where botocore has none; and why.
    Refused(&'static str, &'static str),
    /// These parts, where botocore has others or an error; and why.
    Differs(Vec<(&'static str, Value)>, &'static str),
}

/// A home directory, an environment, and what is asked for there.
pub struct Row {
    pub name: &'static str,
    /// Paths below the home, and what is in them.
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub env: Vec<(&'static str, &'static str)>,
    /// Variables that are not set.
    pub without: Vec<&'static str>,
    /// `--profile`.
    pub profile: Option<&'static str>,
    pub ours: Ours,
}

impl Row {
    fn file(mut self, path: &'static str, text: impl AsRef<[u8]>) -> Self {
        self.files.push((path, text.as_ref().to_vec()));
        self
    }

    fn config(self, text: impl AsRef<[u8]>) -> Self {
        self.file(".aws/config", text)
    }

    fn credentials(self, text: impl AsRef<[u8]>) -> Self {
        self.file(".aws/credentials", text)
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    fn profile(mut self, name: &'static str) -> Self {
        self.profile = Some(name);
        self
    }

    fn is(mut self, ours: Ours) -> Self {
        self.ours = ours;
        self
    }

    fn refused_too(self, words: &'static str) -> Self {
        self.is(Ours::RefusedToo(words))
    }

    fn differs<const N: usize>(self, parts: [(&'static str, &str); N], why: &'static str) -> Self {
        let parts = parts.map(|(part, value)| (part, json!(value)));
        self.is(Ours::Differs(parts.into(), why))
    }
}

fn row(name: &'static str) -> Row {
    Row {
        name,
        files: Vec::new(),
        env: Vec::new(),
        without: Vec::new(),
        profile: None,
        ours: Ours::Same,
    }
}

/// Keys of a user.
const KEYS: &str = "aws_access_key_id = AKIAGOOD\naws_secret_access_key = abc/def+ghi=\n";

/// A command that prints keys.
const PRINTS: &str = "{\"Version\": 1, \"AccessKeyId\": \"AKIAPROC\", \"SecretAccessKey\": \"s\"}";

const ONE_BAD_LINE: &str = "botocore refuses the whole file for one line; what is sure in it is read \
                            here, and the line is named in the log";
const SDKS: &str = "the AWS CLI takes quotes and comments into the value, where nothing of AWS's has \
                    any; the SDKs' rule is followed (Go, Java, Rust cut ` #` and ` ;`)";

/// A profile with these keys below it.
fn default(keys: &str) -> String {
    format!("[default]\n{keys}")
}

/// A profile whose keys a command prints.
fn process(command: &str) -> String {
    default(&format!("credential_process = {command}\n"))
}

/// The text, with keys behind it.
fn keyed(text: &str) -> String {
    format!("{text}\n{KEYS}")
}

pub fn rows() -> Vec<Row> {
    [
        texts::lines(),
        texts::broken(),
        texts::names(),
        texts::files(),
        keys::order(),
        keys::roles(),
        around::services(),
        around::processes(),
        around::environments(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
