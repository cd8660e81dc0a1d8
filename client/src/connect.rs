//! Which cluster a command talks to, and the connection to it. Flags come before the environment, the
//! environment before the context file.

use std::path::Path;

use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::job_service_client::JobServiceClient;
use sheaf_proto::v1::query_service_client::QueryServiceClient;
use sheaf_runtime::connect::{Target, Trust};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::secret::Secret;
use sheaf_runtime::tls::TlsFiles;

use crate::cli::{ConnectArgs, ProofArgs, TlsArgs};
use crate::context::{self, Context, Contexts, Tls, read_secret};
use crate::embedded::{Client, QueryClient};
use crate::failure::Failure;

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A cluster to talk to.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its coordinator, and what proves us to it.
    pub target: Target,
    /// Namespace of jobs that name none.
    pub namespace: String,
    /// What the coordinator allows, where its context says so.
    pub allow: Vec<String>,
}

/// The process's environment; empty values count as absent.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The cluster that arguments, environment and context file name.
pub fn place(args: &ConnectArgs) -> Result<Place, Failure> {
    let contexts = match context::path(&environment) {
        Ok(file) => context::read(&file)?,
        // Nothing is known but what was typed.
        Err(_) => Contexts::default(),
    };
    resolve(args, &environment, &contexts)
}

fn resolve(args: &ConnectArgs, env: Env, contexts: &Contexts) -> Result<Place, Failure> {
    let flagged = args.context.as_deref().map(|name| contexts.named(name)).transpose()?;
    let typed = args.addr.clone().or_else(|| flagged.map(|c| c.address.clone())).or_else(|| env("SHEAF_ADDR"));
    let chosen = match (&typed, flagged) {
        (_, Some(context)) => Some(context),
        (Some(address), None) => contexts.at(address),
        (None, None) => match env("SHEAF_CONTEXT").or_else(|| contexts.current.clone()) {
            Some(name) => Some(contexts.named(&name)?),
            None => None,
        },
    };
    let Some(address) = typed.or_else(|| chosen.map(|c| c.address.clone())) else {
        let message =
            "no cluster is known: start one with `sheaf coordinator`, or give --addr HOST:PORT, SHEAF_ADDR or a context";
        return Err(Failure::usage(message));
    };
    let own = |c: &&Context| c.secret.is_some() || c.tls.is_some();
    let trust = match (from_args(&args.proof)?, flagged.filter(own)) {
        (Some(trust), _) => Some(trust),
        (None, Some(context)) => from_context(context),
        (None, None) => from_env(env)?.or_else(|| chosen.and_then(from_context)),
    };
    let Some(trust) = trust else {
        let message = format!(
            "nothing proves you to the cluster at {address}: give --secret-file or --tls-ca, --tls-cert and --tls-key, or add a context"
        );
        return Err(Failure::new(Exit::Denied, message));
    };
    let namespace = env("SHEAF_NAMESPACE").or_else(|| chosen.and_then(|c| c.namespace.clone()));
    let allow = chosen.map(|c| c.allow.clone()).unwrap_or_default();
    let target = Target { address, trust };
    Ok(Place { target, namespace: namespace.unwrap_or_else(|| "default".to_owned()), allow })
}

/// What flags say of proofs.
pub fn from_args(args: &ProofArgs) -> Result<Option<Trust>, Failure> {
    match (&args.secret_file, tls_of(&args.tls)) {
        (Some(file), _) => Ok(Some(Trust::Secret(Secret::given(read_secret(file)?)))),
        (None, tls) => Ok(tls.map(Trust::Tls)),
    }
}

