//! The JSON Schema of the job file: what editors complete and check with. Each section keeps its own
//! part beside its reader; here a parameter (`$name`) is allowed wherever a single value is.

use serde_json::{Value, json};

use super::sections;

/// JSON Schema (draft 2020-12) of what this build reads.
pub fn schema() -> Value {
    let mut schema = sections::schema();
    allow_parameters(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".into(), "Sheaf job".into());
        root.insert(
            "$defs".into(),
            json!({"parameter": {"type": "string", "pattern": "^\\$([A-Za-z_][A-Za-z0-9_]*|\\{[A-Za-z_][A-Za-z0-9_]*\\})$"}}),
        );
    }
    schema
}

/// Numbers and truth values may come from a parameter.
fn allow_parameters(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(allow_parameters),
        Value::Object(map) if map.get("type").is_some_and(|t| t == "number" || t == "integer" || t == "boolean") => {
            let value = Value::Object(std::mem::take(map));
            *schema = json!({"anyOf": [value, {"$ref": "#/$defs/parameter"}]});
        }
        Value::Object(map) => map.values_mut().for_each(allow_parameters),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_key_of_a_job_is_in_the_schema() {
        let schema = schema();
        for key in sections::JOB.keys {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
    }
}
