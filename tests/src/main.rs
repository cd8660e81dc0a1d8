//! The program under test: the client's `main`, so that `cargo test` needs no earlier build.

fn main() -> std::process::ExitCode {
    sheaf_client::main()
}
