//! Generates the gRPC services and records from `../proto` without a protoc binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    #[cfg(feature = "grpc")]
    generate()?;
    Ok(())
}

/// A record with a password in it: `rpc.rs` says how it is shown.
#[cfg(feature = "grpc")]
const HAND_WRITTEN_DEBUG: &str = ".smsc.store.v1.Link";

#[cfg(feature = "grpc")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["../proto/raft.proto", "../proto/store.proto", "../proto/admin.proto"];
    let descriptors = protox::compile(files, ["../proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .skip_debug([HAND_WRITTEN_DEBUG])
        // Those inside of it have no secrets.
        .enum_attribute(HAND_WRITTEN_DEBUG, "#[derive(Debug)]")
        .compile_fds(descriptors)?;
    Ok(())
}
