//! Generates the gRPC services and records from `../proto` without a protoc binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    if std::env::var_os("CARGO_FEATURE_GRPC").is_none() {
        return Ok(());
    }
    let files = ["../proto/raft.proto", "../proto/store.proto", "../proto/admin.proto"];
    let descriptors = protox::compile(files, ["../proto"])?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
