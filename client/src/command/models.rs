//! `sheaf models`: reads the registry, exports from it; needs no coordinator.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use sheaf_runtime::artifact::Artifact;
use sheaf_runtime::documents::Documents;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::onnx;
use sheaf_runtime::registry::{Record, Registry};

use super::{print, print_json, setup};
use crate::cli::{ExportArgs, Format, ListArgs, ShowArgs, StoreArgs};
use crate::failure::Failure;
use crate::render::{Look, model_card, models_table};

/// Opens the registry of a store.
pub fn registry(args: &StoreArgs) -> Result<Registry, Failure> {
    let store = setup::store(args)?;
    let stores = setup::stores(setup::store_options(&store, &[])?)?;
    Ok(Registry::new(stores, store))
}

/// Lists all models.
pub async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let registry = registry(&args.store)?;
    let mut models = Vec::new();
    for record in registry.list().await? {
        let aliases = registry.aliases(record.name.as_deref().unwrap_or_default()).await?;
        let own: Vec<&String> = aliases.iter().filter(|(_, v)| Some(**v) == record.version).map(|(a, _)| a).collect();
        let mut manifest = manifest(&record)?;
        manifest["aliases"] = json!(own);
        models.push(manifest);
    }
    match args.output {
        Format::Json => print_json(&Value::Array(models)),
        Format::Table => print(&models_table(&models, &Look::stdout())),
    }
}

/// Shows one model.
pub async fn show(args: ShowArgs) -> Result<Exit, Failure> {
    let record = registry(&args.store)?.resolve(&args.model).await?;
    let manifest = manifest(&record)?;
    match args.output {
        Format::Json => print_json(&manifest),
        Format::Table => print(&model_card(&manifest, &Look::stdout())),
    }
}

/// Writes a model as a file of another format: whole, or not at all.
pub async fn export(args: ExportArgs) -> Result<Exit, Failure> {
    let store = setup::store(&args.store)?;
    let stores = setup::stores(setup::store_options(&store, &[])?)?;
    let record = Registry::new(stores.clone(), &store).resolve(&args.model).await?;
    let artifact = Artifact::load(&Documents::new(stores, &store), &record.artifact, &record.sha256).await?;
    let bytes = onnx::export(&artifact).map_err(Fault::from)?;
    write_whole(&args.out, &bytes)
        .map_err(|e| Failure::new(Exit::Failed, format!("write {}: {e}; name another file in `--out`", args.out.display())))?;
    let (file, size) = (args.out.display().to_string(), bytes.len());
    match args.output {
        Format::Json => print_json(&json!({
            "model": args.model, "name": record.name, "version": record.version, "sha256": record.sha256,
            "format": args.format, "file": file, "bytes": size,
        })),
        Format::Table => print(&format!("wrote {} as {} to {file} ({size} bytes)", args.model, args.format)),
    }
}

fn write_whole(out: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(".sheaf-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(out)?;
    Ok(())
}

/// The manifest as people and scripts see it.
fn manifest(record: &Record) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(record).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    value["metrics"] = record.result["metrics"].clone();
    value["rows"] = record.result["rows"].clone();
    for key in ["classes", "confusion"] {
        if let Some(found) = record.result.get(key) {
            value[key] = found.clone();
        }
    }
    value["algorithm"] = json!(record.job.train.as_ref().map(|t| &t.algorithm));
    value["parameters"] = json!(record.job.train.as_ref().map(|t| &t.params));
    Ok(value)
}
