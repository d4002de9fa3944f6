//! IAM: which MFA devices a user has.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::caller::Caller;
use crate::clock::iso8601;
use crate::cloud::Cloud;
use crate::query::Form;
use crate::query::constraints::{Examination, Text, invalid};
use crate::refusal::{Refusal, element};
use crate::sessions::Holder;

/// Names of users: IAM API reference, `ListMFADevices`.
const USER_NAME: Text = Text {
    parameter: "UserName",
    member: "userName",
    length: 1..=128,
    // IAM has words of its own for what does not match.
    pattern: "",
    allows: |_| true,
    is_some: false,
};

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+=,.@_-".contains(c)
}

/// The most entries of a page, and how many there are where nothing is said.
const LARGEST_PAGE: i32 = 1000;
const USUAL_PAGE: i32 = 100;

/// Performs an action, and returns the XML of its result. There is none if there is no such action.
pub(crate) fn perform(
    cloud: &Cloud,
    action: &str,
    caller: &Caller,
    form: &Form,
) -> Result<Option<String>, Refusal> {
    match action {
        "ListMFADevices" => {
            refuse_without_mfa(caller.signed()?)?;
            list_mfa_devices(cloud, caller, form).map(Some)
        }
        _ => Ok(None),
    }
}

/// AWS STS API reference, `GetSessionToken`: with such a session, IAM cannot be called unless it has
/// MFA. IAM does not say why.
fn refuse_without_mfa(caller: &Caller) -> Result<(), Refusal> {
    match caller {
        Caller::Session(session)
            if matches!(session.holder, Holder::User(_)) && session.mfa_at.is_none() =>
        {
            let message = "The security token included in the request is invalid";
            Err(Refusal::new(403, "InvalidClientTokenId", message))
        }
        _ => Ok(()),
    }
}

fn list_mfa_devices(cloud: &Cloud, caller: &Caller, form: &Form) -> Result<String, Refusal> {
    let mut examination = Examination::of(form);
    let named = examination.optional(&USER_NAME);
    let most = examination.number("MaxItems", "maxItems", 1..=LARGEST_PAGE)?;
    examination.end()?;
    if named.is_some_and(|name| !name.chars().all(is_of_name)) {
        return Err(invalid(
            "The specified value for userName is invalid. It must contain only alphanumeric characters and/or the \
             following: +=,.@_-",
        ));
    }
    let name = match named {
        Some(name) => {
            let resource = format!("arn:aws:iam::{}:user/{name}", cloud.account);
            let called = format!("user {name}");
            cloud.authorize_iam(caller, "iam:ListMFADevices", &resource, &called)?;
            name
        }
        // Seen in AWS: without a name the permission is asked for everything, although only the
        // caller's own devices are answered (issues aws-cli#6947 and lonelyplanet/aws-mfa#19).
        None => {
            let Some(user) = caller.user() else {
                return Err(invalid(
                    "Must specify userName when calling with non-User credentials",
                ));
            };
            cloud.authorize_iam(caller, "iam:ListMFADevices", "*", "*")?;
            user.name()
        }
    };
    if cloud.users.by_name(name).is_none() {
        let message = format!("The user with name {name} cannot be found.");
        return Err(Refusal::new(404, "NoSuchEntity", message));
    }
    let first = match form.get("Marker") {
        None => 0,
        Some(marker) => place_of(marker).ok_or_else(|| invalid("Invalid Marker."))?,
    };
    let devices = cloud.devices.list(name);
    let most = usize::try_from(most.unwrap_or(USUAL_PAGE)).unwrap_or(usize::MAX);
    let rest = devices.get(first..).unwrap_or_default();
    let mut xml = String::from("<MFADevices>");
    for device in rest.iter().take(most) {
        xml.push_str("<member>");
        element(&mut xml, "UserName", &device.owner);
        element(&mut xml, "SerialNumber", &device.serial);
        element(&mut xml, "EnableDate", &iso8601(device.since));
        xml.push_str("</member>");
    }
    xml.push_str("</MFADevices>");
    element(
        &mut xml,
        "IsTruncated",
        if rest.len() > most { "true" } else { "false" },
    );
    if rest.len() > most {
        element(
            &mut xml,
            "Marker",
            &URL_SAFE.encode((first + most).to_string()),
        );
    }
    Ok(xml)
}

/// The place that a marker of ours stands for.
fn place_of(marker: &str) -> Option<usize> {
    let place = URL_SAFE.decode(marker).ok()?;
    String::from_utf8(place).ok()?.parse().ok()
}
