//! The servers: started with the first test that needs them. They end with this process, however
//! it ends: that closes their standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::scene::{holds_within, parts};

/// How to get what comes from PyPI.
const TOOLS: &str = "python3 -m venv target/tools/venv && \
                     target/tools/venv/bin/pip install awscli==1.46.3 ministack==1.5.33";

/// How often a server is started: its port may be taken by somebody else just before.
const ATTEMPTS: u32 = 3;

/// A running server.
pub struct Server {
    /// A shell that ends the server with its standard input.
    child: Child,
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    /// The ARN of alice, whose keys these are.
    pub user: &'static str,
}

/// A program of the virtual environment, which need not be there.
pub fn tool(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("target/tools/venv/bin")
        .join(name)
}

/// ministack, unless something is missing.
pub fn ministack(test: &str) -> Option<&'static Server> {
    static RUNNING: OnceLock<Server> = OnceLock::new();
    let (server, aws) = (tool("ministack"), tool("aws"));
    let needed = [server.to_str()?, aws.to_str()?];
    parts::are_here(test, &needed, TOOLS).then(|| running(&RUNNING, start_ministack))
}

/// Ceph RGW, unless something is missing.
pub fn ceph(test: &str) -> Option<&'static Server> {
    static RUNNING: OnceLock<Server> = OnceLock::new();
    let needed = [
        "radosgw",
        "radosgw-admin",
        "ceph-mon",
        "ceph-osd",
        "ceph",
        "setpriv",
    ];
    let install = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd";
    let is_here = parts::are_here(test, &needed, install)
        && parts::are_here(test, &[tool("aws").to_str()?], TOOLS);
    is_here.then(|| running(&RUNNING, start_ceph))
}

/// The server that runs already, or a new one.
fn running(place: &'static OnceLock<Server>, start: fn() -> Option<Server>) -> &'static Server {
    let start = || {
        (0..ATTEMPTS)
            .find_map(|_| start())
            .expect("the server does not start")
    };
    place.get_or_init(start)
}

fn start_ministack() -> Option<Server> {
    let port = free_port();
    // Root, whose signature it does not check, makes a user whose it does.
    let script = "setpriv --pdeathsig KILL \"$0\" >/dev/null 2>&1 & \
                  echo started; read -r _; { kill -KILL $!; wait; } 2>/dev/null";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(tool("ministack")).envs([
        ("AUTH", "true"),
        ("GATEWAY_PORT", &*port.to_string()),
        ("BIND_HOST", "127.0.0.1"),
        ("IOT_MTLS_ENABLED", "0"),
        ("SFTP_ENABLED", "0"),
    ]);
    let mut server = Server::start(command, port)?;
    let iam = |args: &[&str]| {
        let output = crate::place::aws(&server).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    iam(&["iam", "create-user", "--user-name", "alice"]);
    iam(&[
        "iam",
        "put-user-policy",
        "--user-name",
        "alice",
        "--policy-name",
        "all",
        "--policy-document",
        policy,
    ]);
    let key = iam(&["iam", "create-access-key", "--user-name", "alice"]);
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let text = |name: &str| key["AccessKey"][name].as_str().unwrap().to_owned();
    (server.access_key, server.secret_key) = (text("AccessKeyId"), text("SecretAccessKey"));
    Some(server)
}

fn start_ceph() -> Option<Server> {
    let port = free_port();
    let (access_key, secret_key) = (
        "ALICEACCESSKEY000001",
        "alicesecretkeyalicesecretkeyalicesecret1",
    );
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/others/ceph.sh"));
    command.args([
        &*free_port().to_string(),
        &*port.to_string(),
        access_key,
        secret_key,
    ]);
    let mut server = Server::start(command, port)?;
    (server.access_key, server.secret_key) = (access_key.to_owned(), secret_key.to_owned());
    server.user = "arn:aws:iam:::user/alice";
    // Without it alice may have no sessions. A space would not be understood.
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:GetSessionToken","Resource":"*"}]}"#;
    let allowed = crate::place::aws(&server)
        .args([
            "iam",
            "put-user-policy",
            "--user-name",
            "alice",
            "--policy-name",
            "sessions",
        ])
        .args(["--policy-document", policy])
        .output()
        .unwrap();
    assert!(allowed.status.success(), "{allowed:?}");
    Some(server)
}

impl Server {
    /// Starts a shell that says "started" when its server is about to answer, and waits for the
    /// answer. `None` if that ends instead.
    fn start(mut command: Command, port: u16) -> Option<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        let mut server = Self {
            child,
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: "test".to_owned(),
            secret_key: "test".to_owned(),
            user: "arn:aws:iam::000000000000:user/alice",
        };
        let mut ended = said != "started\n";
        let answers = holds_within(Duration::from_secs(60), || {
            ended |= server.child.try_wait().unwrap().is_some();
            ended || answers(port)
        });
        (answers && !ended).then_some(server)
    }
}

/// Whether somebody speaks HTTP there.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 5];
        connection.read_exact(&mut start)?;
        Ok(&start == b"HTTP/")
    };
    ask().unwrap_or(false)
}

/// A port that nobody has for now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
