//! The command `s3mfa-mount`. Everything is in the library: see its crate documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3mfa_mount::main()
}
