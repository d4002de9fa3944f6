//! The command line: data only. [`crate::config`] says what it means.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::auth::identity::Way;
use crate::auth::prompt::Wanted;

/// Mounts an S3 bucket that demands MFA, and asks for a new code when the session ends.
#[derive(Debug, Parser)]
#[command(
    name = "s3mfa-mount",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "A bucket that is named like a command is written s3://NAME.\n\
                  Every option can be given as in fstab too: -o key=value,flag\n\n\
                  SIGTERM, SIGINT and SIGQUIT store what waits and unmount; a second one ends at \
                  once, and the next mount stores the rest. So do SIGXCPU, and SIGHUP when the \
                  terminal of a mount in the foreground is closed. Other signals do nothing, but \
                  SIGKILL and Ctrl-Z."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) mount: MountArgs,
}

const CREDENTIALS_HELP: &str = "In ~/.aws/config:\n\n  \
    [profile work]\n  credential_process = s3mfa-mount credentials --profile NAME\n\n\
    The session is the one that mounts use: one code serves them all.";

/// What to do with mounts that are there.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show sessions, expiry and requests of one mount, or of all
    Status(StatusArgs),
    /// Ask for a code now, on this terminal if there is one
    Renew(TargetArgs),
    /// Forget the session now; the next access asks for a code
    Lock(TargetArgs),
    /// Unmount
    #[command(alias = "umount")]
    Unmount(UnmountArgs),
    /// Explain, step by step, whether and how a bucket can be mounted
    Check(Box<CheckArgs>),
    /// Print the policies that enforce MFA on a bucket
    Policy(PolicyArgs),
    /// Print keys for the AWS CLI and SDKs, as credential_process wants them
    #[command(after_help = CREDENTIALS_HELP)]
    Credentials(Box<CredentialsArgs>),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print a manual page
    Man(ManArgs),
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The mount; all of this user's if left out
    pub(crate) mountpoint: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print again whenever something changes, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
}

/// A mount, or all.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The mount; all of this user's if left out
    pub(crate) mountpoint: Option<PathBuf>,
}

/// `unmount`.
#[derive(Debug, Args)]
pub(crate) struct UnmountArgs {
    /// The mount
    pub(crate) mountpoint: PathBuf,
}

/// Who wants in, and how they are asked.
#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    /// The profile in ~/.aws/config and ~/.aws/credentials; AWS_PROFILE if left out
    #[arg(long, help_heading = "Identity")]
    pub(crate) profile: Option<String>,
    /// The bucket's region; found out if left out
    #[arg(long, help_heading = "Identity")]
    pub(crate) region: Option<String>,
    /// Another store than AWS
    #[arg(long, value_name = "URL", help_heading = "Identity")]
    pub(crate) endpoint_url: Option<String>,
    /// The STS that belongs to it
    #[arg(long, value_name = "URL", help_heading = "Identity")]
    pub(crate) sts_endpoint_url: Option<String>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(
        long,
        value_name = "FILE",
        env = "AWS_CA_BUNDLE",
        help_heading = "Identity"
    )]
    pub(crate) ca_bundle: Option<PathBuf>,
    /// Put the bucket into the path of URLs, as most other stores want it
    #[arg(long, help_heading = "Identity")]
    pub(crate) force_path_style: bool,

    /// How to get a session
    #[arg(long, value_enum, default_value_t, help_heading = "Session")]
    pub(crate) credentials: Way,
    /// The MFA device: an ARN, the number on a hardware device, or `auto` to find out
    #[arg(
        long,
        value_name = "SERIAL|ARN|auto",
        env = "AWS_MFA_SERIAL",
        help_heading = "Session"
    )]
    pub(crate) mfa_serial: Option<String>,
    /// The role to assume; the profile's role_arn if left out
    #[arg(long, value_name = "ARN", help_heading = "Session")]
    pub(crate) role_arn: Option<String>,
    /// What the role's session is called in CloudTrail
    #[arg(long, value_name = "NAME", help_heading = "Session")]
    pub(crate) role_session_name: Option<String>,
    /// What the role's trust policy wants to hear
    #[arg(long, value_name = "ID", help_heading = "Session")]
    pub(crate) external_id: Option<String>,
    /// How long a session shall last; AWS allows 900 to 129600
    #[arg(long, value_name = "SECONDS", help_heading = "Session",
          value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) duration: Option<i32>,

    /// How old a code may become; what the bucket's policy says or S3's denials tell if left out
    #[arg(long, value_name = "SECONDS", help_heading = "Session",
          value_parser = clap::value_parser!(u64).range(60..=129_600))]
    pub(crate) mfa_max_age: Option<u64>,

    /// How to ask for a code
    #[arg(long, value_enum, default_value_t, help_heading = "Prompt")]
    pub(crate) prompt: Wanted,
    /// The pinentry program
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "PINENTRY_PROGRAM",
        help_heading = "Prompt"
    )]
    pub(crate) pinentry_program: Option<String>,
    /// A command that prints the code
    #[arg(long, value_name = "COMMAND", help_heading = "Prompt")]
    pub(crate) mfa_process: Option<String>,
    /// How long a request waits for a code; the dialog may stay up to 300
    #[arg(long, value_name = "SECONDS", default_value_t = 90, help_heading = "Prompt",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) prompt_timeout: u64,
    /// How long nobody is asked again after a refusal; then 5 times, then 30 times as long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Prompt",
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) prompt_cooldown: u64,
}

