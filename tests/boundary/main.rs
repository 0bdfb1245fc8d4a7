//! The boundaries that the compiler does not check, read from the sources: who may import whom (DESIGN
//! section 7), which crates know no clock, socket, file or executor, and where `unsafe` may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes go in, a small output enum comes out; time is an argument.
const SANS_IO: [&str; 5] =
    ["dataplane/protocol", "dataplane/relay", "dataplane/dvr", "dataplane/packet", "dataplane/webrtc"];

/// What a sans-IO crate never names, with the reason. `Instant` and `SocketAddr` are plain values and allowed.
const FOREIGN_TO_SANS_IO: [(&str, &str); 15] = [
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("TcpStream", "sockets belong to the driver"),
    ("TcpListener", "sockets belong to the driver"),
    ("UdpSocket", "sockets belong to the driver"),
    ("UnixStream", "sockets belong to the driver"),
    ("socket2", "sockets belong to the driver"),
    ("std::fs", "files belong to the driver"),
    ("File::open", "files belong to the driver"),
    ("std::thread", "threads belong to the driver"),
    ("std::env", "settings come as arguments"),
    ("std::process", "processes belong to the driver"),
    ("tokio", "executors belong to the driver"),
    ("glommio", "executors belong to the driver"),
    ("thread_rng", "randomness comes as a seed"),
];

/// The two small crates that contain what the compiler cannot check.
const UNSAFE_ALLOWED: [&str; 2] = ["dataplane/packet", "dataplane/net"];

/// Our crates by name, and which of ours each may depend on.
const ARROWS: [(&str, &[&str]); 13] = [
    (
        "lanecast",
        &[
            "lanecast-camera",
            "lanecast-dvr",
            "lanecast-protocol",
            "lanecast-relay",
            "lanecast-shard",
            "lanecast-webrtc",
        ],
    ),
    (
        "lanecast-shard",
        &[
            "lanecast-dvr",
            "lanecast-net",
            "lanecast-packet",
            "lanecast-protocol",
            "lanecast-relay",
            "lanecast-transcode",
            "lanecast-webrtc",
        ],
    ),
    ("lanecast-transcode", &["lanecast-protocol"]),
    ("lanecast-dvr", &["lanecast-packet", "lanecast-protocol", "lanecast-relay"]),
    ("lanecast-relay", &["lanecast-packet", "lanecast-protocol"]),
    ("lanecast-webrtc", &["lanecast-packet", "lanecast-protocol"]),
    ("lanecast-net", &["lanecast-packet"]),
    ("lanecast-protocol", &[]),
    ("lanecast-packet", &[]),
    ("lanecast-camera", &[]),
    ("lanecast-viewer", &[]),
    (
        "lanecast-perf",
        &[
            "lanecast-camera",
            "lanecast-dvr",
            "lanecast-net",
            "lanecast-protocol",
            "lanecast-viewer",
            "lanecast-webrtc",
        ],
    ),
    ("lanecast-fuzz", &["lanecast-dvr", "lanecast-protocol", "lanecast-relay", "lanecast-webrtc"]),
];

