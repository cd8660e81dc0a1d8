//! `sheaf plan`: what a job would do, without doing it.

use sheaf_coordinator::validate::{Plan, Sources, plan_job};
use sheaf_runtime::documents::Documents;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::order::pin_now;
use sheaf_runtime::registry::Registry;

use super::{print, print_json, setup};
use crate::cli::{Format, PlanArgs};
use crate::failure::Failure;
use crate::render::{Align, Look, format, table};

/// Plans a job file.
pub async fn plan(args: PlanArgs) -> Result<Exit, Failure> {
    let loaded = setup::load(&args.file)?;
    let store = setup::store(&args.store)?;
    let mut roots = args.roots.allow_root.clone();
    roots.push(loaded.folder.clone());
    let stores = setup::stores(setup::store_options(&store, &roots)?)?;
    let now_ns = setup::now_ns();
    let mut job = loaded.file.job.clone();
    pin_now(&mut job, now_ns);
    let (registry, documents) = (Registry::new(stores.clone(), &store), Documents::new(stores.clone(), &store));
    let sources = Sources { stores: &stores, registry: &registry, documents: &documents };
    let plan = plan_job(&sources, &job, now_ns).await.map_err(|fault| refused(&loaded, fault))?;
    match args.output {
        Format::Json => print_json(&serde_json::to_value(&plan).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?),
        Format::Table => print(&text(&plan, &Look::stdout())),
    }
}

/// What keeps a job from running at all is the job's fault, as when it is submitted.
fn refused(loaded: &setup::Loaded, fault: Fault) -> Failure {
    let internal = fault.kind == Kind::Internal;
    let failure = loaded.show(fault);
    if internal { failure } else { Failure { exit: Exit::Usage, ..failure } }
}

fn text(plan: &Plan, look: &Look) -> String {
    let columns: Vec<Vec<String>> = plan
        .columns
        .iter()
        .map(|c| {
            vec![c.name.clone(), c.data_type.clone(), c.role.clone(), if c.used { "yes" } else { "no" }.to_owned(), c.why.clone()]
        })
        .collect();
    let heads =
        [("column", Align::Left), ("type", Align::Left), ("role", Align::Left), ("used", Align::Left), ("why", Align::Left)];
    let mut out = format!("Phases\n  {}\n\nSQL\n", plan.phases.join("\n  "));
    for line in plan.sql.lines() {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(&format!("\nColumns\n{}\n", table(look, &heads, &columns)));
    out.push_str(&format!(
        "\n{} rows before filters in {} load units, {} shards; about {} of memory for the encoded data, over all workers\n",
        format::count(plan.rows),
        format::count(u64::from(plan.units)),
        format::count(u64::from(plan.shards)),
        format::bytes(plan.memory_bytes)
    ));
    for warning in &plan.warnings {
        out.push_str(&format!("warning: {warning}\n"));
    }
    out
}
