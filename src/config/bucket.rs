//! What to mount: a bucket, or a prefix of one.

use super::ConfigError;

/// Reads `BUCKET[/PREFIX]` with or without `s3://`; the prefix is empty or ends with `/`.
pub(crate) fn bucket_and_prefix(text: &str) -> Result<(String, String), ConfigError> {
    let rest = text.strip_prefix("s3://").unwrap_or(text);
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
        assert!(read("").is_err() && read("my bucket").is_err());
    }
}
