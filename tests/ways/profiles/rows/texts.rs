//! How the files are written, and where they are.

use super::{KEYS, ONE_BAD_LINE, Ours, Row, SDKS, default, keyed, row};

/// How lines are written.
pub(super) fn lines() -> Vec<Row> {
    let indented = "[default]\n  aws_access_key_id = AKIAGOOD\n  aws_secret_access_key = abc\n";
    vec![
        row("as aws configure writes it").credentials(default(KEYS)).config("[default]\nregion = eu-west-1\n"),
        row("CRLF").credentials(default(KEYS).replace('\n', "\r\n")).config("[default]\r\nregion = eu-west-1\r\n"),
        row("lines of an old Mac").credentials(default(KEYS).replace('\n', "\r")),
        row("no newline at the end").credentials(default(KEYS).trim_end()).config("[default]\nregion = eu-west-1"),
        row("indented keys").credentials(indented).config("[default]\n\tregion = eu-west-1\n\toutput = json\n"),
        row("indented keys and sections").credentials(format!(" [default]\n{}", indented.trim_start_matches("[default]\n"))),
        row("an indented section is part of the value above it")
            .credentials("[default]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = abc\n  [other]\naws_session_token = t\n"),
        row("a deeper key is part of the value above it")
            .credentials("[default]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = abc\n  aws_session_token = t\n"),
        row("indented comments").credentials(
            "[default]\naws_access_key_id = AKIAGOOD\n  # mine\naws_secret_access_key = abc\n  ; old: xyz\n\t# older\n"),
        row("comments between keys").credentials(
            "# first\n[default] # mine\n; old\n# older\naws_access_key_id = AKIAGOOD\n#aws_secret_access_key = x\naws_secret_access_key = abc\n"),
        row("key: value").credentials("[default]\naws_access_key_id: AKIAGOOD\naws_secret_access_key:abc=:\n")
            .config("[default]\nregion : eu-west-1\nrole: arn:aws:x=y\n"),
        row("key: value in a profile of somebody else").credentials(default(KEYS)).config("[profile other]\nregion: x\n[default]\nregion = eu-west-1\n"),
        row("tabs and no blanks").credentials("[default]\naws_access_key_id=\tAKIAGOOD\t\naws_secret_access_key\t=abc\n"),
        row("blanks of a web page").credentials("[default]\naws_access_key_id\u{a0}=\u{a0}AKIAGOOD\u{a0}\naws_secret_access_key = abc\u{a0}\n"),
        row("upper-case keys").credentials("[default]\nAWS_ACCESS_KEY_ID = AKIAGOOD\nAWS_Secret_Access_Key = abc\n"),
        row("empty lines everywhere").credentials("\n\n[default]\n\naws_access_key_id = AKIAGOOD\n\n\naws_secret_access_key = abc\n\n"),
        row("an equals sign and a hash in the secret").credentials("[default]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = a#b;c==:d\n"),
        row("a hash behind a blank in the secret").credentials("[default]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = pass #1\n"),
        row("comments behind values")
            .credentials("[default]\naws_access_key_id = AKIAGOOD ; inline\naws_secret_access_key = abc # inline\n")
            .config("[default]\nregion = eu-west-1 # here\n")
            .differs([("id", "AKIAGOOD"), ("secret", "abc"), ("region", "eu-west-1")], SDKS),
        row("values in quotes")
            .credentials("[default]\naws_access_key_id = \"AKIAGOOD\"\naws_secret_access_key = 'abc'\n")
            .config("[default]\nregion = \"eu-west-1\"\n")
            .differs([("id", "AKIAGOOD"), ("secret", "abc"), ("region", "eu-west-1")], SDKS),
        row("a session token").credentials(default(&format!("{KEYS}aws_session_token = t\n"))),
        row("an empty session token").credentials(default(&format!("{KEYS}aws_session_token =\n"))),
        row("the old name of the token goes first").credentials(default(&format!("{KEYS}aws_session_token = t\naws_security_token = u\n"))),
        row("an empty token of the old name")
            .credentials(default(&format!("{KEYS}aws_session_token = t\naws_security_token =\n")))
            .differs([("token", "t")], "an empty key says nothing; botocore takes it for the token"),
        row("empty keys")
            .credentials("[default]\naws_access_key_id =\naws_secret_access_key =\n")
            .is(Ours::Refused("no AWS keys found", "botocore sends requests with an empty key, and AWS refuses them")),
        row("a nested section").credentials(default(KEYS)).config(
            "[default]\nregion = eu-west-1\ns3 =\n    max_concurrent_requests = 20\n    # old\n    addressing_style = path\n\n    multipart_threshold = 64MB\noutput = json\n"),
        row("a nested section whose keys are less deep").credentials(default(KEYS)).config("[default]\ns3=\n addressing_style=path\nregion = eu-west-1\n"),
        row("a nested section on one line is none").credentials(default(KEYS)).config("[default]\ns3 = addressing_style = path\n"),
        row("a nested key that stands twice").credentials(default(KEYS)).config("[default]\ns3 =\n  addressing_style = virtual\n  addressing_style = path\n"),
        row("keys for all").credentials(default(KEYS)).config("[DEFAULT]\nregion = eu-west-3\n[default]\noutput = json\n"),
    ]
}

