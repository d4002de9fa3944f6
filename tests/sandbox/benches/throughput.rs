//! How fast the sandbox serves bytes on one connection: `cargo bench -p s3mfa-sandbox`.
//!
//! A benchmark of a mount can be no faster than this.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use s3mfa_sandbox::Sandbox;

fn main() {
    const SIZE: usize = 256 << 20;
    const ROUNDS: usize = 8;
    let sandbox = Sandbox::start().unwrap();
    let bucket = sandbox.create_bucket("docs");
    bucket.put("large", vec![7; SIZE]);
    bucket
        .set_policy(
            r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::docs/*"}}"#,
        )
        .unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", sandbox.port())).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let begin = Instant::now();
    let mut received = 0;
    for _ in 0..ROUNDS {
        stream
            .write_all(b"GET /docs/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let end = received + SIZE;
        while received < end {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0);
            received += count;
        }
    }
    let rate = received as f64 / begin.elapsed().as_secs_f64() / 1e9;
    println!("{rate:.2} GB/s");
}
