//! Programs that others wrote, as children of a test, and where they are.

use std::path::{Path, PathBuf};
use std::process::Child;

/// A child that does not outlive its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where scripts/test puts what it installs.
pub fn installed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients").join(file)
}

/// A script of ours that drives such a program.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/clients").join(name)
}
