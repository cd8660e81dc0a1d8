//! `sheaf pki`: the cluster's own authority. Works on files alone; no cluster needs to run.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sheaf_runtime::auth::Role;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::pki::{Authority, CA_CERTIFICATE, CA_KEY, Order, PkiError, write_new, write_over};
use sheaf_runtime::tls::{Leaf, TlsError, fingerprint, read_certificates};

use crate::cli::Format;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  sheaf pki init                                            make the authority in pki/ (keep pki/ca.key safe)
  sheaf pki issue --role coordinator --name c1 --host c1.example.net --host 10.0.0.5
  sheaf coordinator --listen 0.0.0.0:7433 --tls-cert c1.pem --tls-key c1.key --tls-ca ca.pem --pki pki
  sheaf pki token --ttl 1h > join.token                     then on another machine:
  sheaf worker --join c1.example.net:7433 --token-file join.token --state /var/lib/sheaf
  sheaf pki issue --role client --name ada                  for a person's own machine
  sheaf pki show c1.pem";

/// `sheaf pki`.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum PkiCommand {
    /// Makes an authority: a key and a certificate in a folder; one that is there is never overwritten
    #[command(after_help = "Example:\n  sheaf pki init --pki /etc/sheaf/pki")]
    Init(InitArgs),
    /// Issues a certificate with its key: NAME.pem and NAME.key, with the authority's ca.pem beside them
    #[command(
        after_help = "Examples:\n  sheaf pki issue --role coordinator --name c1 --host c1.example.net --host 10.0.0.5\n  sheaf pki issue --role client --name ada --days 30 --out ~/.sheaf\n  sheaf pki issue --role coordinator --name c1 --host c1.example.net --replace    (a running coordinator takes it up)"
    )]
    Issue(IssueArgs),
    /// Prints a join token: with it one worker gets a certificate, once
    #[command(
        after_help = "Example:\n  sheaf pki token --ttl 30m > join.token\n  sheaf worker --join c1.example.net:7433 --token-file join.token --state /var/lib/sheaf"
    )]
    Token(TokenArgs),
    /// Shows what certificates say: name, role, hosts, validity, fingerprint
    #[command(after_help = "Examples:\n  sheaf pki show c1.pem\n  sheaf pki show pki/ca.pem c1.pem -o json")]
    Show(ShowArgs),
}

/// Where the authority is.
#[derive(Debug, Args)]
pub struct AuthorityArgs {
    /// Folder of the authority
    #[arg(long, env = "SHEAF_PKI", default_value = "pki", value_name = "DIR")]
    pub pki: PathBuf,
}

/// `sheaf pki init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The authority.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// What people call the authority
    #[arg(long, default_value = "sheaf-authority")]
    pub name: String,
    /// How long it is good for; no certificate outlives it
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

/// `sheaf pki issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The authority.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// What the holder is: coordinator, worker or client
    #[arg(long)]
    pub role: Role,
    /// What people call the holder; also names the files
    #[arg(long)]
    pub name: String,
    /// DNS name or address by which others reach it (a coordinator has at least one)
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// How long the certificate is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=825))]
    pub days: u32,
    /// Folder for the files
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub out: PathBuf,
    /// Replaces files that are there
    #[arg(long)]
    pub replace: bool,
}

/// `sheaf pki token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The authority.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// How long it can be used, such as 30m, 1h or 2d; at most 7d
    #[arg(long, default_value = "1h", value_parser = span, value_name = "TIME")]
    pub ttl: Duration,
    /// What whoever uses it becomes
    #[arg(long, default_value = "worker")]
    pub role: Role,
}

/// `sheaf pki show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Certificates (PEM)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Format,
}

/// A span of time: `90s`, `30m`, `1h`, `2d`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write it as 90s, 30m, 1h or 2d");
    let unit = match text.chars().last().ok_or_else(wrong)? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

/// Runs a command of `sheaf pki`.
pub fn pki(command: PkiCommand) -> Result<Exit, Failure> {
    match command {
        PkiCommand::Init(args) => init(&args),
        PkiCommand::Issue(args) => issue(&args),
        PkiCommand::Token(args) => token(&args),
        PkiCommand::Show(args) => show(&args),
    }
}

fn init(args: &InitArgs) -> Result<Exit, Failure> {
    let dir = &args.authority.pki;
    let authority = Authority::init(dir, &args.name, days(args.days))?;
    println!("authority `{}` in {}, good for {} days", args.name, dir.display(), args.days);
    println!("  {CA_CERTIFICATE}  its certificate, for everyone: {}", authority.fingerprint());
    println!("  {CA_KEY}  its key: who has it can let anyone in; coordinators started with --pki need it, nobody else");
    Ok(Exit::Done)
}

