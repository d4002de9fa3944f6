//! Which MFA device a code is to come from: the one that was named, the one that was used before,
//! the one that IAM knows of, or the one that the person says.

use std::sync::Arc;

use aws_credential_types::Credentials;
use secrecy::ExposeSecret;

use super::AuthError;
use super::conversation::Conversation;
use super::iam;
use super::identity::serial::{Serial, is_passkey};
use super::memory::Memory;
use super::sts::{Caller, Sts};
use crate::aws::Aws;
use crate::words::tame;

/// How often somebody is asked which device it is.
const TRIES: u32 = 3;

/// What is known of a user's devices.
#[derive(Debug, Default)]
struct Devices {
    /// Those that give codes.
    with_codes: Vec<Serial>,
    /// Those that do not: passkeys and security keys.
    passkeys: Vec<String>,
    /// Whether IAM did not tell.
    is_unknown: bool,
}

/// Finds the device of a user whose long-term keys these are.
pub(crate) async fn find(
    aws: &Arc<Aws>,
    sts: &Sts,
    keys: &Credentials,
    memory: &Memory,
    conversation: &Conversation<'_>,
) -> Result<Serial, AuthError> {
    if let Some(serial) = memory.device(keys.access_key_id()) {
        return Ok(serial);
    }
    let caller = sts.caller(keys).await.ok();
    let user = caller.as_ref().and_then(Caller::user);
    let devices = list(aws, keys, user).await?;
    let serial = match devices.with_codes.as_slice() {
        [only] => only.clone(),
        [] if devices.is_unknown => {
            let guess = caller.as_ref().and_then(guess);
            ask_for_it(conversation, guess).await?
        }
        [] => return Err(AuthError::NoDevice(without_any(&devices))),
        several => choose(conversation, several).await?,
    };
    tracing::info!("codes come from the MFA device {}", tame(serial.as_str()));
    memory.remember_device(keys.access_key_id(), &serial);
    Ok(serial)
}

async fn list(
    aws: &Arc<Aws>,
    keys: &Credentials,
    user: Option<&str>,
) -> Result<Devices, AuthError> {
    let serials = match iam::mfa_devices(aws, keys, user).await {
        Ok(serials) => serials,
        Err(error) if error.is_unsupported => {
            return Err(AuthError::NoDevice(format!(
                "this store knows no MFA devices, so nobody is asked for a code ({error}). If yours \
                 gives one all the same, name it: --mfa-serial"
            )));
        }
        Err(error) => {
            tracing::info!("{error}");
            return Ok(Devices {
                is_unknown: true,
                ..Devices::default()
            });
        }
    };
    let mut devices = Devices::default();
    for serial in serials {
        if is_passkey(&serial) {
            devices.passkeys.push(serial);
        } else if let Ok(serial) = Serial::parse(&serial) {
            devices.with_codes.push(serial);
        }
    }
    Ok(devices)
}

fn without_any(devices: &Devices) -> String {
    let how = "Add an authenticator app (IAM console, Security credentials, Assign MFA device)";
    match devices.passkeys.as_slice() {
        [] => format!("this user has no MFA device, so there is no code to ask for. {how}"),
        [passkey, ..] => format!(
            "this user's only MFA device is a passkey or security key ({}), which gives no code for \
             AWS's API. {how} beside it, or use a profile of `aws login`, which takes the passkey",
            tame(passkey)
        ),
    }
}

/// The name that the IAM console suggests for a device is the user's.
fn guess(caller: &Caller) -> Option<Serial> {
    let name = caller.user()?;
    let partition = crate::aws::partition(&caller.arn)?;
    Serial::parse(&format!(
        "arn:{partition}:iam::{}:mfa/{name}",
        caller.account
    ))
    .ok()
}

async fn ask_for_it(
    conversation: &Conversation<'_>,
    guess: Option<Serial>,
) -> Result<Serial, AuthError> {
    let mut wish = "Which MFA device gives the codes? Type its ARN \
                    (arn:aws:iam::ACCOUNT:mfa/NAME), or the number on a hardware device."
        .to_owned();
    if let Some(guess) = &guess {
        wish.push_str(&format!(
            "\nWith nothing typed it is {}",
            tame(guess.as_str())
        ));
    }
    let mut complaint = None;
    for _ in 0..TRIES {
        let typed = conversation.words(&wish, "Device:", complaint).await?;
        let typed = typed.expose_secret().trim();
        if let (true, Some(guess)) = (typed.is_empty(), &guess) {
            return Ok(guess.clone());
        }
        match Serial::parse(typed) {
            Ok(serial) => return Ok(serial),
            Err(error) => complaint = Some(error.to_string()),
        }
    }
    Err(AuthError::UnknownDevice(format!(
        "no MFA device was named. Give --mfa-serial, or put mfa_serial = \
         arn:aws:iam::ACCOUNT:mfa/NAME into the profile{}",
        complaint.map_or_else(String::new, |c| format!(". {c}"))
    )))
}

async fn choose(conversation: &Conversation<'_>, devices: &[Serial]) -> Result<Serial, AuthError> {
    let mut wish = "You have several MFA devices. Type the number of the one to use:".to_owned();
    for (number, device) in (1..).zip(devices) {
        wish.push_str(&format!("\n{number}  {}", tame(device.as_str())));
    }
    let mut complaint = None;
    for _ in 0..TRIES {
        let typed = conversation.words(&wish, "Number:", complaint).await?;
        let chosen = typed.expose_secret().trim().parse::<usize>().ok();
        let chosen = chosen.and_then(|number| devices.get(number.checked_sub(1)?));
        match chosen {
            Some(device) => return Ok(device.clone()),
            None => complaint = Some(format!("Type a number from 1 to {}.", devices.len())),
        }
    }
    Err(AuthError::UnknownDevice(
        "no MFA device was chosen. Give --mfa-serial, or put mfa_serial into the profile"
            .to_owned(),
    ))
}
