//! Kills a command at random moments until it was killed often enough, and lets it end.
#![allow(dead_code, reason = "each file of tests uses its part")]

use std::fmt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Kills so many times, at moments spread over what the command takes undisturbed.
pub struct Killer {
    kills: u32,
    killed: u32,
    round: u32,
    undisturbed: Duration,
    random: ChaCha8Rng,
}

impl Killer {
    /// Runs the command once undisturbed.
    pub fn new(kills: u32, command: impl Fn() -> Command) -> Self {
        let start = Instant::now();
        assert!(quiet(command()).wait().unwrap().success());
        let (undisturbed, random) = (start.elapsed(), ChaCha8Rng::seed_from_u64(u64::from(kills)));
        Self { kills, killed: 0, round: 0, undisturbed, random }
    }

    pub fn is_done(&self) -> bool {
        self.killed >= self.kills
    }

    pub fn begin_round(&mut self) -> u32 {
        self.round += 1;
        self.round
    }

    pub fn round(&self) -> u32 {
        self.round
    }

    /// Runs the command, killed or not, until it ends by itself, which must be well.
    pub fn run_to_the_end(&mut self, command: impl Fn() -> Command) {
        loop {
            let mut child = quiet(command());
            let patience = self.undisturbed.mul_f64(self.random.random_range(0.02..1.1));
            match ended_within(&mut child, patience) {
                Some(status) => return assert!(status.success(), "round {}: {status}", self.round),
                None if self.is_done() => return assert!(child.wait().unwrap().success(), "round {}", self.round),
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    self.killed += 1;
                }
            }
        }
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills in {} rounds; undisturbed {:?}", self.killed, self.round, self.undisturbed)
    }
}

fn quiet(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}