/// The certificates that flags name; clap has seen to it that there are all or none.
pub fn tls_of(args: &TlsArgs) -> Option<TlsFiles> {
    match (&args.tls_ca, &args.tls_cert, &args.tls_key) {
        (Some(ca), Some(certificate), Some(key)) => {
            Some(TlsFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    }
}

fn from_context(context: &Context) -> Option<Trust> {
    let files = |Tls { ca, certificate, key }| Trust::Tls(TlsFiles { ca, certificate, key });
    let tls = context.tls.clone().map(files);
    tls.or_else(|| context.secret.clone().map(|secret| Trust::Secret(Secret::given(secret))))
}

/// The certificates that the environment names.
pub fn from_env_tls(env: Env) -> Result<Option<TlsFiles>, Failure> {
    match (env("SHEAF_TLS_CA"), env("SHEAF_TLS_CERT"), env("SHEAF_TLS_KEY")) {
        (Some(ca), Some(certificate), Some(key)) => {
            Ok(Some(TlsFiles { ca: ca.into(), certificate: certificate.into(), key: key.into() }))
        }
        (None, None, None) => Ok(None),
        _ => Err(Failure::usage("SHEAF_TLS_CA, SHEAF_TLS_CERT and SHEAF_TLS_KEY belong together: set all three")),
    }
}

/// What the environment says of proofs.
pub fn from_env(env: Env) -> Result<Option<Trust>, Failure> {
    if let Some(tls) = from_env_tls(env)? {
        return Ok(Some(Trust::Tls(tls)));
    }
    if let Some(secret) = env("SHEAF_SECRET") {
        return Ok(Some(Trust::Secret(Secret::given(secret))));
    }
    let file = env("SHEAF_SECRET_FILE");
    Ok(file.map(|file| read_secret(Path::new(&file))).transpose()?.map(|secret| Trust::Secret(Secret::given(secret))))
}

/// Connects to the coordinator of a place; what cannot be reached is said at once.
pub async fn connect(place: &Place) -> Result<Client, Failure> {
    let channel = sheaf_runtime::connect::connect(&place.target).await?;
    Ok(JobServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// Connects to the coordinator of a place to ask questions in SQL.
pub async fn connect_to_ask(place: &Place) -> Result<QueryClient, Failure> {
    let channel = sheaf_runtime::connect::connect(&place.target).await?;
    Ok(QueryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let mut contexts = Contexts { version: 1, ..Contexts::default() };
        let context = |address: &str, secret: &str| Context {
            address: address.into(),
            secret: Some(secret.into()),
            namespace: Some(format!("of-{secret}")),
            ..Context::default()
        };
        contexts.put("one", context("h:1", "first")).unwrap();
        contexts.put("two", context("h:2", "second")).unwrap();
        contexts
    }

    fn found(args: ConnectArgs, env: &[(&str, &str)]) -> Result<(String, String, String), Exit> {
        let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let place = resolve(&args, &lookup, &contexts()).map_err(|f| f.exit)?;
        let Trust::Secret(secret) = place.target.trust else { panic!("no secret") };
        Ok((place.target.address, secret.expose().to_owned(), place.namespace))
    }

    fn expect(address: &str, secret: &str, namespace: &str) -> Result<(String, String, String), Exit> {
        Ok((address.to_owned(), secret.to_owned(), namespace.to_owned()))
    }

    fn addr(addr: &str) -> ConnectArgs {
        ConnectArgs { addr: Some(addr.to_owned()), ..ConnectArgs::default() }
    }

    fn named(name: &str) -> ConnectArgs {
        ConnectArgs { context: Some(name.to_owned()), ..ConnectArgs::default() }
    }

    #[test]
    fn flags_then_environment_then_contexts() {
        assert_eq!(found(ConnectArgs::default(), &[]), expect("h:1", "first", "of-first"));
        assert_eq!(found(ConnectArgs::default(), &[("SHEAF_CONTEXT", "two")]), expect("h:2", "second", "of-second"));
        assert_eq!(found(ConnectArgs::default(), &[("SHEAF_ADDR", "h:2")]), expect("h:2", "second", "of-second"));
        let env = [("SHEAF_ADDR", "h:9"), ("SHEAF_SECRET", "third"), ("SHEAF_NAMESPACE", "n")];
        assert_eq!(found(ConnectArgs::default(), &env), expect("h:9", "third", "n"));
        assert_eq!(found(addr("h:2"), &[("SHEAF_ADDR", "h:9")]), expect("h:2", "second", "of-second"));
        assert_eq!(found(named("two"), &env[..2]), expect("h:2", "second", "of-second"));
        // Another way to a named cluster.
        let args = ConnectArgs { addr: Some("tunnel:1".into()), ..named("two") };
        assert_eq!(found(args, &[]), expect("tunnel:1", "second", "of-second"));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(found(named("three"), &[]), Err(Exit::NotFound));
        assert_eq!(found(addr("h:9"), &[]), Err(Exit::Denied));
        assert_eq!(found(addr("h:9"), &[("SHEAF_TLS_CA", "ca.pem")]), Err(Exit::Usage));
        let nothing = resolve(&ConnectArgs::default(), &|_| None, &Contexts::default()).unwrap_err();
        assert!(nothing.exit == Exit::Usage && nothing.message.contains("sheaf coordinator"));
    }
}
