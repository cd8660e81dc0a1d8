//! `simulate`: runs the whole-system simulation from the command line: one seed with its trace, or many
//! in parallel with a table of what happened.

use std::process::ExitCode;
use std::time::Instant;

use sheaf_tests::simulation::{Mutation, many, run};

const USAGE: &str = "usage: simulate --seed N [--trace] [--mutation NAME]
       simulate --seeds COUNT [--first N] [--threads N] [--mutation NAME]

  --seed N          run this seed
  --trace           print every line of its trace
  --seeds COUNT     run so many seeds, from --first (default 1) on
  --threads N       on so many threads (default: one for each core)
  --mutation NAME   break the system on purpose; `list` names the mutations";

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    trace: bool,
    seeds: Option<u64>,
    first: Option<u64>,
    threads: Option<usize>,
    mutation: Option<Mutation>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(arguments) => simulate(&arguments),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--trace" => arguments.trace = true,
            "--seed" => arguments.seed = Some(number(&word, &value()?)?),
            "--seeds" => arguments.seeds = Some(number(&word, &value()?)?),
            "--first" => arguments.first = Some(number(&word, &value()?)?),
            "--threads" => arguments.threads = Some(number(&word, &value()?)?),
            "--mutation" => arguments.mutation = Some(mutation(&value()?)?),
            _ => return Err(format!("unknown argument `{word}`\n{USAGE}")),
        }
    }
    if arguments.seed.is_some() == arguments.seeds.is_some() {
        return Err(format!("give either --seed or --seeds\n{USAGE}"));
    }
    Ok(arguments)
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: `{text}` is not a whole number from 0 on"))
}

fn mutation(name: &str) -> Result<Mutation, String> {
    Mutation::named(name).ok_or_else(|| {
        let names: Vec<&str> = Mutation::ALL.into_iter().map(Mutation::name).collect();
        format!("no mutation `{name}`; there are {}", names.join(", "))
    })
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let failed = match arguments.seed {
        Some(seed) => {
            let verdict = run(seed, arguments.mutation, arguments.trace);
            println!("seed {seed} ({}): {} lines, trace hash {:016x}", verdict.character, verdict.lines, verdict.hash);
            println!("{:#?}", verdict.counts);
            verdict.failure.into_iter().collect()
        }
        None => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = arguments.threads.unwrap_or(cores);
            let seeds = arguments.seeds.unwrap_or(0);
            let summary = many(arguments.first.unwrap_or(1), seeds, threads, arguments.mutation, false);
            print!("{summary}");
            println!("  {:<40} {:>14.1}", "time taken, seconds", began.elapsed().as_secs_f64());
            summary.failures
        }
    };
    for failure in &failed {
        println!("\n{failure}");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}
