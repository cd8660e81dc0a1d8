//! Log lines: the fields of an event and of the spans around it, flat, as text or as JSON. Of two fields
//! of one name the inner one counts.

use std::fmt::Write as _;
use std::io::Write as _;

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// Names that every JSON line has; a field of such a name is written with an underscore behind it.
const RESERVED: [&str; 4] = ["ts", "level", "target", "message"];

/// Writes a line for each event.
pub struct Lines<W> {
    format: LogFormat,
    writer: W,
}

impl<W> Lines<W> {
    /// Lines of a format to a writer.
    pub fn new(format: LogFormat, writer: W) -> Self {
        Self { format, writer }
    }
}

/// Fields in the order in which they came.
#[derive(Debug, Clone, Default)]
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.set(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Numbers that JSON cannot say are written as text.
        let text = || Value::String(value.to_string());
        self.set(field.name(), serde_json::Number::from_f64(value).map_or_else(text, Value::Number));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.set(field.name(), Value::String(text));
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                outer.0.iter().for_each(|(name, value)| fields.set(name, value.clone()));
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        // Lines of crates that use `log` name their module in a field.
        let module = fields.take("log.target").and_then(|target| target.as_str().map(str::to_owned));
        fields.0.retain(|(name, _)| !name.starts_with("log."));
        let message = fields.take("message").and_then(|message| message.as_str().map(str::to_owned)).unwrap_or_default();
        let target = module.as_deref().unwrap_or(metadata.target());
        let ts = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut line = match self.format {
            LogFormat::Json => json(&ts, metadata.level().as_str(), target, &message, fields),
            LogFormat::Text => text(&ts, metadata.level().as_str(), &message, &fields),
        };
        line.push('\n');
        // A log that cannot be written has nowhere to say so.
        let _ = self.writer.make_writer_for(metadata).write_all(line.as_bytes());
    }
}

fn json(ts: &str, level: &str, target: &str, message: &str, fields: Fields) -> String {
    let mut line = Map::new();
    for (name, value) in RESERVED.into_iter().zip([ts, level, target, message]) {
        line.insert(name.to_owned(), Value::from(value));
    }
    for (name, value) in fields.0 {
        let name = if RESERVED.contains(&name.as_str()) { format!("{name}_") } else { name };
        line.insert(name, value);
    }
    Value::Object(line).to_string()
}

fn text(ts: &str, level: &str, message: &str, fields: &Fields) -> String {
    let mut line = format!("{ts} {level} ");
    // One event is one line, whatever a message holds.
    line.extend(message.chars().map(|c| if c.is_control() { ' ' } else { c }));
    for (name, value) in &fields.0 {
        let plain = |text: &&str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        match value.as_str().filter(plain) {
            Some(text) => line.extend([" ", name, "=", text]),
            None => line.extend([" ", name, "=", &value.to_string()]),
        }
    }
    line
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::{error_span, info, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let shared = Shared::default();
        let writer = shared.clone();
        let subscriber = tracing_subscriber::registry().with(Lines::new(format, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = shared.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn events() {
        let job = error_span!("job", job = "01J", phase = tracing::field::Empty);
        let _job = job.enter();
        info!(workers = 2, "started");
        job.record("phase", "plan");
        job.record("phase", "train");
        let _stage = error_span!("stage", stage = 3, phase = "inner").entered();
        warn!(level = "avx2", ratio = f64::NAN, text = "two\nlines", "odd\nmessage");
    }

    #[test]
    fn json_lines_are_flat_and_one_each() {
        let lines = lines(LogFormat::Json, events);
        assert_eq!(lines.len(), 2);
        let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed[0]["job"], "01J");
        assert_eq!(parsed[0]["workers"], 2);
        assert_eq!(parsed[0]["level"], "INFO");
        assert_eq!(parsed[0]["message"], "started");
        assert_eq!(parsed[0].get("phase"), None);
        assert!(parsed[0]["ts"].as_str().unwrap().ends_with('Z'));
        assert_eq!(parsed[1]["phase"], "inner");
        assert_eq!(parsed[1]["stage"], 3);
        assert_eq!(parsed[1]["level"], "WARN");
        assert_eq!(parsed[1]["level_"], "avx2");
        assert_eq!(parsed[1]["ratio"], "NaN");
        assert_eq!(parsed[1]["text"], "two\nlines");
    }

    #[test]
    fn text_lines_are_one_each() {
        let lines = lines(LogFormat::Text, events);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(" INFO started job=01J workers=2"), "{}", lines[0]);
        let expected = r#" WARN odd message job=01J phase=inner stage=3 level=avx2 ratio=NaN text="two\nlines""#;
        assert!(lines[1].ends_with(expected), "{}", lines[1]);
    }
}