/// What botocore refuses as a whole.
pub(super) fn broken() -> Vec<Row> {
    let bad = |name, text: &[u8], parts: [(&'static str, &str); 1]| {
        row(name).credentials(text).differs(parts, ONE_BAD_LINE)
    };
    let good = [("id", "AKIAGOOD")];
    let latin =
        |text: &str| -> Vec<u8> { text.chars().map(|c| u8::try_from(c).unwrap()).collect() };
    vec![
        bad(
            "a byte order mark",
            format!("\u{feff}{}", default(KEYS)).as_bytes(),
            good,
        ),
        bad(
            "a key without a value",
            default(&format!("{KEYS}aws_session_token\n")).as_bytes(),
            good,
        ),
        bad(
            "a line of junk",
            default(&format!("garbage\n{KEYS}")).as_bytes(),
            good,
        ),
        bad(
            "a line before the first section",
            format!("junk = 1\n{}", default(KEYS)).as_bytes(),
            good,
        ),
        bad(
            "a section that stands twice",
            format!(
                "{}[other]\nregion = x\n{}",
                default("aws_access_key_id = AKIAOLD\naws_secret_access_key = x\n"),
                default(KEYS)
            )
            .as_bytes(),
            good,
        ),
        bad(
            "a key that stands twice",
            default(&format!("aws_access_key_id = AKIAOLD\n{KEYS}")).as_bytes(),
            good,
        ),
        bad(
            "a comment in Latin-1",
            &latin(&default(&format!("# Schl\u{fc}ssel\n{KEYS}"))),
            good,
        ),
        bad(
            "somebody else's secret in Latin-1",
            &latin(&format!(
                "[other]\naws_secret_access_key = \u{fc}\n{}",
                default(KEYS)
            )),
            good,
        ),
        row("a secret in Latin-1")
            .credentials(latin(
                "[default]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = \u{fc}\n",
            ))
            .refused_too("line 3 of "),
        row("a region in Latin-1")
            .credentials(default(KEYS))
            .config(latin("[default]\nregion = \u{fc}\n"))
            .refused_too("line 2 of "),
        row("a NUL in the secret")
            .credentials("[default]\naws_access_key_id = AKIAGOOD\naws_secret_access_key = a\0b\n")
            .is(Ours::Refused(
                "line 3 of ",
                "no secret has such a byte; botocore signs with it",
            )),
        bad(
            "a section that is none hides its own keys only",
            format!("{}[other\naws_access_key_id = AKIAOTHER\n", default(KEYS)).as_bytes(),
            good,
        ),
        row("a section that is none, and nothing else")
            .credentials(format!("[default\n{KEYS}"))
            .refused_too("line 1 of "),
        row("UTF-16")
            .credentials(
                default(KEYS)
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .fold(vec![0xff, 0xfe], |mut all, byte| {
                        all.push(byte);
                        all
                    }),
            )
            .refused_too("UTF-16"),
        row("nested keys with a colon")
            .credentials(default(KEYS))
            .config("[default]\nregion = eu-west-1\ns3 =\n  addressing_style: path\n")
            .differs([("id", "AKIAGOOD"), ("region", "eu-west-1")], ONE_BAD_LINE),
    ]
}

/// How sections are called.
pub(super) fn names() -> Vec<Row> {
    let both = |name: &'static str, profile, config: &str, credentials: &str| {
        row(name)
            .config(format!("[{config}]\nregion = eu-west-1\n"))
            .credentials(keyed(&format!("[{credentials}]")))
            .profile(profile)
    };
    let only = |name: &'static str, profile, config: &str| {
        row(name)
            .config(keyed(&format!("[{config}]\nregion = eu-west-1")))
            .profile(profile)
    };
    vec![
        both("a blank, as aws configure writes it", "my work", "profile 'my work'", "my work"),
        both("a blank and a quote, as aws configure writes it", "it's mine", "profile 'it'\"'\"'s mine'", "it's mine"),
        both("a blank, as aws configure of old wrote it", "my work", "profile \"my work\"", "my work"),
        both("umlauts", "Müller", "profile Müller", "Müller"),
        both("signs", "a(b),c&d#e", "profile a(b),c&d#e", "a(b),c&d#e"),
        both("slashes and at signs", "deref-CI/CD@x:1+%.", "profile deref-CI/CD@x:1+%.", "deref-CI/CD@x:1+%."),
        both("signs behind blanks", "a #1 ;2", "profile 'a #1 ;2'", "a #1 ;2"),
        both("brackets", "a]b", "profile a]b", "a]b"),
        both("many blanks", "x", "profile \t x", "x"),
        both("a backslash", "a\\b", "profile a\\\\b", "a\\b"),
        both("a quote, as aws configure writes it", "it's", "profile it's", "it's")
            .differs([("region", "eu-west-1"), ("id", "AKIAGOOD")], "botocore loses the section that aws configure has written"),
        only("quoted in the configuration file only", "my work", "profile \"my work\""),
        only("a name without quotes", "a b", "profile a b")
            .differs([("id", "AKIAGOOD")], "botocore overlooks the section; nothing else can be meant"),
        both("quotes in the credentials file", "my work", "profile 'my work'", "\"my work\"")
            .differs([("id", "AKIAGOOD")], "the quotes are part of the name for botocore; nothing else can be meant"),
        only("a name without its prefix", "work", "work").refused_too("is written [profile work]"),
        row("a prefix in the credentials file").credentials(keyed("[profile work]")).profile("work").refused_too("is written [work]"),
        only("a prefix of another kind", "work", "sso-session work").refused_too("no profile"),
        row("the last of both names of default, the plain one").config(
            "[profile default]\naws_access_key_id = AKIAFIRST\naws_secret_access_key = x\nregion = eu-west-3\n[default]\naws_access_key_id = AKIALAST\naws_secret_access_key = y\n"),
        row("the last of both names of default, the long one").config(
            "[default]\naws_access_key_id = AKIAFIRST\naws_secret_access_key = x\nregion = eu-west-3\n[profile default]\naws_access_key_id = AKIALAST\naws_secret_access_key = y\n"),
        row("the last of two forms of a name").config(
            "[profile 'x']\naws_access_key_id = AKIAFIRST\naws_secret_access_key = x\n[profile x]\naws_access_key_id = AKIALAST\naws_secret_access_key = y\n").profile("x"),
        row("blanks in the brackets").credentials(keyed("[ default ]"))
            .differs([("id", "AKIAGOOD")], "the blanks are part of the name for botocore; nothing else can be meant"),
        row("a comment with a bracket behind the section").config(keyed("[profile x] # see [1]")).profile("x")
            .differs([("id", "AKIAGOOD")], "botocore reads up to the last bracket, and loses the section"),
        row("sections of other things").credentials(default(KEYS)).config(
            "[preview]\ncloudfront = true\n[plugins]\nendpoint = awscli_plugin_endpoint\n[default]\nregion = eu-west-1\n"),
        row("a broken profile of somebody else").credentials(default(KEYS)).config(
            "[profile bad]\nsso_session = nowhere\nrole_arn = x\nmfa_serial =\nduration_seconds = x\n[default]\nregion = eu-west-1\n"),
        row("no such profile").credentials(default(KEYS)).profile("gone").refused_too("there are: default"),
        row("default, which need not be there").variable("AWS_ACCESS_KEY_ID", "AKIAENV").variable("AWS_SECRET_ACCESS_KEY", "s")
            .variable("AWS_PROFILE", "default")
            .differs([("id", "AKIAENV")], "botocore demands a section of that name, which says nothing"),
    ]
}

