//! Where services are, what commands print, and what the environment says.

use super::{KEYS, PRINTS, Row, SDKS, default, keyed, process, row};

/// Where services are.
pub(super) fn services() -> Vec<Row> {
    let of = |name: &'static str, config: &str| row(name).credentials(default(KEYS)).config(config);
    let section = "s3 =\n  endpoint_url = http://s3.example.com\n\nsts =\n    endpoint_url = http://sts.example.com\n";
    vec![
        of("an endpoint", "[default]\nendpoint_url = http://127.0.0.1:9000\ns3 =\n  addressing_style = path\n"),
        of("endpoints of services", &format!("[default]\nservices = x\n[services x]\n{section}")),
        of("endpoints of services with an odd name", &format!("[default]\nservices = my Büro #1, (x) & y\n[services 'my Büro #1, (x) & y']\n{section}")),
        of("an endpoint of one service and another for the rest", "[default]\nservices = x\nendpoint_url = http://all.example.com\n[services x]\ns3 =\n  endpoint_url = http://s3.example.com\n"),
        of("services that are not there", "[default]\nservices = gone\n").refused_too("line 2 of "),
        of("services before the profile", &format!("[services x]\n{section}[default]\nservices = x\n")),
        of("endpoints of the environment", &format!("[default]\nservices = x\n[services x]\n{section}"))
            .variable("AWS_ENDPOINT_URL", "http://env.example.com").variable("AWS_ENDPOINT_URL_S3", "http://env-s3.example.com"),
        of("endpoints that are to be ignored", "[default]\nendpoint_url = http://all.example.com\nignore_configured_endpoint_urls = True\n"),
        of("endpoints that the environment says to ignore", "[default]\nendpoint_url = http://all.example.com\n").variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        of("an endpoint with a comment", "[default]\nservices = x # mine\n[services x]\ns3 =\n  endpoint_url = http://s3.example.com # here\n")
            .differs([("s3", "http://s3.example.com")], SDKS),
    ]
}

/// What a command prints.
pub(super) fn processes() -> Vec<Row> {
    let of = |name: &'static str, command: &str| row(name).config(process(command));
    let script = "#!/bin/sh\nwords=$(printf '%s|' \"$@\" | sed 's/[\\\\\"]/\\\\&/g')\nprintf '{\"Version\": 1, \"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"%s\"}' \"$#\" \"$words\"\n";
    let words = |name: &'static str, arguments: &str| {
        row(name)
            .file("elsewhere/print", script)
            .config(process(&format!("sh {{home}}/elsewhere/print {arguments}")))
    };
    let prints = |name: &'static str, document: &str| of(name, &format!("echo '{document}'"));
    let keys = |more: &str| {
        format!(
            "{{\"Version\": 1, \"AccessKeyId\": \"ASIAPROC\", \"SecretAccessKey\": \"s\"{more}}}"
        )
    };
    vec![
        of("a process", &format!("echo '{PRINTS}'")),
        words("a dollar sign", "$2 $HOME ${x} $(date)"),
        words("signs of a shell", "a; b & c | d > e < f * ? ~"),
        words("a hash", "a #b # c"),
        words("quotes", "'a b' \"c 'd'\" e\\ f \"g\\\"h\\i\" '' x''y"),
        words("quotes around everything", "\"a\""),
        of(
            "quotes around everything, the program too",
            &format!("\"echo\" \"{}\"", PRINTS.replace('"', "\\\"")),
        ),
        row("a command on two lines")
            .file("elsewhere/print", script)
            .config(process("sh {home}/elsewhere/print\n    a\n    b")),
        words("backslashes", r"a\\b '\' \n"),
        of(
            "a shell, called by name",
            &format!("sh -c 'true | echo '\"'\"'{PRINTS}'\"'\"' # x'"),
        ),
        of("an open quote", "echo 'x").refused_too("a quote that nothing closes"),
        of("a backslash at the end", "echo x\\").refused_too("ends with a backslash"),
        of("a program that is not there", "no-such-program-here x").refused_too("sh -c"),
        of(
            "a command that needs a shell",
            &format!("A=1 echo '{PRINTS}'"),
        )
        .refused_too("sh -c"),
        of("~ is not expanded", "~/elsewhere/print").refused_too("sh -c"),
        of("a failure", "false").refused_too("exit code 1"),
        of("no output", "true").refused_too("did not print the JSON"),
        prints("a token", &keys(", \"SessionToken\": \"t\"")),
        prints("an empty token", &keys(", \"SessionToken\": \"\"")),
        prints("no token", &keys(", \"SessionToken\": null")),
        prints(
            "an end",
            &keys(", \"SessionToken\": \"t\", \"Expiration\": \"2099-01-01T00:00:00Z\""),
        ),
        prints(
            "an end in another zone",
            &keys(", \"SessionToken\": \"t\", \"Expiration\": \"2099-01-01T00:00:00+02:00\""),
        ),
        prints(
            "an end in the past",
            &keys(", \"SessionToken\": \"t\", \"Expiration\": \"2020-01-01T00:00:00Z\""),
        )
        .refused_too("ended at 2020-01-01"),
        prints("an end that is null", &keys(", \"Expiration\": null")),
        prints("an end that is empty", &keys(", \"Expiration\": \"\"")).differs(
            [("id", "ASIAPROC")],
            "botocore fails at it; it says as little as null",
        ),
        prints(
            "an end without a zone",
            &keys(", \"Expiration\": \"2099-01-01T00:00:00\""),
        )
        .refused_too("no time of RFC 3339"),
        prints("an end that is none", &keys(", \"Expiration\": \"soon\""))
            .refused_too("no time of RFC 3339"),
        prints("another version", &keys("").replace("1,", "2,")).refused_too("version 2"),
        prints(
            "no version",
            "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"s\"}",
        )
        .refused_too("did not print the JSON"),
        prints("no secret", "{\"Version\": 1, \"AccessKeyId\": \"A\"}")
            .refused_too("did not print the JSON"),
        prints(
            "more than AWS describes",
            &keys(", \"AccountId\": \"1\", \"Extra\": [1]"),
        ),
    ]
}