#[test]
fn sans_io_crates_name_no_clock_socket_file_or_executor() {
    let mut found = vec![];
    let files = SANS_IO.iter().flat_map(|folder| rust_files(&root().join(folder).join("src")));
    let is_test = |file: &Path| {
        file.ends_with("tests.rs")
            || file.strip_prefix(root()).unwrap_or(file).components().any(|part| part.as_os_str() == "tests")
    };
    for file in files.filter(|file| !is_test(file)) {
        for (number, line) in code_lines(&file) {
            for (name, reason) in FOREIGN_TO_SANS_IO {
                if has_word(&line, name) {
                    found.push(format!("{}:{number}: {name}: {reason}", shown(&file)));
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn sans_io_crates_depend_on_no_socket_or_executor() {
    for folder in SANS_IO {
        let manifest = Manifest::read(&root().join(folder));
        for foreign in
            ["tokio", "glommio", "io-uring", "socket2", "libc", "nix", "hyper", "rand", "getrandom"]
        {
            assert!(!manifest.dependencies.contains(foreign), "{folder} depends on {foreign}");
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    let allowed = |file: &Path| UNSAFE_ALLOWED.iter().any(|folder| file.starts_with(root().join(folder)));
    let mut found = vec![];
    for file in rust_files(&root()).into_iter().filter(|file| !allowed(file)) {
        for (number, line) in code_lines(&file) {
            if has_word(&line, "unsafe") || line.contains("(unsafe_code") {
                found.push(format!("{}:{number}: {line}", shown(&file)));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for manifest in manifests() {
        let may = arrows.get(manifest.name.as_str());
        let may = may.unwrap_or_else(|| panic!("{} has no arrows in this file", manifest.name));
        for dependency in manifest.dependencies.iter().filter(|name| name.starts_with("lanecast")) {
            assert!(may.contains(&dependency.as_str()), "{} may not depend on {dependency}", manifest.name);
        }
    }
}

#[test]
fn every_crate_keeps_the_workspaces_lints_and_licence() {
    for manifest in manifests().into_iter().filter(|manifest| manifest.name != "lanecast-fuzz") {
        let inherits = |table: &str, key: &str| {
            let value = if key.is_empty() {
                manifest.table.get(table)
            } else {
                manifest.table.get(table).and_then(|t| t.get(key))
            };
            value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
        };
        assert!(
            inherits("lints", "") || documents_unsafe(&manifest),
            "{}: [lints] workspace = true",
            manifest.name
        );
        assert!(inherits("package", "license"), "{}: license.workspace = true", manifest.name);
        assert!(inherits("package", "edition"), "{}: edition.workspace = true", manifest.name);
    }
}

/// A crate that may say `unsafe` has a table of its own, which must ask for the reason of each block.
fn documents_unsafe(manifest: &Manifest) -> bool {
    let allowed = ["lanecast-net", "lanecast-packet"].contains(&manifest.name.as_str());
    let clippy = manifest.table.get("lints").and_then(|lints| lints.get("clippy"));
    let level =
        clippy.and_then(|lints| lints.get("undocumented_unsafe_blocks")).and_then(toml::Value::as_str);
    allowed && level == Some("deny")
}

#[test]
fn scripts_and_manifests_name_no_place_on_one_machine() {
    let texts = ["Cargo.toml", "tools/test.sh", "tools/run.sh", ".ci/run", ".config/nextest.toml"];
    for path in texts {
        let text = std::fs::read_to_string(root().join(path)).expect("a file of ours");
        for place in ["/tmp/", "/work/", "/root/", "/home/"] {
            assert!(!text.contains(place), "{path} names {place}");
        }
    }
}

struct Manifest {
    name: String,
    table: toml::Table,
    /// Of every kind but dev-dependencies.
    dependencies: BTreeSet<String>,
}

impl Manifest {
    fn read(folder: &Path) -> Self {
        let path = folder.join("Cargo.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = table["package"]["name"].as_str().expect("a package has a name").to_owned();
        let mut dependencies = BTreeSet::new();
        collect(&table, &mut dependencies);
        for target in
            table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values)
        {
            collect(target.as_table().expect("a table"), &mut dependencies);
        }
        Self { name, table, dependencies }
    }
}

fn collect(table: &toml::Table, dependencies: &mut BTreeSet<String>) {
    for kind in ["dependencies", "build-dependencies"] {
        for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            dependencies.insert(renamed.unwrap_or(key).to_owned());
        }
    }
}

fn manifests() -> Vec<Manifest> {
    let mut folders = vec![root()];
    let below = ["dataplane", "tools"].into_iter().flat_map(|folder| subfolders(&root().join(folder)));
    folders.extend(below.chain([root().join("perf")]).filter(|folder| folder.join("Cargo.toml").exists()));
    folders.iter().map(|folder| Manifest::read(folder)).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

/// All Rust files below, but for what builds and hidden folders hold, and this file, which names everything.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("boundary/main.rs")
            {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{} holds Rust files", folder.display());
    files
}

/// Lines of code with their numbers: no comments, and nothing from the unit tests at the file's bottom on.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut lines = vec![];
    for (index, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]"
            && text.lines().nth(index + 1).is_some_and(|next| next.contains("mod "))
        {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        if !code.trim().is_empty() {
            lines.push((index + 1, code.trim().to_owned()));
        }
    }
    lines
}

/// Whether `name` stands there and is no part of a longer name.
fn has_word(line: &str, name: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(start, _)| {
        !in_word(line[..start].chars().next_back()) && !in_word(line[start + name.len()..].chars().next())
    })
}

#[test]
fn the_reader_of_sources_reads_them_right() {
    assert!(has_word("let now = Instant::now();", "Instant::now"));
    assert!(!has_word("let unsafely = 1;", "unsafe"));
    assert!(has_word("unsafe { x() }", "unsafe"));
    assert!(!has_word("deny(unsafe_code)", "unsafe"));
}
