//! Where tokens get the keys of roles: GetRoleCredentials.

use http::request::Parts;
use serde_json::{Value, json};

use crate::attributes::text;
use crate::clock::unix_seconds;
use crate::cloud::Cloud;
use crate::refusal::Refusal;
use crate::roles::RoleSession;
use crate::sessions::Holder;

/// Who signed in.
const PERSON: &str = "person";

pub(super) fn get_role_credentials(cloud: &Cloud, parts: &Parts) -> Result<Value, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let found = pairs.find(|(n, value)| n == name && !value.is_empty());
        found.map(|(_, value)| value.into_owned()).ok_or_else(|| {
            let message = format!("Missing required parameter: {name}");
            Refusal::new(400, "InvalidRequestException", message)
        })
    };
    let (role, account) = (parameter("role_name")?, parameter("account_id")?);
    let token = text(&parts.headers, "x-amz-sso_bearer_token");
    if !token.is_some_and(|token| cloud.sso.is_alive(&token)) {
        let message = "Session token not found or invalid";
        return Err(Refusal::new(401, "UnauthorizedException", message));
    }
    let role = cloud.sso.role(&role).filter(|_| account == cloud.account);
    let role = role.ok_or_else(|| Refusal::new(403, "ForbiddenException", "No access"))?;
    let length = role.max_session();
    let holder = Holder::Role(RoleSession::new(role, &cloud.account, PERSON));
    // Who signs in with a browser brings no MFA that AWS knows of.
    let session = cloud.sessions.issue(holder, length, None, &cloud.random);
    Ok(json!({"roleCredentials": {
        "accessKeyId": session.access_key_id,
        "secretAccessKey": session.secret_access_key,
        "sessionToken": session.token,
        "expiration": unix_seconds(session.expiration) * 1000,
    }}))
}
