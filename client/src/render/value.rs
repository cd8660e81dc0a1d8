//! Reading from JSON results: a key that is missing or of another type is simply not shown.

use serde_json::Value;

use super::format;

/// Text under a key.
pub fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// A number under a key.
pub fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key)?.as_f64()
}

/// A count under a key.
pub fn count(value: &Value, key: &str) -> Option<u64> {
    value.get(key)?.as_u64()
}

/// A list under a key; empty if there is none.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of an object under a key, in its order; none if there is no object.
pub fn entries<'a>(value: &'a Value, key: &str) -> Vec<(&'a str, &'a Value)> {
    let object = value.get(key).and_then(Value::as_object);
    object.into_iter().flatten().map(|(k, v)| (k.as_str(), v)).collect()
}

/// A single value as people read it; lists and objects as compact JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(|| n.to_string(), format::number),
        other => other.to_string(),
    }
}
