//! Canonical JSON for hashing: sorted keys, no white space, floats as the hex of their bits. Two
//! values that print alike but differ in a bit differ here, and equal values are equal everywhere.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256, in hex, of a value's canonical JSON.
pub fn hash<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    Ok(hash_bytes(text(&serde_json::to_value(value)?).as_bytes()))
}

/// SHA-256, in hex, of bytes.
pub fn hash_bytes(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// The canonical text.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
            Some(float) => {
                let _ = write!(out, "f{:016x}", float.to_bits());
            }
            None => out.push_str(&n.to_string()),
        },
        Value::String(s) => out.push_str(&Value::String(s.clone()).to_string()),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort_unstable();
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write(&map[key], out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn floats_are_bits_and_keys_are_sorted() {
        let value: Value = serde_json::from_str(r#"{"b": 1.0, "a": [1, null, "x\"y", true], "c": -0.0}"#).unwrap();
        assert_eq!(text(&value), r#"{"a":[1,null,"x\"y",true],"b":f3ff0000000000000,"c":f8000000000000000}"#);
    }

    #[test]
    fn sha256_known_answer() {
        assert_eq!(hash_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
