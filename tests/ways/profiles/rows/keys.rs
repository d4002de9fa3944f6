//! Which of several keys, and whose roles.

use super::{KEYS, Ours, PRINTS, Row, default, keyed, row};

/// Which of several keys.
pub(super) fn order() -> Vec<Row> {
    let own = "aws_access_key_id = AKIACONF\naws_secret_access_key = x\n";
    let printing = format!("credential_process = echo '{PRINTS}'\n");
    let login = "login_session = arn:aws:iam::123456789012:user/alice\n";
    let sso = "sso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = 123456789012\nsso_role_name = r\n";
    let env = |row: Row| {
        row.variable("AWS_ACCESS_KEY_ID", "AKIAENV")
            .variable("AWS_SECRET_ACCESS_KEY", "s")
    };
    vec![
        row("keys in the configuration file").config(default(own)),
        row("keys in both files").config(default(own)).credentials(default(KEYS)),
        row("a token in the configuration file is not that of the other keys")
            .config(default("aws_session_token = t\nregion = eu-west-1\n")).credentials(default(KEYS)),
        row("a region in the credentials file").config("[default]\nregion = eu-west-3\n").credentials(default(&format!("{KEYS}region = eu-west-1\n"))),
        row("a process before keys in the configuration file").config(default(&format!("{own}{printing}"))),
        row("keys in the credentials file before a process").config(default(&printing)).credentials(default(KEYS)),
        row("a process in the credentials file").config(default(own)).credentials(default(&printing)),
        row("aws login before keys in the configuration file").config(default(&format!("{own}{login}"))),
        row("keys in the credentials file before aws login").config(default(login)).credentials(default(KEYS)),
        row("aws login before a process").config(default(&format!("{printing}{login}"))),
        row("SSO before everything that is written").config(default(&format!("{sso}{own}{printing}"))).credentials(default(KEYS)),
        row("a role before SSO").config(format!("{}[profile k]\n{KEYS}", default(&format!("{sso}role_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = k\n")))),
        row("an sso-session without a role is for something else").config(format!("[sso-session s]\nsso_region = eu-west-1\n{}", default("sso_session = s\n"))).credentials(default(KEYS)),
        env(row("the environment before a profile that is none")).config(default(&printing)).credentials(default(KEYS)),
        env(row("the environment before AWS_PROFILE")).credentials(keyed("[x]")).variable("AWS_PROFILE", "x"),
        env(row("--profile before the environment")).credentials(keyed("[x]")).profile("x"),
        env(row("AWS_PROFILE of nothing")).variable("AWS_PROFILE", "gone").refused_too("gone"),
        row("AWS_PROFILE").credentials(keyed("[x]")).variable("AWS_PROFILE", "x"),
        row("AWS_DEFAULT_PROFILE").credentials(keyed("[x]")).variable("AWS_DEFAULT_PROFILE", "x"),
        row("both variables for a profile").credentials("[x]\naws_access_key_id = AKIAX\naws_secret_access_key = s\n[y]\naws_access_key_id = AKIAY\naws_secret_access_key = s\n")
            .variable("AWS_PROFILE", "x").variable("AWS_DEFAULT_PROFILE", "y")
            .differs([("id", "AKIAX")], "the AWS CLI v2 and the other SDKs take AWS_PROFILE first, botocore the other"),
        row("AWS_DEFAULT_REGION").credentials(default(KEYS)).config("[default]\nregion = x\n").variable("AWS_DEFAULT_REGION", "eu-west-1"),
        row("AWS_REGION").credentials(default(KEYS)).variable("AWS_REGION", "eu-west-1")
            .differs([("region", "eu-west-1")], "the AWS CLI v2 and the other SDKs know AWS_REGION, botocore does not"),
        row("a web identity of the surroundings").credentials(default(KEYS))
            .variable("AWS_WEB_IDENTITY_TOKEN_FILE", "{home}/token").variable("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader"),
        row("a web identity of the surroundings, and --profile").credentials(keyed("[x]")).profile("x")
            .variable("AWS_WEB_IDENTITY_TOKEN_FILE", "{home}/token").variable("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader"),
        row("a web identity in the profile").config(default("web_identity_token_file = /token\nrole_arn = arn:aws:iam::123456789012:role/reader\n")).credentials(default(KEYS)),
        row("half a pair in the profile").credentials("[default]\naws_access_key_id = AKIAGOOD\n").refused_too("and no aws_secret_access_key"),
        row("the other half in the profile").credentials("[default]\naws_secret_access_key = s\n").refused_too("no AWS keys found"),
        row("half a pair in either file").credentials("[default]\naws_access_key_id = AKIAGOOD\n").config("[default]\naws_secret_access_key = s\n")
            .differs([("id", "AKIAGOOD"), ("secret", "s")], "botocore refuses it; the SDKs put both files together, and nothing else can be meant"),
        row("nothing").refused_too("no AWS keys found"),
        row("a source without a role").config("[profile a]\nsource_profile = b\n").credentials(keyed("[b]")).profile("a")
            .differs([("id", "AKIAGOOD")], "as aws-vault has it; botocore has no keys then"),
    ]
}