/// Where the files are.
pub(super) fn files() -> Vec<Row> {
    let there = |name: &'static str, config, credentials| {
        row(name)
            .file("elsewhere/c", "[default]\nregion = eu-west-1\n")
            .file("elsewhere/k", default(KEYS))
            .variable("AWS_CONFIG_FILE", config)
            .variable("AWS_SHARED_CREDENTIALS_FILE", credentials)
    };
    vec![
        there(
            "files elsewhere",
            "{home}/elsewhere/c",
            "{home}/elsewhere/k",
        ),
        there("~ in the paths", "~/elsewhere/c", "~/elsewhere/k"),
        there(
            "$HOME in the paths",
            "$HOME/elsewhere/c",
            "${HOME}/elsewhere/k",
        ),
        there("another variable in the paths", "$HERE/c", "${HERE}/k")
            .variable("HERE", "{home}/elsewhere"),
        there(
            "an unknown variable in the path",
            "$NOWHERE/c",
            "~/elsewhere/k",
        ),
        there("no path at all", "", "~/elsewhere/k").config("[default]\nregion = eu-west-3\n"),
        there("/dev/null", "/dev/null", "~/elsewhere/k").config("[default]\nregion = eu-west-3\n"),
        there("a file that is a directory", "~/elsewhere", "~/elsewhere/k"),
        there(
            "a file that is not there",
            "~/elsewhere/gone",
            "~/elsewhere/k",
        ),
        there(
            "a link to a file",
            "~/elsewhere/c",
            "/proc/self/root{home}/elsewhere/k",
        ),
        row("HOME with a slash at its end")
            .credentials(default(KEYS))
            .variable("HOME", "{home}/")
            .is(Ours::Same),
        Row {
            without: vec!["HOME"],
            ..row("HOME unset, with the path of a file")
                .file("elsewhere/k", default(KEYS))
                .variable("AWS_SHARED_CREDENTIALS_FILE", "{home}/elsewhere/k")
        },
    ]
}
