//! A value of each type with something in every field, made from the API's document: a field that
//! is added is in it by itself.
#![allow(clippy::unwrap_used)]

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::router::document;

/// Large enough that a thousandth and a millionth of two are different too.
const FIRST_LARGE: u64 = 7_000_000_000;
const NEXT_LARGE: u64 = 11_000_000;
/// Two bytes hold it.
const FIRST_SMALL: u64 = 20_000;

/// A value with something in every field: no null, no empty list. Numbers, texts and addresses
/// occur once each.
pub fn sample<T: ToSchema + DeserializeOwned>() -> T {
    serde_json::from_value(sample_json(&T::name())).unwrap()
}

/// The same in JSON, by the name of its schema.
pub fn sample_json(name: &str) -> Value {
    let document = serde_json::to_value(document()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    Sampler { schemas, made: 0 }.value(&schemas[name])
}

struct Sampler<'a> {
    schemas: &'a Map<String, Value>,
    /// Leaves so far.
    made: u64,
}

impl Sampler<'_> {
    fn value(&mut self, schema: &Value) -> Value {
        if let Some(path) = schema["$ref"].as_str() {
            let name = path.rsplit('/').next().unwrap();
            return self.value(&self.schemas[name]);
        }
        if let Some(words) = schema["enum"].as_array() {
            return words[0].clone();
        }
        // What may be null has a value here.
        for choice in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[choice].as_array() {
                let some = choices.iter().find(|choice| choice["type"] != "null").unwrap();
                return self.value(some);
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts: Vec<Value> = parts.iter().map(|part| self.value(part)).collect();
            let fields = parts.into_iter().filter_map(|part| part.as_object().cloned());
            return Value::Object(fields.flatten().collect());
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        match kinds.into_iter().find(|kind| *kind != "null") {
            Some("object") => self.object(schema),
            Some("array") => json!([self.value(&schema["items"])]),
            Some("boolean") => json!(true),
            Some("integer") => self.number(schema),
            Some("string") => self.text(schema),
            kind => panic!("no sample of {kind:?}: {schema}"),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut fields = Map::new();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            fields.insert(name.clone(), self.value(field));
        }
        if schema["additionalProperties"].is_object() {
            let value = self.value(&schema["additionalProperties"]);
            fields.insert("any".to_owned(), value);
        }
        Value::Object(fields)
    }

    fn number(&mut self, schema: &Value) -> Value {
        self.made += 1;
        let is_small = schema["format"] == "int32" || schema["maximum"].is_number();
        let number =
            if is_small { FIRST_SMALL + self.made } else { FIRST_LARGE + self.made * NEXT_LARGE };
        json!(number)
    }

    fn text(&mut self, schema: &Value) -> Value {
        self.made += 1;
        let made = self.made;
        json!(match schema["format"].as_str() {
            None => format!("text-{made}"),
            Some("ipv4" | "ip-address") => format!("10.9.{made}.1"),
            Some("socket-address") => format!("10.9.{made}.1:69"),
            Some(format) => panic!("no sample of {format}"),
        })
    }
}