/// What is logged.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or a filter as RUST_LOG takes it
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", help_heading = "Log")]
    pub(crate) log_level: Option<String>,
}

/// Whose bucket it is, and who pays.
#[derive(Debug, Args)]
pub(crate) struct OwnerArgs {
    /// Pay for requests and transfer in a bucket whose owner does not
    #[arg(long, help_heading = "S3")]
    pub(crate) requester_pays: bool,
    /// The account that must own the bucket, or every request is refused
    #[arg(long, value_name = "ACCOUNT", help_heading = "S3")]
    pub(crate) expected_bucket_owner: Option<String>,
}

/// `credentials`.
#[derive(Debug, Args)]
pub(crate) struct CredentialsArgs {
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// BUCKET, BUCKET/PREFIX, or either with s3:// before it
    pub(crate) bucket: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyKind {
    /// The bucket's
    Bucket,
    /// A user's
    User,
    /// A role's trust policy
    Trust,
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Of one of the commands; of the program itself if left out
    pub(crate) command: Option<String>,
}

/// `policy`.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// BUCKET, or BUCKET/PREFIX for a part of it
    pub(crate) bucket: String,
    /// Print one of them, as JSON; all with how to put them if left out
    #[arg(long, value_enum)]
    pub(crate) kind: Option<PolicyKind>,
    /// How old a code may become
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..=129_600))]
    pub(crate) max_age: Option<u64>,
    /// The account's number, twelve digits
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// aws, aws-cn or aws-us-gov
    #[arg(long, default_value = "aws")]
    pub(crate) partition: String,
}

/// The options of a mount.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// BUCKET, BUCKET/PREFIX, or either with s3:// before it
    #[arg(required = true)]
    pub(crate) bucket: Option<String>,
    /// An empty directory to mount on
    #[arg(required = true)]
    pub(crate) mountpoint: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) access: AccessArgs,

    /// Mount first, ask at the first access
    #[arg(long, help_heading = "Prompt")]
    pub(crate) lazy: bool,

    /// Stay in the foreground
    #[arg(long, short = 'f', help_heading = "Mount")]
    pub(crate) foreground: bool,
    /// Mount read-only
    #[arg(long, help_heading = "Mount")]
    pub(crate) read_only: bool,
    /// Let other users in (needs user_allow_other in /etc/fuse.conf)
    #[arg(long, help_heading = "Mount", conflicts_with = "allow_root")]
    pub(crate) allow_other: bool,
    /// Let root in (needs user_allow_other in /etc/fuse.conf)
    #[arg(long, help_heading = "Mount")]
    pub(crate) allow_root: bool,
    /// The owner of all files, by name or number; you if left out
    #[arg(long, value_name = "USER", value_parser = user, help_heading = "Mount")]
    pub(crate) uid: Option<u32>,
    /// The group of all files, by name or number; yours if left out
    #[arg(long, value_name = "GROUP", value_parser = group, help_heading = "Mount")]
    pub(crate) gid: Option<u32>,
    /// The permissions of files
    #[arg(long, value_name = "OCTAL", default_value = "0644", value_parser = octal, help_heading = "Mount")]
    pub(crate) file_mode: u16,
    /// The permissions of directories
    #[arg(long, value_name = "OCTAL", default_value = "0755", value_parser = octal, help_heading = "Mount")]
    pub(crate) dir_mode: u16,
    /// Serve what is cached even while there is no session
    #[arg(long, help_heading = "Mount")]
    pub(crate) serve_cache_when_locked: bool,

    /// The most memory for pages: a number with KiB, MiB or GiB
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = bytes, help_heading = "Data")]
    pub(crate) memory_limit: u64,
    /// How long names and attributes are believed
    #[arg(long, value_name = "SECONDS", default_value_t = 1, help_heading = "Data",
          value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub(crate) metadata_ttl: u64,
    /// How much one request of read-ahead asks for, and how much one part of an upload has;
    /// parts have 5 MiB at least
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = bytes, help_heading = "Data")]
    pub(crate) part_size: u64,
    /// Show permissions and owners of other people's files in listings too: a request for each
    #[arg(long, help_heading = "Data")]
    pub(crate) posix_metadata: bool,
    /// Close files when they are on the local disk, and store them afterwards
    #[arg(long, help_heading = "Data")]
    pub(crate) write_back: bool,
    /// The most bytes of unsaved writes on the local disk; without it, what the disk holds
    #[arg(long, value_name = "SIZE", value_parser = bytes, help_heading = "Data")]
    pub(crate) spool_limit: Option<u64>,
    /// Receive no more than this in a second, on average
    #[arg(long, value_name = "SIZE", value_parser = rate, help_heading = "Data")]
    pub(crate) download_limit: Option<u64>,
    /// Send no more than this in a second, on average
    #[arg(long, value_name = "SIZE", value_parser = rate, help_heading = "Data")]
    pub(crate) upload_limit: Option<u64>,
    /// How many requests to S3 may run at once
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Data",
          value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) max_requests: u64,

    /// Encryption of what is written: AES256, aws:kms or aws:kms:dsse; the bucket's if left out
    #[arg(long, value_name = "KIND", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"], help_heading = "S3")]
    pub(crate) sse: Option<String>,
    /// The KMS key: id, ARN or alias
    #[arg(long, value_name = "KEY", help_heading = "S3")]
    pub(crate) sse_kms_key_id: Option<String>,
    /// The storage class of what is written, such as STANDARD_IA
    #[arg(long, value_name = "CLASS", help_heading = "S3")]
    pub(crate) storage_class: Option<String>,
    /// The canned ACL of what is written, such as bucket-owner-full-control
    #[arg(long, value_name = "ACL", help_heading = "S3")]
    pub(crate) acl: Option<String>,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    /// Options as in fstab: key=value,flag
    #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append, help_heading = "Mount")]
    pub(crate) fstab: Vec<String>,
}

