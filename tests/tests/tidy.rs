//! Tidy: every file says what it is for, rooms point one way, the words of the house.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

/// Rooms in the order of the arrows: a room may use those of lower ranks.
const ROOMS: &[(&str, u32)] = &[
    ("learn", 0),
    ("cluster", 0),
    ("proto", 1),
    ("dataflow", 1),
    ("runtime", 2),
    ("coordinator", 3),
    ("worker", 3),
    ("client", 4),
    ("tests", 5),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                rust_files(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (room, _) in ROOMS {
        rust_files(&root().join(room), &mut files);
    }
    files
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let mute: Vec<String> =
        all_files().iter().filter(|f| !std::fs::read_to_string(f).unwrap().starts_with("//! ")).map(|f| name(f)).collect();
    assert!(mute.is_empty(), "files without a //! header: {mute:?}");
}

#[test]
fn no_file_is_a_room_of_its_own() {
    let long: Vec<String> = all_files()
        .iter()
        .map(|f| (std::fs::read_to_string(f).unwrap().lines().count(), f))
        .filter(|(lines, _)| *lines > 700)
        .map(|(lines, f)| format!("{} ({lines} lines)", name(f)))
        .collect();
    assert!(long.is_empty(), "past 500 lines ask what second thing moved in; past 700 this test does: {long:?}");
}

#[test]
fn arrows_point_one_way() {
    for (room, rank) in ROOMS {
        let manifest = std::fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        for (other, other_rank) in ROOMS.iter().filter(|(other, _)| other != room) {
            let uses = manifest
                .lines()
                .any(|line| line.starts_with(&format!("sheaf-{other}.")) || line.starts_with(&format!("sheaf-{other} ")));
            assert!(!uses || other_rank < rank, "{room} must not use {other}");
        }
    }
}

#[test]
fn pure_rooms_stay_pure() {
    for room in ["learn", "cluster"] {
        let manifest = std::fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for banned in ["tokio", "tonic", "arrow", "rand", "chrono", "object_store"] {
            assert!(!dependencies.lines().any(|l| l.starts_with(banned)), "{room} must not depend on {banned}");
        }
        let mut files = Vec::new();
        rust_files(&root().join(room).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for banned in ["std::fs", "std::net", "SystemTime", "Instant::now", "std::thread"] {
                assert!(!code.contains(banned), "{} uses {banned}", name(&file));
            }
        }
    }
}

#[test]
fn kernels_call_no_library_functions() {
    let mut files = Vec::new();
    rust_files(&root().join("learn/src/kernels"), &mut files);
    rust_files(&root().join("learn/src/math"), &mut files);
    files.push(root().join("learn/src/math.rs"));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let of_libm = "exp exp2 exp_m1 ln ln_1p log log2 log10 powf powi cbrt hypot sin cos tan sin_cos asin acos atan atan2 \
                       sinh cosh tanh asinh acosh atanh mul_add";
        for banned in of_libm.split_whitespace().flat_map(|name| [format!(".{name}("), format!("f64::{name}")]) {
            assert!(!code.contains(&banned), "{} calls {banned}, whose bits vary by machine", name(&file));
        }
    }
}

#[test]
fn no_unfinished_work() {
    for file in all_files().into_iter().filter(|f| !f.ends_with("tidy.rs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for banned in ["todo!(", "unimplemented!(", "#[ignore", "thread::sleep(Duration::from_secs"] {
            assert!(!text.contains(banned), "{} holds {banned}", name(&file));
        }
    }
}
