use super::ini::Document;
use super::sheet::Sheet;
use super::*;

/// The files as given, read as the program reads them.
fn of(config: &str, credentials: &str) -> Profiles {
    let sheet = |path, text: &str| Sheet::new(path, Document::parse(text.as_bytes()));
    Profiles::of(
        sheet("~/.aws/config", config),
        sheet("~/.aws/credentials", credentials),
    )
}

fn profiles(config: &str) -> Profiles {
    of(config, "")
}

fn identity(config: &str, profile: &str) -> Result<Identity, String> {
    with(
        config,
        Asked {
            profile: Some(profile.to_owned()),
            ..Asked::default()
        },
    )
}

fn with(config: &str, asked: Asked) -> Result<Identity, String> {
    Identity::new(&asked, &profiles(config)).map_err(|error| error.0)
}

const ALICE: &str = "[profile alice]\naws_access_key_id = AKIAALICE\naws_secret_access_key = s\n\
                     mfa_serial = arn:aws:iam::123456789012:mfa/alice\n";

fn key_of(identity: &Identity) -> &str {
    match &identity.origin {
        Origin::Keys(keys) => keys.access_key_id(),
        other => panic!("no keys: {other:?}"),
    }
}

#[test]
fn a_chain_of_roles_begins_at_its_far_end() {
    let config = format!(
        "{ALICE}[profile hop]\nrole_arn = arn:aws:iam::123456789012:role/hop\n\
         source_profile = alice\n[profile far]\nrole_arn = arn:aws:iam::999988887777:role/far\n\
         source_profile = hop\nexternal_id = x-1\nrole_session_name = alice\nduration_seconds = 900\n"
    );
    let far = identity(&config, "far").unwrap();
    assert_eq!(key_of(&far), "AKIAALICE");
    let arns: Vec<_> = far.roles.iter().map(|role| role.arn.as_str()).collect();
    assert_eq!(
        arns,
        [
            "arn:aws:iam::123456789012:role/hop",
            "arn:aws:iam::999988887777:role/far"
        ]
    );
    assert_eq!(far.roles[1].external_id.as_deref(), Some("x-1"));
    assert_eq!(far.roles[1].session_name.as_deref(), Some("alice"));
    assert_eq!(far.roles[1].duration, Some(900));
    // The device is that of the keys, as with aws-vault.
    assert_eq!(
        far.serial.unwrap().as_str(),
        "arn:aws:iam::123456789012:mfa/alice"
    );
}

#[test]
fn a_role_may_be_assumed_with_the_keys_beside_it() {
    let config = "[profile r]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = r\n\
                  aws_access_key_id = AKIASELF\naws_secret_access_key = s\n";
    let found = identity(config, "r").unwrap();
    assert_eq!((key_of(&found), found.roles.len()), ("AKIASELF", 1));
}

#[test]
fn a_circle_is_named() {
    let config = "[profile a]\nrole_arn = arn:aws:iam::123456789012:role/a\nsource_profile = b\n\
                  [profile b]\nrole_arn = arn:aws:iam::123456789012:role/b\nsource_profile = a\n";
    let error = identity(config, "a").unwrap_err();
    assert!(error.contains("circle: a -> b -> a"), "{error}");
}

#[test]
fn sources_that_contradict_or_lack_each_other_are_refused_with_what_to_do() {
    let role = "role_arn = arn:aws:iam::123456789012:role/r\n";
    let both = format!(
        "{ALICE}[profile r]\n{role}source_profile = alice\ncredential_source = EcsContainer\n"
    );
    assert!(
        identity(&both, "r")
            .unwrap_err()
            .contains("remove the other")
    );
    let none = format!("[profile r]\n{role}");
    assert!(
        identity(&none, "r")
            .unwrap_err()
            .contains("add source_profile")
    );
    let odd = format!("[profile r]\n{role}credential_source = Cloud\n");
    assert!(identity(&odd, "r").unwrap_err().contains("is none of"));
    let gone = format!("[profile r]\n{role}source_profile = nobody\n");
    assert!(identity(&gone, "r").unwrap_err().contains("does not exist"));
    let metadata = format!("[profile r]\n{role}credential_source = Ec2InstanceMetadata\n");
    let found = identity(&metadata, "r").unwrap();
    assert!(matches!(found.origin, Origin::Instance));
}

