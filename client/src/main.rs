//! The `sheaf` program.

fn main() -> std::process::ExitCode {
    sheaf_client::main()
}
