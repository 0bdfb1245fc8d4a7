//! Where raw results are kept: `<date>-<scenario>.json`.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::machine;

/// Keeps the raw samples of a run by date, and prints where.
///
/// # Errors
/// When the folder cannot be written.
pub fn keep(folder: &Path, scenario: &str, samples: &impl Serialize) -> anyhow::Result<()> {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d-%H%M"]).output()?.stdout;
    let date = String::from_utf8_lossy(&date).trim().to_owned();
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{date}-{scenario}.json"));
    let raw = serde_json::json!({"machine": machine::describe(), "samples": samples});
    std::fs::write(&path, serde_json::to_vec_pretty(&raw)?)?;
    println!("{}", path.display());
    Ok(())
}