#[test]
fn sso_is_read_in_both_styles() {
    let config = "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\n\
                  sso_region = eu-west-1\nsso_registration_scopes = sso:account:access, x\n\
                  [profile new]\nsso_session = corp\nsso_account_id = 123456789012\n\
                  sso_role_name = Reader\n\
                  [profile old]\nsso_start_url = https://old.awsapps.com/start\n\
                  sso_region = us-east-1\nsso_account_id = 123456789012\nsso_role_name = Admin\n\
                  [profile half]\nsso_session = corp\n\
                  [profile lost]\nsso_session = nowhere\n";
    let sso = |name: &str| match identity(config, name).unwrap().origin {
        Origin::Sso(sso) => sso,
        other => panic!("{other:?}"),
    };
    let new = sso("new");
    assert_eq!(new.session.as_deref(), Some("corp"));
    assert_eq!(new.region, "eu-west-1");
    assert_eq!(new.scopes, ["sso:account:access", "x"]);
    assert_eq!(sso("old").start_url, "https://old.awsapps.com/start");
    let half = identity(config, "half").unwrap_err();
    assert!(half.contains("sso_account_id is missing"), "{half}");
    let lost = identity(config, "lost").unwrap_err();
    assert!(lost.contains("[sso-session nowhere]"), "{lost}");
}

#[test]
fn a_credential_process_of_our_own_is_followed_rather_than_run() {
    let config = format!(
        "{ALICE}[profile cli]\ncredential_process = /usr/bin/s3mfa-mount credentials --profile \
         alice\n[profile self]\ncredential_process = s3mfa-mount credentials --profile=self\n\
         [profile other]\ncredential_process = pass aws\n"
    );
    let cli = identity(&config, "cli").unwrap();
    assert_eq!(key_of(&cli), "AKIAALICE");
    assert!(cli.serial.is_some());
    let own = identity(&config, "self").unwrap_err();
    assert!(own.contains("this very program"), "{own}");
    let other = identity(&config, "other").unwrap();
    assert!(matches!(other.origin, Origin::Process(command) if command == "pass aws"));
}

#[test]
fn keys_of_the_environment_go_before_the_usual_profile_but_not_before_a_named_one() {
    let keys = Keys::new("AKIAENV", "s", None, None, "environment");
    let asked = |explicit: bool| Asked {
        profile: explicit.then(|| "alice".to_owned()),
        usual_profile: Some("alice".to_owned()),
        keys: Some(keys.clone()),
        ..Asked::default()
    };
    assert_eq!(key_of(&with(ALICE, asked(false)).unwrap()), "AKIAENV");
    assert_eq!(key_of(&with(ALICE, asked(true)).unwrap()), "AKIAALICE");
}

#[test]
fn a_way_that_cannot_be_gone_is_refused_at_once() {
    let config = format!(
        "{ALICE}[profile temp]\naws_access_key_id = ASIA\naws_secret_access_key = s\n\
         aws_session_token = t\n"
    );
    let way = |profile: &str, way| {
        let asked = Asked {
            profile: Some(profile.to_owned()),
            way,
            ..Asked::default()
        };
        with(&config, asked).map(|_| ()).unwrap_err()
    };
    assert!(way("temp", Way::SessionToken).contains("--credentials plain"));
    assert!(way("alice", Way::Role).contains("--role-arn"));
    assert!(way("alice", Way::Sso).contains("aws configure sso"));
}

#[test]
fn the_command_line_goes_before_the_profile() {
    let asked = Asked {
        profile: Some("alice".to_owned()),
        serial: Some("auto".to_owned()),
        role_arn: Some("arn:aws-cn:iam::123456789012:role/x".to_owned()),
        duration: Some(7200),
        ..Asked::default()
    };
    let found = with(ALICE, asked).unwrap();
    assert_eq!(found.serial, None, "auto is to find out");
    assert_eq!(found.roles[0].duration, Some(7200));
    assert_eq!(found.partition(), Some("aws-cn"));
}

#[test]
fn a_role_that_is_none_is_refused() {
    let asked = |arn: &str| Asked {
        profile: Some("alice".to_owned()),
        role_arn: Some(arn.to_owned()),
        ..Asked::default()
    };
    let user = with(ALICE, asked("arn:aws:iam::123456789012:user/alice")).unwrap_err();
    assert!(user.contains("is no role"), "{user}");
}
