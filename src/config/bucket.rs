//! What to mount: a bucket, or a prefix of one.

use clap::CommandFactory;

use super::ConfigError;
use crate::cli::Cli;

/// Reads `BUCKET[/PREFIX]` with or without `s3://`; the prefix is empty or ends with `/`.
pub(crate) fn bucket_and_prefix(text: &str) -> Result<(String, String), ConfigError> {
    let rest = text.strip_prefix("s3://").unwrap_or(text);
    let is_command = Cli::command()
        .get_subcommands()
        .any(|command| command.get_name() == text || command.get_all_aliases().any(|a| a == text));
    if is_command {
        return Err(ConfigError(format!(
            "{text:?} is a command, and comes first: s3mfa-mount {text} ... A bucket of that name is \
             written s3://{text}"
        )));
    }
    if rest.starts_with("arn:") || rest.contains("://") {
        return Err(ConfigError(format!(
            "{:?} is no name of a bucket: write BUCKET, BUCKET/PREFIX, or s3://BUCKET/PREFIX",
            crate::words::tame(rest)
        )));
    }
    if rest.starts_with('/') {
        return Err(ConfigError(format!(
            "{:?} is a path, where a bucket was expected. A bucket that is named like a command is \
             written s3://NAME",
            crate::words::tame(rest)
        )));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // Naming rules: docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html;
    // older buckets and other stores are laxer.
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(is_fine) {
        return Err(ConfigError(format!(
            "{:?} is no bucket name: those have letters, digits, dots and dashes",
            crate::words::tame(bucket)
        )));
    }
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && !prefix.split('/').all(crate::fs::names::is_name) {
        return Err(ConfigError(format!(
            "the prefix {:?} cannot be a path: it has an empty part, `.` or `..`",
            crate::words::tame(prefix)
        )));
    }
    let prefix = match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok((bucket.to_owned(), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_read_as_people_write_them() {
        let read = |text| bucket_and_prefix(text).map_err(|e| e.to_string());
        let both = |b: &str, p: &str| Ok((b.to_owned(), p.to_owned()));
        assert_eq!(read("docs"), both("docs", ""));
        assert_eq!(read("docs/"), both("docs", ""));
        assert_eq!(read("s3://docs/a/b/"), both("docs", "a/b/"));
        assert_eq!(read("s3://check"), both("check", ""));
        assert!(read("/mnt").unwrap_err().contains("s3://NAME"));
        assert!(read("docs/a//b").is_err() && read("docs/../b").is_err());
        assert!(read("check").unwrap_err().contains("s3://check"));
        assert!(
            read("arn:aws:s3:::docs")
                .unwrap_err()
                .contains("BUCKET/PREFIX")
        );
        assert!(read("https://docs.s3.amazonaws.com/").is_err());
        assert!(read("").is_err() && read("my bucket").is_err());
    }
}
