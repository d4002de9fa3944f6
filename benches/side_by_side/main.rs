//! This program, s3fs and rclone at the same work on the same server, in one run:
//! `cargo bench --bench side_by_side`.
//!
//! The times of a run say little about another machine; the ratios of one run do. Each program
//! gets each job [`ROUNDS`] times, one after the other, and its median counts. The server answers
//! each request after [`LATENCY`], as one over a network does. Writing is done when all of it is
//! in the bucket, whatever close(2) said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs
)]

mod jobs;
mod programs;
#[path = "../../tests/mount/scene/mod.rs"]
#[allow(dead_code, unused_imports)]
mod scene;

use std::time::Duration;

use jobs::JOBS;
use programs::{PROGRAMS, Program};
use scene::Scene;

/// How often each program does each job.
const ROUNDS: usize = 3;

/// What each request costs besides its work.
const LATENCY: Duration = Duration::from_millis(20);

fn main() {
    let present: Vec<&Program> = PROGRAMS
        .iter()
        .filter(|program| program.is_here())
        .collect();
    let names: Vec<String> = present.iter().map(|p| format!("{:>12}", p.name)).collect();
    println!("{:40}{}   times of ours", "seconds", names.join(""));
    for job in JOBS {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); present.len()];
        for _ in 0..ROUNDS {
            for (program, times) in present.iter().zip(&mut times) {
                let scene = Scene::new();
                scene.bucket.clear_policy();
                (job.furnish)(&scene.bucket);
                scene.sandbox.faults().latency(LATENCY);
                let mounted = program.mount(&scene);
                match jobs::timed(job, &scene.bucket, mounted.path()) {
                    Ok(took) => times.push(took),
                    Err(error) => println!("{}: {}: {error}", program.name, job.name),
                }
            }
        }
        let medians: Vec<Option<f64>> = times.iter_mut().map(|times| median(times)).collect();
        let text = |number: Option<f64>, width, digits| match number {
            Some(number) => format!("{number:>width$.digits$}"),
            None => format!("{:>width$}", "-"),
        };
        let columns: Vec<String> = medians.iter().map(|m| text(*m, 12, 2)).collect();
        let ratio = |m: &Option<f64>| text(m.zip(medians[0]).map(|(m, ours)| m / ours), 7, 1);
        let ratios: Vec<String> = medians.iter().skip(1).map(ratio).collect();
        println!("{:40}{}  {}", job.name, columns.join(""), ratios.join(""));
    }
}

/// In seconds; `None` if there is nothing.
fn median(times: &mut [Duration]) -> Option<f64> {
    times.sort();
    times.get(times.len() / 2).map(Duration::as_secs_f64)
}
