//! `completions` and `man`: what is generated from the command line's definition.

use std::io::Write;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::mount::MountError;

/// Prints a shell's completions.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), MountError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "s3mfa-mount", &mut text);
    print(&text)
}

/// Prints a manual page: of the program, or of one of its commands.
pub(crate) fn man(args: &ManArgs) -> Result<(), MountError> {
    let mut program = Cli::command();
    // So that commands know their whole names.
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned();
            let command = found.ok_or_else(|| {
                MountError::Usage(format!(
                    "{:?} is no command; `s3mfa-mount --help` lists them",
                    crate::words::tame(name)
                ))
            })?;
            command.name(format!("s3mfa-mount-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| MountError::Other(error.to_string()))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<(), MountError> {
    match std::io::stdout().write_all(text) {
        // Whoever read it has had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| MountError::Other(error.to_string())),
    }
}
