//! Writes the test table, for trying things by hand: `cargo run -p sheaf-tests --example write_parts DIR SEED ROWS`.

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: u64| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let folder = arguments.get(1).map_or("data", String::as_str);
    sheaf_tests::write_parts(std::path::Path::new(folder), number(2, 11), number(3, 6000) as usize);
}
