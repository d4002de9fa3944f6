//! Where the services are: certificates of one's own, addresses from every place that the AWS CLI
//! knows, and AWS's own in all partitions.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::mpsc;

use s3mfa_sandbox::Sandbox;

use crate::case::{Stage, WITH_DEVICE};
use crate::scene::{Mount, PATIENCE, Scene, run};

#[test]
fn a_certificate_of_ones_own_is_trusted_when_it_is_named_and_not_before() {
    let sandbox = Sandbox::builder().tls().start().unwrap();
    let ca = sandbox.ca_pem().unwrap().to_owned();
    let stage = Stage::on(Scene::on(sandbox));
    let scene = &stage.scene;
    let bundle = scene.home().join("ca.pem");
    fs::write(&bundle, ca).unwrap();
    let bundle = bundle.to_str().unwrap();

    let answering = scene.pinentry.answer_next(scene.device.code());
    let outcome = scene.control(&["docs", scene.mountpoint("mnt").to_str().unwrap()]);
    answering.join().unwrap();
    assert_eq!(outcome.code, 4, "{outcome:?}");
    assert!(outcome.err.contains("https://localhost"), "{outcome:?}");
    assert!(outcome.err.contains("--ca-bundle"), "{outcome:?}");

    let mount = scene.mount(&["--ca-bundle", bundle]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    fs::write(mount.file("new"), "new").unwrap();
    assert_eq!(scene.bucket.get("new").unwrap(), "new");
    // The same from the environment, and from the profile.
    let path = scene.mountpoint("second");
    let mut command = scene.command();
    command.env("AWS_CA_BUNDLE", bundle);
    command.args(["docs", path.to_str().unwrap(), "--foreground"]);
    let second = Mount::spawn(command, &path);
    second.wait_until_mounted();
    stage.configure(&format!("{WITH_DEVICE}ca_bundle = {bundle}\n"));
    let path = scene.mountpoint("third");
    let third = Mount::start(scene, "docs", &path, &[]);
    third.wait_until_mounted();
    assert_eq!(fs::read_to_string(third.file("f")).unwrap(), "content");

    let outcome = scene.control(&["docs", "/tmp", "--ca-bundle", "/nowhere.pem"]);
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.err.contains("/nowhere.pem cannot be read"),
        "{outcome:?}"
    );
}

/// The environment without a word about addresses.
fn bare(scene: &Scene) -> std::process::Command {
    let mut command = scene.command();
    for (name, _) in scene.environment() {
        if name.starts_with("AWS_ENDPOINT") {
            command.env_remove(name);
        }
    }
    command
}

#[test]
fn one_address_for_all_services_is_enough_and_may_stand_anywhere() {
    let stage = Stage::new();
    let scene = &stage.scene;
    let endpoint = scene.sandbox.endpoint();
    let region_only = "[default]\nregion = us-east-1\nmfa_serial = {serial}\n";
    let services = format!(
        "[default]\nregion = us-east-1\nmfa_serial = {{serial}}\nservices = here\n\
         [services here]\ns3 =\n  endpoint_url = {endpoint}\nsts =\n  endpoint_url = {endpoint}\n"
    );
    let ways: [(String, Option<&str>); 3] = [
        (region_only.to_owned(), Some(endpoint)),
        (format!("{region_only}endpoint_url = {endpoint}\n"), None),
        (services, None),
    ];
    for (number, (config, variable)) in ways.into_iter().enumerate() {
        stage.configure(&config);
        scene.log_out();
        let path = scene.mountpoint(&format!("mnt{number}"));
        let mut command = bare(scene);
        if let Some(endpoint) = variable {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        command.args(["docs", path.to_str().unwrap(), "--foreground"]);
        let answering = scene.pinentry.answer_next(scene.device.unspent_code());
        let mount = Mount::spawn(command, &path);
        mount.wait_until_mounted();
        answering.join().unwrap();
        let read = fs::read_to_string(mount.file("f"));
        assert_eq!(read.unwrap(), "content", "{config}");
    }
}

/// A proxy that writes down where its client wants to go, and lets nobody through.
struct Proxy {
    url: String,
    hosts: mpsc::Receiver<String>,
}

impl Proxy {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, hosts) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut line = String::new();
                let _ = BufReader::new(stream).read_line(&mut line);
                if let Some(host) = line.split(' ').nth(1)
                    && tell.send(host.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { url, hosts }
    }
}