fn issue(args: &IssueArgs) -> Result<Exit, Failure> {
    let authority = open(&args.authority)?;
    let order = Order { role: args.role, name: args.name.clone(), hosts: args.host.clone(), life: days(args.days) };
    let issued = authority.issue(&order)?;
    let out = &args.out;
    std::fs::create_dir_all(out).map_err(|e| Failure::usage(format!("create the folder {}: {e}", out.display())))?;
    let (certificate, key, ca) =
        (out.join(format!("{}.pem", args.name)), out.join(format!("{}.key", args.name)), out.join(CA_CERTIFICATE));
    if certificate == ca || key.file_name() == Some(CA_KEY.as_ref()) {
        return Err(Failure::usage("`ca` is the authority's own name; choose another --name"));
    }
    if !args.replace
        && let Some(there) = [&certificate, &key].into_iter().find(|path| path.exists())
    {
        return Err(Failure::usage(format!("{} exists already; give --replace to overwrite it", there.display())));
    }
    place_authority(&ca, authority.pem())?;
    write_over(&key, 0o600, &issued.key)?;
    write_over(&certificate, 0o644, &issued.certificate)?;
    println!("{} {} {}", certificate.display(), key.display(), ca.display());
    println!("`{}` is a {} for {} days; give them as --tls-cert, --tls-key and --tls-ca", args.name, args.role, args.days);
    Ok(Exit::Done)
}

/// Puts the authority's certificate beside what it issued; that of another authority is not touched.
fn place_authority(path: &Path, pem: &str) -> Result<(), Failure> {
    match write_new(path, 0o644, pem) {
        Err(PkiError::Exists { .. }) => {
            let there = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("read {}: {e}", path.display())))?;
            if there.contains(pem) {
                return Ok(());
            }
            Err(Failure::usage(format!("{} is of another authority; choose another folder with --out", path.display())))
        }
        other => Ok(other?),
    }
}

fn token(args: &TokenArgs) -> Result<Exit, Failure> {
    let token = open(&args.authority)?.token(args.role, args.ttl)?;
    println!("{}", token.expose());
    eprintln!(
        "one {} can join with it within {} s; who has it is let in, so hand it over in private",
        args.role,
        args.ttl.as_secs()
    );
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    for path in &args.files {
        for certificate in read_certificates(path)? {
            let content = |reason| TlsError::Content { what: "certificate", path: path.clone(), reason };
            let leaf = Leaf::read(&certificate).map_err(content)?;
            all.push((path, leaf, fingerprint(&certificate)));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    match args.output {
        Format::Json => {
            let all: Vec<Value> = all.iter().map(|(path, leaf, print)| described(path, leaf, print)).collect();
            println!("{}", json!({ "certificates": all }));
        }
        Format::Table => all.iter().for_each(|(path, leaf, print)| print_one(path, leaf, print, now)),
    }
    Ok(Exit::Done)
}

fn described(path: &Path, leaf: &Leaf, fingerprint: &str) -> Value {
    json!({
        "file": path.display().to_string(),
        "name": leaf.name,
        "role": leaf.role.map(Role::name),
        "hosts": leaf.hosts,
        "not_before": moment(leaf.not_before),
        "not_after": moment(leaf.not_after),
        "serial": leaf.serial,
        "sha256": fingerprint,
    })
}

fn print_one(path: &Path, leaf: &Leaf, fingerprint: &str, now: i64) {
    let role = leaf.role.map_or("no role (an authority, or not ours)", Role::name);
    let state = match (now < leaf.not_before, leaf.not_after - now) {
        (true, _) => "not valid yet".to_owned(),
        (false, left) if left < 0 => "EXPIRED".to_owned(),
        (false, left) if left < 2 * 86_400 => format!("{} h left", left / 3600),
        (false, left) => format!("{} days left", left / 86_400),
    };
    println!("{}", path.display());
    println!("  name     {}", leaf.name);
    println!("  role     {role}");
    if !leaf.hosts.is_empty() {
        println!("  hosts    {}", leaf.hosts.join(", "));
    }
    println!("  valid    {} to {} ({state})", moment(leaf.not_before), moment(leaf.not_after));
    println!("  serial   {}", leaf.serial);
    println!("  sha256   {fingerprint}");
}

fn moment(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .map_or_else(|| seconds.to_string(), |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn open(args: &AuthorityArgs) -> Result<Authority, Failure> {
    let missing = !args.pki.join(CA_CERTIFICATE).exists();
    Authority::open(&args.pki).map_err(|error| match missing {
        true => Failure::new(
            Exit::NotFound,
            format!("there is no authority in {}; make one with `sheaf pki init`, or give --pki DIR", args.pki.display()),
        ),
        false => error.into(),
    })
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(span("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(span("2d").unwrap(), Duration::from_secs(172_800));
        for bad in ["", "h", "1", "1.5h", "-1h", "1w", "99999999999999999999d", "1é"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
