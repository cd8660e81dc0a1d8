//! `sheaf top`: the cluster on one screen, or one snapshot of it for programs.

use std::io::IsTerminal as _;

use sheaf_runtime::exit::Exit;

use super::{print, print_json, wait};
use crate::cli::{Format, TopArgs};
use crate::connect::{Place, connect, place};
use crate::failure::Failure;
use crate::top::{Connect, History, Screen, Snapshot, draw, live, take};

/// Shows the cluster until the user leaves, or once.
pub fn top(args: TopArgs) -> Result<Exit, Failure> {
    let place = place(&args.connect)?;
    if args.once {
        let snapshot = wait(once(&place))?;
        return match args.output {
            Format::Json => print_json(&serde_json::to_value(&snapshot).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?),
            Format::Table => print(&drawn(&snapshot)?),
        };
    }
    if args.output == Format::Json {
        return Err(Failure::usage("`-o json` needs --once: a screen is no JSON"));
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let message =
            "standard input and output are not a terminal; `sheaf top --once` prints one snapshot, `-o json` for programs";
        return Err(Failure::usage(message));
    }
    let address = place.target.address.clone();
    wait(live(address, connector(place)))?;
    Ok(Exit::Done)
}

async fn once(place: &Place) -> Result<Snapshot, Failure> {
    let mut client = connect(place).await?;
    Ok(take(&mut client, &place.target.address, None).await?)
}

fn connector(place: Place) -> Connect {
    Box::new(move || {
        let place = place.clone();
        Box::pin(async move { connect(&place).await })
    })
}

/// The screen as text, as wide as the terminal and as high as it needs to be.
fn drawn(snapshot: &Snapshot) -> Result<String, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("draw: {e}"));
    let width = comfy_table::Table::new().width().unwrap_or(120).clamp(40, 200);
    // High enough that every table has room in its share; what stays empty is left out below.
    let rows = snapshot.jobs.len().max(snapshot.workers.len());
    let height = u16::try_from(rows * 3 + 40).unwrap_or(u16::MAX).min(400);
    let mut history = History::default();
    history.add(snapshot);
    let screen = Screen { history, ..Screen::default() };
    let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, height)).map_err(|e| failed(&e))?;
    terminal.draw(|frame| draw(frame, snapshot, &screen)).map_err(|e| failed(&e))?;
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    let empty = |line: &String| line.strip_prefix('│').and_then(|l| l.strip_suffix('│')).is_some_and(|l| l.trim().is_empty());
    // The keys in the last line are none here.
    Ok((0..height - 1).map(line).filter(|line| !empty(line)).collect::<Vec<_>>().join("\n"))
}
