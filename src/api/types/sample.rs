//! A value of each type with something in every field, made from the API's document, and the fields
//! that a text of it does not show. A field that is added is in both by itself.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::router::document;
use crate::api::values::format_span;

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

/// Asserts that the text has the value of every field, but for those on a list, each with a reason.
/// With several values a field may be shown in one of them: not every field counts at once.
#[track_caller]
pub fn assert_shown<T: Serialize + DeserializeOwned>(
    values: &[T],
    print: impl Fn(&T) -> String,
    hidden: &[(&str, &str)],
) {
    let mut found: Option<BTreeSet<String>> = None;
    for value in values {
        let here = hidden_leaves(value, &print);
        found = Some(match found {
            Some(before) => before.intersection(&here).cloned().collect(),
            None => here,
        });
    }
    let listed: BTreeSet<String> = hidden.iter().map(|(path, _)| (*path).to_owned()).collect();
    let found = found.unwrap();
    let missing: Vec<_> = found.difference(&listed).collect();
    // An entry whose field is shown by now would hide the next omission, so it fails as well.
    let shown: Vec<_> = listed.difference(&found).collect();
    assert!(missing.is_empty(), "in no text and on no list: {missing:#?}");
    assert!(shown.is_empty(), "on the list of what is not shown, and shown: {shown:#?}");
    assert!(hidden.iter().all(|(_, reason)| reason.len() > 10), "a reason is a sentence");
}

/// Fields whose value is not in the text, by their names from the outermost on.
fn hidden_leaves<T: Serialize + DeserializeOwned>(
    value: &T,
    print: &impl Fn(&T) -> String,
) -> BTreeSet<String> {
    let text = print(value);
    let json = serde_json::to_value(value).unwrap();
    let mut places = Vec::new();
    collect_leaves("", &json, &mut places);
    let is_shown = |place: &String| {
        let leaf = json.pointer(place).unwrap();
        match leaf {
            Value::Number(number) => is_number_in(number.as_u64().unwrap(), &text),
            Value::String(word) if is_word_in(word, &text) && !is_enumerated(word) => true,
            _ => others(leaf).into_iter().any(|other| {
                let mut changed = json.clone();
                *changed.pointer_mut(place).unwrap() = other;
                // Another enum may have the word.
                serde_json::from_value(changed).is_ok_and(|changed| print(&changed) != text)
            }),
        }
    };
    let hidden = places.iter().filter(|place| !is_shown(place));
    hidden.map(|place| place.replace("/0", "").trim_start_matches('/').replace('/', ".")).collect()
}

fn collect_leaves(at: &str, value: &Value, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| {
                collect_leaves(&format!("{at}/{name}"), field, places);
            });
        }
        Value::Array(items) => {
            assert!(!items.is_empty(), "{at} is empty");
            items.iter().enumerate().for_each(|(index, item)| {
                collect_leaves(&format!("{at}/{index}"), item, places);
            });
        }
        Value::Null => panic!("{at} is null"),
        _ => places.push(at.to_owned()),
    }
}

/// As it is, in a larger unit, or in words.
fn is_number_in(number: u64, text: &str) -> bool {
    let date = |s: u64| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(s);
        httpdate::fmt_http_date(time)
    };
    if number < FIRST_LARGE {
        return is_word_in(&number.to_string(), text);
    }

    // A text may show bytes in kB or MB, and a time in seconds, hours or as a date.
    let forms = [
        number.to_string(),
        (number / 1000).to_string(),
        (number / 1_000_000).to_string(),
        format!("{}.{:03}", number / 1000, number % 1000),
        format!("{} h", number / 3_600_000),
        format_span(number),
        format_span(number / 1000),
        date(number),
        date(number / 1000),
    ];
    forms.iter().any(|form| is_word_in(form, text))
}

/// Not as a part of a longer number.
fn is_word_in(word: &str, text: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        [before, after].into_iter().flatten().all(|beside| !beside.is_alphanumeric())
    })
}

fn is_enumerated(word: &str) -> bool {
    !others(&json!(word)).is_empty()
}

/// What could stand there too: the other boolean, the other words of an enum that has this one.
fn others(leaf: &Value) -> Vec<Value> {
    if let Value::Bool(is) = leaf {
        return vec![json!(!is)];
    }
    let document = serde_json::to_value(document()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let enums = schemas.values().filter_map(|schema| schema["enum"].as_array());
    let fitting = enums.filter(|words| words.contains(leaf));
    fitting.flatten().filter(|word| *word != leaf).cloned().collect()
}