/// The number that no user and no group has: chown(2) reads it as "leave it".
const NOBODYS: u32 = u32::MAX;

fn user(text: &str) -> Result<u32, String> {
    let by_name = || nix::unistd::User::from_name(text).ok().flatten();
    let number = match text.parse() {
        Ok(number) => Some(number).filter(|number| *number != NOBODYS),
        Err(_) => by_name().map(|user| user.uid.as_raw()),
    };
    number.ok_or_else(|| "there is no such user: `getent passwd` lists all".to_owned())
}

fn group(text: &str) -> Result<u32, String> {
    let by_name = || nix::unistd::Group::from_name(text).ok().flatten();
    let number = match text.parse() {
        Ok(number) => Some(number).filter(|number| *number != NOBODYS),
        Err(_) => by_name().map(|group| group.gid.as_raw()),
    };
    number.ok_or_else(|| "there is no such group: `getent group` lists all".to_owned())
}

fn octal(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "permissions are up to four octal digits, such as 0644".to_owned())
}

/// Bytes per second: a size, with or without `/s`.
fn rate(text: &str) -> Result<u64, String> {
    match bytes(text.trim().trim_end_matches("/s"))? {
        0 => Err("a limit of nothing lets nothing pass; leave it out for none".to_owned()),
        rate => Ok(rate),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err("a size is a number with KiB, MiB or GiB, such as 128MiB".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "a size is a number with KiB, MiB or GiB, such as 128MiB".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, String> {
        let args = std::iter::once("s3mfa-mount").chain(args.iter().copied());
        let args = crate::fstab::expand(args.map(OsString::from), &Cli::command())?;
        Cli::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn fstab_options_are_options() {
        let cli = parse(&[
            "docs/reports",
            "/mnt/docs",
            "-o",
            "rw,noauto,x-systemd.automount,allow_other,profile=work,file_mode=0600,ro",
            "-o",
            r#"auto,user=alice,mfa_process="code 'a,b' "c d"",role_session_name=a\,b,external_id=5"x"#,
        ])
        .unwrap();
        assert!(cli.mount.allow_other && cli.mount.read_only);
        assert_eq!(cli.mount.access.profile.as_deref(), Some("work"));
        assert_eq!(cli.mount.file_mode, 0o600);
        assert_eq!(
            cli.mount.access.mfa_process.as_deref(),
            Some(r#"code 'a,b' "c d""#)
        );
        assert_eq!(cli.mount.access.external_id.as_deref(), Some("5\"x"));
        assert_eq!(cli.mount.access.role_session_name.as_deref(), Some("a,b"));
        assert!(parse(&["b", "/m", "-ofoo=bar"]).is_err());
        assert_eq!(cli.mount.fstab, ["user=alice"]);
    }

    #[test]
    fn owners_have_names_and_numbers() {
        let cli = parse(&["b", "/m", "-o", "uid=root,gid=12345"]).unwrap();
        assert_eq!((cli.mount.uid, cli.mount.gid), (Some(0), Some(12_345)));
        for wrong in [
            "uid=no-such-user",
            "gid=no such group",
            "uid=4294967295",
            "gid=-1",
        ] {
            let refusal = parse(&["b", "/m", "-o", wrong]).unwrap_err();
            assert!(refusal.contains("getent"), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn a_command_needs_no_bucket_and_a_mount_needs_both() {
        assert!(parse(&["status"]).unwrap().command.is_some());
        assert!(parse(&["bucket"]).is_err());
        assert!(parse(&["s3://status", "/mnt"]).unwrap().command.is_none());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("128MiB"), Ok(128 << 20));
        assert_eq!(bytes("1 g"), Ok(1 << 30));
        assert_eq!(bytes("4096"), Ok(4096));
        assert!(bytes("lots").is_err() && bytes("1TiB").is_err());
    }
}
