//! The quorum device `fence`: a command that switches the peer off and proves it by its exit code.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use smsc_raft::quorum::{DevicePeer, QuorumDevice};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::FenceConfig;

/// The pause before a try that follows a failed one.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// What a command says is told up to here; octets.
const SAID_MAX: usize = 300;

/// See the [module](self).
pub(super) struct Fence {
    commands: Arc<Commands>,
    /// Where the commands run, so that starting and hearing them never delays consensus.
    runtime: tokio::runtime::Handle,
}

struct Commands {
    config: FenceConfig,
    cluster: String,
    own_name: String,
}

impl Fence {
    pub(super) fn new(config: FenceConfig, cluster: String, own_name: String, runtime: tokio::runtime::Handle) -> Self {
        Self { commands: Arc::new(Commands { config, cluster, own_name }), runtime }
    }
}

#[tonic::async_trait]
impl QuorumDevice for Fence {
    async fn ask(&self, peer: &DevicePeer) -> Result<(), String> {
        // Ends what it holds when this future is dropped.
        let mut tries = JoinSet::new();
        let (commands, peer) = (self.commands.clone(), peer.clone());
        tries.spawn_on(async move { commands.tries(&peer).await }, &self.runtime);
        match tries.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(format!("running the fence ended badly: {error}")),
            None => Err("the fence was not run".to_owned()),
        }
    }
}

impl Commands {
    async fn tries(&self, peer: &DevicePeer) -> Result<(), String> {
        let mut tries = 0;
        loop {
            match self.once(peer).await {
                Ok(()) => return Ok(()),
                Err(reason) if tries >= self.config.retries => return Err(reason),
                Err(reason) => tracing::warn!(peer = %peer.name, "the peer is not fenced yet: {reason}"),
            }
            tries += 1;
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn once(&self, peer: &DevicePeer) -> Result<(), String> {
        self.run("fence_command", &self.config.command, peer).await?;
        match &self.config.verify {
            Some(verify) => self.run("fence_verify", verify, peer).await,
            None => Ok(()),
        }
    }

    async fn run(&self, key: &str, command: &[String], peer: &DevicePeer) -> Result<(), String> {
        let (program, arguments) = command.split_first().ok_or_else(|| format!("quorum.{key} names no program"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("SMSC_CLUSTER", &self.cluster)
            .env("SMSC_NODE_NAME", &self.own_name)
            .env("SMSC_PEER_ID", peer.id.to_string())
            .env("SMSC_PEER_NAME", &peer.name)
            .env("SMSC_PEER_ADDR", &peer.addr)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own, so that a script is ended with what it has started.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("quorum.{key}: {program} cannot be started: {error}"))?;
        let _group = Group(child.id());
        match timeout(self.config.timeout, child.wait_with_output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(format!("{program} failed ({}): {}", word(output.status), said(&output.stderr))),
            Ok(Err(error)) => Err(format!("{program}: {error}")),
            Err(_) => Err(format!("{program} did not end within {:?} and was killed", self.config.timeout)),
        }
    }
}

/// Ends a command's whole process group when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) else { return };
        // Nobody of it may be left, which is as well.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

fn word(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SAID_MAX)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn fence(script: &str, verify: Option<&str>, timeout: Duration, retries: u32) -> Fence {
        let shell = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let config = FenceConfig {
            command: shell(script),
            verify: verify.map(shell),
            timeout,
            retries,
            after: Duration::ZERO,
            standby_delay: Duration::ZERO,
        };
        Fence::new(config, "demo".to_owned(), "a".to_owned(), tokio::runtime::Handle::current())
    }

    fn peer() -> DevicePeer {
        DevicePeer { id: 2, name: "b".to_owned(), addr: "10.75.0.2:7400".to_owned() }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn success_is_exit_code_0_of_the_command_and_of_the_proof() {
        let knows = r#"test "$SMSC_PEER_NAME $SMSC_PEER_ID $SMSC_CLUSTER" = "b 2 demo""#;
        assert_eq!(fence(knows, Some("exit 0"), LONG, 0).ask(&peer()).await, Ok(()));
        let refused = fence("echo no power >&2; exit 3", None, LONG, 0).ask(&peer()).await.expect_err("exit code 3");
        assert!(refused.contains("exit code 3") && refused.contains("no power"), "{refused}");
        fence(knows, Some("exit 1"), LONG, 0).ask(&peer()).await.expect_err("not proven");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a folder");
        let mark = dir.path().join("alive");
        let script = format!("(sleep 2; touch {}) & wait", mark.display());
        let began = Instant::now();
        let error = fence(&script, None, Duration::from_millis(200), 0).ask(&peer()).await.expect_err("too slow");
        assert!(error.contains("was killed"), "{error}");
        assert!(began.elapsed() < LONG);
        sleep(Duration::from_secs(3)).await;
        assert!(!mark.exists(), "its child went on");
    }

    #[tokio::test]
    async fn it_is_tried_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let script = format!("mkdir {} && exit 1; exit 0", dir.path().join("tried").display());
        assert_eq!(fence(&script, None, LONG, 1).ask(&peer()).await, Ok(()));
    }
}
