//! Compiles the `.proto` files with `protox`, so that no `protoc` is needed, and lists the methods of all
//! services from the descriptors.

use std::fmt::Write as _;

/// Fields that hold much: decoded they are a part of what was received, not a copy of it.
const LARGE: &[&str] = &[
    ".sheaf.v1.BlockValue.value",
    ".sheaf.v1.Compute.message",
    ".sheaf.v1.FetchChaptersResponse.chapters",
    ".sheaf.v1.FetchDocumentResponse.document",
    ".sheaf.v1.FetchMessageResponse.message",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "workers", "jobs", "nodes", "queries"].map(|name| format!("sheaf/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let mut methods = String::from("&[\n");
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                writeln!(methods, "    \"/{}.{}/{}\",", file.package(), service.name(), method.name())?;
            }
        }
    }
    methods.push_str("]\n");
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(std::path::Path::new(&out).join("methods.rs"), methods)?;
    let builder = LARGE.iter().fold(tonic_prost_build::configure(), |builder, field| builder.bytes(field));
    builder.compile_fds(descriptors)?;
    Ok(())
}