/// The host that `credentials` asks for a session.
fn sts_host(config: &str, variables: &[(&str, &str)]) -> String {
    let proxy = Proxy::open();
    let stage = Stage::new();
    let scene = &stage.scene;
    stage.configure(config);
    let mut command = bare(scene);
    command.envs(variables.iter().copied());
    command.env("HTTPS_PROXY", &proxy.url);
    command.args(["credentials", "--mfa-process", "echo 123456"]);
    let outcome = run(&mut command);
    assert_eq!(outcome.code, 4, "{outcome:?}");
    proxy.hosts.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn each_partition_and_each_kind_of_endpoint_has_its_host() {
    let device = |partition: &str| {
        format!("[default]\nmfa_serial = arn:{partition}:iam::123456789012:mfa/alice\n")
    };
    type Row = (
        String,
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let rows: [Row; 8] = [
        (device("aws"), &[], "sts.us-east-1.amazonaws.com:443"),
        (
            format!("{}region = eu-central-1\n", device("aws")),
            &[],
            "sts.eu-central-1.amazonaws.com:443",
        ),
        // The partition of an ARN is enough.
        (device("aws-cn"), &[], "sts.cn-north-1.amazonaws.com.cn:443"),
        (
            device("aws-us-gov"),
            &[],
            "sts.us-gov-west-1.amazonaws.com:443",
        ),
        (
            format!("{}use_fips_endpoint = true\n", device("aws")),
            &[],
            "sts-fips.us-east-1.amazonaws.com:443",
        ),
        (
            device("aws"),
            &[("AWS_USE_FIPS_ENDPOINT", "true")],
            "sts-fips.us-east-1.amazonaws.com:443",
        ),
        (
            device("aws"),
            &[("AWS_USE_DUALSTACK_ENDPOINT", "true")],
            "sts.us-east-1.api.aws:443",
        ),
        (
            format!("{}region = cn-northwest-1\n", device("aws-cn")),
            &[],
            "sts.cn-northwest-1.amazonaws.com.cn:443",
        ),
    ];
    for (config, variables, host) in rows {
        assert_eq!(sts_host(&config, variables), host, "{config}{variables:?}");
    }
}

#[test]
fn a_region_of_another_partition_is_refused_with_one_of_the_right_one() {
    let stage = Stage::new();
    stage.configure(
        "[default]\nregion = eu-west-1\nmfa_serial = arn:aws-cn:iam::123456789012:mfa/alice\n",
    );
    let outcome = run(bare(&stage.scene).arg("credentials"));
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.err.contains("--region cn-north-1"), "{outcome:?}");
}

/// A store on this machine beside a proxy for everything else.
#[test]
fn no_proxy_holds_for_a_port() {
    let proxy = Proxy::open();
    let stage = Stage::new();
    let scene = &stage.scene;
    let (_, address) = scene.sandbox.endpoint().split_once("://").unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let with = |exception: &str| {
        let mut command = scene.command();
        command
            .env("HTTP_PROXY", &proxy.url)
            .env("NO_PROXY", exception);
        let code = format!("echo {}", scene.device.unspent_code());
        command.args(["credentials", "--mfa-process", &code]);
        run(&mut command)
    };
    let past_it = with(&format!("internal.example.com:8080,{address}"));
    assert_eq!(past_it.code, 0, "{past_it:?}");
    assert!(proxy.hosts.try_recv().is_err(), "the proxy was asked");
    scene.log_out();
    let elsewhere = with(&format!("{host}:1{port}"));
    assert_eq!(elsewhere.code, 4, "{elsewhere:?}");
    let asked = proxy.hosts.recv_timeout(PATIENCE).unwrap();
    assert!(asked.contains(address), "{asked}");
}
