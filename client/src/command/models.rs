//! `sheaf models`: reads the registry; needs no coordinator.

use serde_json::{Value, json};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::registry::{Record, Registry};

use super::{print, print_json, setup};
use crate::cli::{Format, ListArgs, ShowArgs, StoreArgs};
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

/// The manifest as people and scripts see it.
fn manifest(record: &Record) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(record).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
    value["metrics"] = record.result["metrics"].clone();
    value["rows"] = record.result["rows"].clone();
    value["algorithm"] = json!(record.job.train.as_ref().map(|t| &t.algorithm));
    value["parameters"] = json!(record.job.train.as_ref().map(|t| &t.params));
    Ok(value)
}