/// Roles and their sources.
pub(super) fn roles() -> Vec<Row> {
    let role = "role_arn = arn:aws:iam::123456789012:role/reader\n";
    let own = "aws_access_key_id = AKIACONF\naws_secret_access_key = x\n";
    let with = |name: &'static str, profile: &str, source: &str| {
        row(name)
            .config(format!("[profile r]\n{role}{profile}{source}"))
            .profile("r")
    };
    vec![
        with("a role", "source_profile = k\n", "[profile k]\n").credentials(keyed("[k]")),
        with("everything about a role", "source_profile = k\nmfa_serial = arn:aws:iam::123456789012:mfa/alice\nrole_session_name = alice\nexternal_id = x-1\nduration_seconds = 1800\n", "")
            .credentials(keyed("[k]")),
        with("a source of two words", "source_profile = my work\n", "[profile 'my work']\nregion = x\n").credentials(keyed("[my work]")),
        with("a source with a hash", "source_profile = a #1\n", "").credentials(keyed("[a #1]")),
        with("a source with umlauts", "source_profile = Müller\n", "").credentials(keyed("[Müller]")),
        with("a source in quotes", "source_profile = \"my work\"\n", "").credentials(keyed("[my work]"))
            .differs([("id", "AKIAGOOD")], "botocore looks for a profile whose name has the quotes in it"),
        with("a role of a role", "source_profile = q\n", "[profile q]\nrole_arn = arn:aws:iam::123456789012:role/first\nsource_profile = k\n")
            .credentials(keyed("[k]")),
        with("a source that has keys and a role", "source_profile = q\n", "[profile q]\nrole_arn = arn:aws:iam::123456789012:role/first\nsource_profile = k\n")
            .credentials(format!("{}[k]\n{own}", keyed("[q]"))),
        with("a source whose process goes before its keys", "source_profile = q\n", &format!("[profile q]\n{own}credential_process = echo '{PRINTS}'\n")),
        with("a source of SSO", "source_profile = q\n", "[sso-session 'my sso']\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\n[profile q]\nsso_session = my sso\nsso_account_id = 1\nsso_role_name = r\n"),
        with("keys beside the role", "source_profile = r\n", "").credentials(keyed("[r]")),
        with("keys beside the role, and a process", "source_profile = r\n", &format!("{own}credential_process = echo '{PRINTS}'\n")),
        with("keys beside the role, unnamed", own, "")
            .differs([("id", "AKIACONF")], "botocore wants source_profile = r; nothing else can be meant"),
        with("keys of the environment", "credential_source = Environment\n", "").variable("AWS_ACCESS_KEY_ID", "AKIAENV").variable("AWS_SECRET_ACCESS_KEY", "s"),
        with("no keys in the environment", "credential_source = Environment\n", "").refused_too("AWS_ACCESS_KEY_ID"),
        with("no source", "", "").refused_too("line 2 of "),
        with("both kinds of a source", "source_profile = k\ncredential_source = Environment\n", "").credentials(keyed("[k]")).refused_too("line 3 of "),
        with("a source that is not there", "source_profile = gone\n", "").refused_too("line 3 of "),
        with("a circle", "source_profile = q\n", "[profile q]\nrole_arn = arn:aws:iam::123456789012:role/first\nsource_profile = r\n").refused_too("circle"),
        with("an odd source", "credential_source = Cloud\n", "").refused_too("line 3 of "),
        with("a duration that is no number", "source_profile = k\nduration_seconds = 1h\n", "").credentials(keyed("[k]"))
            .is(Ours::Refused("line 4 of ", "botocore overlooks it, and the session is of another length than was said")),
        row("a profile of SSO").config("[sso-session Büro (1)]\nsso_start_url = https://x.awsapps.com/start#/\nsso_region = eu-west-1\n[sso-session 'Büro #1']\nsso_start_url = https://y.awsapps.com/start\nsso_region = eu-west-2\n[profile s]\nsso_session = Büro #1\nsso_account_id = 1\nsso_role_name = r\n").profile("s"),
        row("a profile of SSO whose session is not there").config("[profile s]\nsso_session = gone\nsso_account_id = 1\nsso_role_name = r\n").profile("s").refused_too("line 2 of "),
        row("a profile of SSO that contradicts its session").config("[sso-session s]\nsso_start_url = https://x\nsso_region = a\n[profile s]\nsso_session = s\nsso_region = b\nsso_account_id = 1\nsso_role_name = r\n").profile("s").refused_too("line 6 of "),
        row("a profile of SSO that lacks the role").config("[profile s]\nsso_start_url = https://x\nsso_region = a\nsso_account_id = 1\n").profile("s").refused_too("sso_role_name is missing"),
        row("a profile of SSO in the old style").config("[profile s]\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = 1\nsso_role_name = r\n").profile("s"),
        row("aws login").config("[profile l]\nlogin_session = arn:aws:iam::123456789012:user/alice\n").profile("l"),
    ]
}
