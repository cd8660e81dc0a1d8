//! `sheaf context`: the clusters that a user knows by name.

use serde_json::{Value, json};
use sheaf_runtime::connect::Trust;
use sheaf_runtime::exit::Exit;

use super::{print, print_json};
use crate::cli::{ContextAddArgs, ContextCommand, Format};
use crate::connect::{environment, from_args};
use crate::context::{self, Context, Contexts, Tls};
use crate::failure::Failure;
use crate::render::{Align, Look, table};

/// Runs a command on the context file.
pub fn context(command: ContextCommand) -> Result<Exit, Failure> {
    let file = context::path(&environment)?;
    let mut contexts = context::read(&file)?;
    let said = match command {
        ContextCommand::List { output: Format::Json } => return print_json(&list_json(&contexts)),
        ContextCommand::List { output: Format::Table } => return print(&list(&contexts)),
        ContextCommand::Use { name } => {
            contexts.named(&name)?;
            contexts.current = Some(name.clone());
            format!("commands use context {name} from now on")
        }
        ContextCommand::Add(args) => {
            let name = args.name.clone();
            contexts.put(&name, made(args)?)?;
            format!("context {name} is saved in {}", file.display())
        }
        ContextCommand::Remove { name } => {
            contexts.remove(&name)?;
            format!("context {name} is removed")
        }
    };
    context::write(&file, &contexts)?;
    print(&said)
}

fn made(args: ContextAddArgs) -> Result<Context, Failure> {
    let valid = args.addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !valid {
        return Err(Failure::usage(format!("`{}` is not HOST:PORT", args.addr)));
    }
    let mut context = Context { address: args.addr, namespace: args.namespace, ..Context::default() };
    match from_args(&args.proof)? {
        Some(Trust::Secret(secret)) => context.secret = Some(secret.expose().to_owned()),
        Some(Trust::Tls(files)) => {
            let mut tls = Tls { ca: files.ca, certificate: files.certificate, key: files.key };
            for path in [&mut tls.ca, &mut tls.certificate, &mut tls.key] {
                *path = std::path::absolute(&*path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
            }
            context.tls = Some(tls);
        }
        None => {}
    }
    Ok(context)
}

/// How a context proves who uses it, without saying a secret.
fn proof(context: &Context) -> &'static str {
    match (&context.tls, &context.secret) {
        (Some(_), _) => "certificates",
        (None, Some(_)) => "secret",
        (None, None) => "none",
    }
}

fn list(contexts: &Contexts) -> String {
    if contexts.contexts.is_empty() {
        return "no contexts; `sheaf coordinator` saves one, `sheaf context add` another".to_owned();
    }
    let heads = [
        ("", Align::Whole),
        ("context", Align::Left),
        ("address", Align::Left),
        ("proof", Align::Left),
        ("namespace", Align::Left),
    ];
    let row = |(name, context): (&String, &Context)| {
        let mark = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        let namespace = context.namespace.as_deref().unwrap_or("default");
        vec![mark.to_owned(), name.clone(), context.address.clone(), proof(context).to_owned(), namespace.to_owned()]
    };
    let rows: Vec<Vec<String>> = contexts.contexts.iter().map(row).collect();
    table(&Look::stdout(), &heads, &rows)
}

fn list_json(contexts: &Contexts) -> Value {
    let one = |(name, context): (&String, &Context)| {
        json!({
            "name": name,
            "current": contexts.current.as_ref() == Some(name),
            "address": context.address,
            "proof": proof(context),
            "namespace": context.namespace.as_deref().unwrap_or("default"),
        })
    };
    Value::Array(contexts.contexts.iter().map(one).collect())
}