/// What the environment says.
pub(super) fn environments() -> Vec<Row> {
    let keys = |name: &'static str| {
        row(name)
            .variable("AWS_ACCESS_KEY_ID", "AKIAENV")
            .variable("AWS_SECRET_ACCESS_KEY", "s")
    };
    vec![
        keys("keys of the environment"),
        keys("temporary keys of the environment").variable("AWS_SESSION_TOKEN", "t"),
        keys("an empty token of the environment").variable("AWS_SESSION_TOKEN", ""),
        keys("the old name of the token in the environment").variable("AWS_SECURITY_TOKEN", "u"),
        keys("both names of the token in the environment")
            .variable("AWS_SESSION_TOKEN", "t")
            .variable("AWS_SECURITY_TOKEN", "u"),
        keys("an end in the environment")
            .variable("AWS_SESSION_TOKEN", "t")
            .variable("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z"),
        keys("an end in the past in the environment")
            .variable("AWS_SESSION_TOKEN", "t")
            .variable("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
            .refused_too("ended"),
        keys("an end that is none in the environment")
            .variable("AWS_CREDENTIAL_EXPIRATION", "soon")
            .refused_too("AWS_CREDENTIAL_EXPIRATION"),
        row("half a pair in the environment")
            .variable("AWS_ACCESS_KEY_ID", "AKIAENV")
            .credentials(default(KEYS))
            .refused_too("no AWS_SECRET_ACCESS_KEY"),
        row("half a pair in the environment, and --profile")
            .variable("AWS_ACCESS_KEY_ID", "AKIAENV")
            .credentials(keyed("[x]"))
            .profile("x"),
        row("the other half in the environment")
            .variable("AWS_SECRET_ACCESS_KEY", "s")
            .credentials(default(KEYS)),
        row("an empty key in the environment")
            .variable("AWS_ACCESS_KEY_ID", "")
            .variable("AWS_SECRET_ACCESS_KEY", "s")
            .credentials(default(KEYS)),
    ]
}
