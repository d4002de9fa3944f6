//! The AWS CLI's library at work on a bucket, in a process that stays.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// `hand.py`, which ends with its standard input.
pub struct Hand {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Hand {
    /// Starts it with Python and an environment for the AWS CLI, which `python` has.
    pub fn new(mut python: Command) -> Self {
        let mut child = python
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/others/hand.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Does one thing, and returns what came of it, or the error in words.
    pub fn order(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let mut line = vec![json!(name)];
        line.extend(arguments.as_array().unwrap().iter().cloned());
        writeln!(self.orders, "{}", Value::from(line)).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        match answer["error"].take() {
            Value::String(error) => Err(error),
            _ => Ok(answer["done"].take()),
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
