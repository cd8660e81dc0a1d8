//! The screen drawn at fixed sizes, and what keys do.
#![expect(clippy::unwrap_used, reason = "tests")]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::screen::Dialog;
use super::*;

fn snapshot() -> Snapshot {
    let job = |id: &str, name: &str, state: &str| JobRow {
        job: id.into(),
        name: name.into(),
        namespace: "default".into(),
        state: state.into(),
        ..JobRow::default()
    };
    let worker = |number: u64, compute_ns: u64| WorkerRow {
        worker: number,
        name: format!("node-{number}"),
        state: "ready".into(),
        threads: 4,
        memory_bytes: 1 << 30,
        cache_bytes: 300 << 20,
        spilled_bytes: 0,
        owed_shards: number - 1,
        rows_per_second: 1_234_567.0,
        spent: Shares { read_ns: 100, compute_ns, merge_ns: 50, wait_ns: 150 },
    };
    Snapshot {
        address: "127.0.0.1:7433".into(),
        version: "0.1.0".into(),
        term: 3,
        store: "/srv/sheaf".into(),
        jobs: vec![
            JobRow {
                phase: "train".into(),
                done: 12,
                total: 31,
                rows_per_second: 4_800_000.0,
                step: Some(12),
                loss: Some(0.0123),
                ..job("01KM3F0000A", "card-fraud", "running")
            },
            JobRow { note: "waits for its turn: 4 jobs run, 0 are ahead".into(), ..job("01KM3F0000B", "churn", "queued") },
            JobRow { note: "shard 7 failed 3 times".into(), ..job("01KM3F0000C", "prices", "failed") },
        ],
        queued_jobs: 1,
        running_jobs: 1,
        workers: vec![worker(1, 300), worker(2, 700)],
        log: vec![
            LogRow { time_ms: 1_000, level: "info".into(), phase: "train".into(), text: "phase started".into() },
            LogRow { time_ms: 61_000, level: "warn".into(), phase: "train".into(), text: "worker 3\nlost".into() },
        ],
    }
}

fn screen(snapshot: &Snapshot) -> Screen {
    let mut screen = Screen::default();
    let mut then = snapshot.clone();
    for step in 1..=8 {
        then.jobs[0].step = Some(step);
        then.jobs[0].loss = Some(1.0 / step as f64);
        then.workers.iter_mut().for_each(|worker| worker.spent = Shares::default());
        screen.history.add(&then);
    }
    screen.history.add(snapshot);
    screen
}

fn drawn(width: u16, height: u16, snapshot: &Snapshot, screen: &Screen) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, snapshot, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(line).collect()
}

fn press(screen: &mut Screen, snapshot: &Snapshot, code: KeyCode) -> Option<Order> {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE), snapshot)
}

#[test]
fn a_usual_and_a_narrow_terminal() {
    let (snapshot, mut screen) = (snapshot(), Screen::default());
    screen.history = self::screen(&snapshot).history;
    let usual = drawn(80, 24, &snapshot, &screen);
    assert_eq!(usual, include_str!("texts/80x24.txt"), "\n{usual}");
    let narrow = drawn(40, 12, &snapshot, &screen);
    assert_eq!(narrow, include_str!("texts/40x12.txt"), "\n{narrow}");
}

#[test]
fn no_size_and_no_cluster_is_too_small() {
    let (full, empty) = (snapshot(), Snapshot::default());
    for (width, height) in [(1, 1), (3, 2), (10, 5), (20, 8), (200, 60)] {
        for snapshot in [&full, &empty] {
            for dialog in [Dialog::None, Dialog::Help, Dialog::Confirm(Order::Quit, "a question ".repeat(20))] {
                drawn(width, height, snapshot, &Screen { dialog, away: true, ..Screen::default() });
            }
        }
    }
    let text = drawn(80, 24, &empty, &Screen { away: true, ..Screen::default() });
    assert!(text.contains("reconnecting") && text.contains("no jobs") && text.contains("no workers"), "{text}");
}

#[test]
fn that_the_coordinator_is_away_is_said_at_every_width() {
    let away = Screen { away: true, message: "connection refused".into(), ..Screen::default() };
    for width in [30, 40, 80] {
        let text = drawn(width, 12, &snapshot(), &away);
        assert!(text.lines().next().unwrap().ends_with("reconnecting"), "{text}");
        assert!(text.lines().last().unwrap().starts_with("connection refused"), "{text}");
    }
}

#[test]
fn orders_are_given_after_a_yes_only() {
    let (snapshot, mut screen) = (snapshot(), Screen::default());
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('c')), None);
    assert!(drawn(80, 24, &snapshot, &screen).contains("Cancel job card-fraud (01KM3F0000A)?"));
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('n')), None);
    assert_eq!(screen.dialog, Dialog::None);
    press(&mut screen, &snapshot, KeyCode::Char('c'));
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('y')), Some(Order::Cancel("01KM3F0000A".into())));
    // A job that has ended is not asked about.
    press(&mut screen, &snapshot, KeyCode::End);
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('c')), None);
    assert!(screen.dialog == Dialog::None && screen.message.contains("failed already"), "{}", screen.message);
    press(&mut screen, &snapshot, KeyCode::Tab);
    press(&mut screen, &snapshot, KeyCode::Down);
    press(&mut screen, &snapshot, KeyCode::Char('d'));
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('y')), Some(Order::Drain(2)));
    press(&mut screen, &snapshot, KeyCode::Char('?'));
    assert!(drawn(80, 24, &snapshot, &screen).contains("drain the worker"));
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('q')), None, "a key closes the help first");
    assert_eq!(press(&mut screen, &snapshot, KeyCode::Char('q')), Some(Order::Quit));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.key(interrupt, &snapshot), Some(Order::Quit));
}

#[test]
fn a_selection_stays_with_its_job() {
    let (mut snapshot, mut screen) = (snapshot(), Screen::default());
    press(&mut screen, &snapshot, KeyCode::Down);
    assert_eq!(screen.selected(&snapshot).unwrap().name, "churn");
    snapshot.jobs.swap(0, 1);
    assert_eq!(screen.selected(&snapshot).unwrap().name, "churn");
    snapshot.jobs.remove(0);
    assert_eq!(screen.selected(&snapshot).unwrap().name, "card-fraud");
    for _ in 0..9 {
        press(&mut screen, &snapshot, KeyCode::Down);
    }
    assert_eq!(screen.job_at(&snapshot), snapshot.jobs.len() - 1);
}

#[test]
fn history_is_bounded() {
    let (mut snapshot, mut history) = (snapshot(), History::default());
    for step in 0..5_000 {
        snapshot.jobs[0].step = Some(step);
        snapshot.jobs[0].loss = Some(f64::from(5_000 - step as u32));
        history.add(&snapshot);
    }
    let losses = history.losses("01KM3F0000A");
    assert!(losses.len() <= 240 && losses.windows(2).all(|pair| pair[0] > pair[1]), "{}", losses.len());
    history.add(&Snapshot::default());
    assert!(history.losses("01KM3F0000A").is_empty());
}
