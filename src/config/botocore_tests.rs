//! The table of `tests/ways/profiles`: each row read by botocore, the AWS CLI's library, and by this
//! program, in the same environment.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser;
use serde_json::{Map, Value, json};

use super::*;
use crate::auth::identity::{Origin, WebToken};
use crate::auth::origin;

#[path = "../../tests/ways/profiles/rows/mod.rs"]
mod rows;

use rows::{Ours, Row, rows};

/// The version that the reasons were written for.
const BOTOCORE: &str = "1.43.106";

/// Names the profile, for a process that reads one row.
const PROFILE: &str = "S3MFA_TEST_PROFILE";

/// Behind this a process tells what it has read.
const MARK: &str = "read: ";

#[test]
fn every_row_is_read_as_botocore_reads_it_or_has_a_reason() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    let version = format!("import botocore; assert botocore.__version__ == '{BOTOCORE}'");
    let found = Command::new(&python).args(["-c", &version]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        let message = format!(
            "SKIPPED every_row_is_read_as_botocore_reads_it_or_has_a_reason: botocore {BOTOCORE} not \
             found; python3 -m venv target/tools/venv && target/tools/venv/bin/pip install \
             botocore=={BOTOCORE}"
        );
        assert!(std::env::var_os("CI").is_none(), "{message}");
        let _ =
            std::io::Write::write_all(&mut std::io::stderr(), format!("{message}\n").as_bytes());
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let rows = rows();
    let environments: Vec<_> = (0..)
        .zip(&rows)
        .map(|(number, row): (usize, _)| furnish(&scene.path().join(number.to_string()), row))
        .collect();
    let asked: Vec<Value> = rows
        .iter()
        .zip(&environments)
        .map(|(row, env)| json!({"env": env.iter().cloned().collect::<Map<_, _>>(), "profile": row.profile}))
        .collect();
    let theirs = botocore(&python, &json!(asked));
    let mut wrong = Vec::new();
    for ((row, environment), theirs) in rows.iter().zip(&environments).zip(&theirs) {
        if let Err(why) = compare(row, theirs, &in_a_process(row, environment)) {
            wrong.push(format!("{}: {why}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Writes a row's files. Returns its environment.
fn furnish(home: &Path, row: &Row) -> Vec<(String, Value)> {
    std::fs::create_dir_all(home.join(".aws")).unwrap();
    std::fs::create_dir_all(home.join("elsewhere")).unwrap();
    let shown = home.to_str().unwrap();
    for (name, bytes) in &row.files {
        // Only text has the name of the home in it.
        let bytes = match std::str::from_utf8(bytes) {
            Ok(text) => text.replace("{home}", shown).into_bytes(),
            Err(_) => bytes.clone(),
        };
        std::fs::write(home.join(name), bytes).unwrap();
    }
    let mut variables = vec![
        ("HOME", shown.to_owned()),
        ("PATH", std::env::var("PATH").unwrap()),
        ("LC_ALL", "C.UTF-8".to_owned()),
    ];
    for (name, value) in &row.env {
        variables.push((name, value.replace("{home}", shown)));
    }
    variables.retain(|(name, _)| !row.without.contains(name));
    let variables = variables.into_iter();
    variables
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
}

fn botocore(python: &Path, rows: &Value) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ways/profiles/by_botocore.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    serde_json::to_writer(input, rows).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What this program makes of a row, in a process that has the row's environment.
fn in_a_process(row: &Row, environment: &[(String, Value)]) -> Value {
    let variables = environment
        .iter()
        .map(|(name, value)| (name, value.as_str().unwrap()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "config::botocore_tests::a_row_in_its_own_process",
        ])
        .args(["--ignored", "--nocapture"])
        .env_clear()
        .envs(variables)
        .env(PROFILE, row.profile.unwrap_or_default());
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let line = told.lines().find_map(|line| line.strip_prefix(MARK));
    let line = line.unwrap_or_else(|| panic!("{}: {output:?}", row.name));
    serde_json::from_str(line).unwrap()
}

#[tokio::test]
#[ignore = "a row of the table above, started by it"]
async fn a_row_in_its_own_process() {
    let told = match read().await {
        Ok(told) => told,
        Err(error) => json!({ "error": error }),
    };
    let line = format!("\n{MARK}{told}\n");
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
}

async fn read() -> Result<Value, String> {
    let mut line = vec!["s3mfa-mount".to_owned(), "b".to_owned(), "/m".to_owned()];
    if let Some(profile) = variable(PROFILE) {
        line.extend(["--profile".to_owned(), profile]);
    }
    let args = crate::cli::Cli::try_parse_from(line).unwrap().mount.access;
    let names = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
    ];
    let secrets = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variable(name)?)));
    let surroundings = Surroundings {
        secrets: secrets.collect(),
    };
    let access = Access::new(&args, &surroundings).await;
    let access = access.map_err(|error| error.to_string())?;
    let Access {
        identity,
        endpoints,
        ..
    } = access;
    let home = crate::home::directory().unwrap();
    let mut told = json!({
        "region": endpoints.region,
        "s3": endpoints.urls.s3,
        "sts": endpoints.urls.sts,
        "style": endpoints.path_style.then_some("path"),
        "home": home.to_str().unwrap().trim_end_matches('/'),
    });
    let now = SystemTime::now();
    let (source, keys) = match &identity.origin {
        Origin::Keys(keys) if keys.expiry().is_some_and(|end| end <= now) => {
            return Err("the keys have ended".to_owned());
        }
        Origin::Keys(keys) => ("keys".to_owned(), Some(keys.clone())),
        Origin::Process(command) => {
            let issued = origin::process(command, now).await?;
            ("process".to_owned(), Some(issued.credentials))
        }
        Origin::WebIdentity { token, role } => {
            assert!(matches!(token, WebToken::File(_)));
            (format!("web:{}", role.arn), None)
        }
        Origin::Instance => ("instance".to_owned(), None),
        Origin::Container => ("container".to_owned(), None),
        Origin::Login(arn) => (format!("login:{arn}"), None),
        Origin::Sso(sso) => {
            let session = sso.session.as_deref().unwrap_or_default();
            let parts = [
                session,
                &sso.start_url,
                &sso.region,
                &sso.account_id,
                &sso.role_name,
            ];
            (format!("sso:{}", parts.join("|")), None)
        }
    };
    told["source"] = source.into();
    if let Some(keys) = keys {
        told["id"] = keys.access_key_id().into();
        told["secret"] = keys.secret_access_key().into();
        told["token"] = keys.session_token().into();
    }
    let serial = identity
        .serial
        .as_ref()
        .map_or("", |serial| serial.as_str());
    let roles = identity.roles.iter().map(|role| {
        let duration = role.duration.map(|seconds| seconds.to_string());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let parts = [
            role.arn.clone(),
            serial.to_owned(),
            text(&role.session_name),
            text(&role.external_id),
            duration.unwrap_or_default(),
        ];
        parts.join("|")
    });
    let roles: Vec<String> = roles.collect();
    if !roles.is_empty() {
        told["roles"] = roles.into();
    }
    Ok(told)
}

/// What both tell of.
const PARTS: [&str; 10] = [
    "source", "id", "secret", "token", "region", "s3", "sts", "style", "roles", "home",
];

fn compare(row: &Row, theirs: &Value, ours: &Value) -> Result<(), String> {
    let both = format!("botocore: {theirs}\n  this program: {ours}");
    let differs = match (theirs.get("error"), ours.get("error")) {
        (Some(_), Some(_)) => false,
        (None, None) => PARTS.iter().any(|part| {
            let is_usual = *part == "region" && theirs[part].is_null() && ours[part] == "us-east-1";
            theirs[part] != ours[part] && !is_usual
        }),
        _ => true,
    };
    let says = |words: &str| {
        let error = ours["error"].as_str().unwrap_or_default();
        error.contains(words)
    };
    let is_fine = match &row.ours {
        Ours::Same => !differs && ours.get("error").is_none(),
        Ours::RefusedToo(words) => !differs && says(words),
        Ours::Refused(words, _) => differs && says(words),
        Ours::Differs(parts, _) => {
            differs && parts.iter().all(|(part, value)| ours[part] == *value)
        }
    };
    let why = match &row.ours {
        Ours::Refused(_, why) | Ours::Differs(_, why) => why,
        Ours::Same | Ours::RefusedToo(_) => "the same is expected",
    };
    is_fine.then_some(()).ok_or(format!("{both}\n  ({why})"))
}
