//! As much of JSON Schema (2020-12) as docs/loadtest-report.schema.json and docs/openapi.json use;
//! an unknown keyword is a violation too.
#![allow(dead_code)]

use serde_json::{Map, Value};

/// Where and how a report breaks its schema; empty for a good one.
pub(crate) fn violations(report: &Value) -> Vec<String> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/loadtest-report.schema.json");
    let root: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    violations_of(&root, &root, report)
}

/// The same for a schema of a document.
pub(crate) fn violations_of(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut checker = Checker { root: document, wrong: Vec::new() };
    checker.check("", schema, value);
    checker.wrong
}

/// A field that no part of an `allOf` names is named by none.
const UNNAMED: &str = "a field that the schema does not name";

struct Checker<'a> {
    root: &'a Value,
    wrong: Vec<String>,
}

impl<'a> Checker<'a> {
    fn check(&mut self, at: &str, schema: &'a Value, value: &Value) {
        for (keyword, wanted) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" | "format" | "example" => true,
                "$ref" => {
                    let place = wanted.as_str().unwrap().trim_start_matches('#');
                    self.check(at, self.root.pointer(place).unwrap(), value);
                    true
                }
                "const" => value == wanted,
                "enum" => wanted.as_array().unwrap().contains(value),
                "type" => is_of(wanted, value),
                "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
                "minItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 >= wanted.as_u64().unwrap()),
                "maxItems" => value
                    .as_array()
                    .is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
                "required" => wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|name| value.get(name.as_str().unwrap()).is_some()),
                "anyOf" | "oneOf" => {
                    wanted.as_array().unwrap().iter().any(|one| self.accepts(one, value))
                }
                "allOf" => {
                    self.check_parts(at, wanted.as_array().unwrap(), value);
                    true
                }
                // A field beyond those that `properties` names is one too many anyway.
                "additionalProperties" if *wanted == Value::Bool(false) => true,
                "items" | "prefixItems" => self.check_items(at, wanted, value),
                "properties" | "propertyNames" | "additionalProperties" => {
                    self.check_members(at, keyword, wanted, value)
                }
                _ => false,
            };
            if !holds {
                self.wrong.push(format!("{at}: {keyword} {wanted}: {value}"));
            }
        }
    }

    fn check_parts(&mut self, at: &str, parts: &'a [Value], value: &Value) {
        let found: Vec<Vec<String>> = parts
            .iter()
            .map(|part| {
                let mut alone = Checker { root: self.root, wrong: Vec::new() };
                alone.check(at, part, value);
                alone.wrong
            })
            .collect();
        let is_wrong = |wrong: &String| {
            !wrong.ends_with(UNNAMED) || found.iter().all(|part| part.contains(wrong))
        };
        self.wrong.extend(found.iter().flatten().filter(|wrong| is_wrong(wrong)).cloned());
    }

    fn accepts(&self, schema: &'a Value, value: &Value) -> bool {
        let mut alone = Checker { root: self.root, wrong: Vec::new() };
        alone.check("", schema, value);
        alone.wrong.is_empty()
    }

    fn check_items(&mut self, at: &str, wanted: &'a Value, value: &Value) -> bool {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            let schema =
                if let Value::Array(schemas) = wanted { schemas.get(index) } else { Some(wanted) };
            if let Some(schema) = schema {
                self.check(&format!("{at}/{index}"), schema, item);
            }
        }
        true
    }

    fn check_members(&mut self, at: &str, keyword: &str, wanted: &'a Value, value: &Value) -> bool {
        let none = Map::new();
        for (name, member) in value.as_object().unwrap_or(&none) {
            let at = format!("{at}/{name}");
            match keyword {
                "propertyNames" => self.check(&at, wanted, &Value::String(name.clone())),
                // The schema has it only where no properties are named beside it.
                "additionalProperties" => self.check(&at, wanted, member),
                _ => match wanted.get(name) {
                    Some(schema) => self.check(&at, schema, member),
                    None => self.wrong.push(format!("{at}: {UNNAMED}")),
                },
            }
        }
        true
    }
}

fn is_of(wanted: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type of JSON Schema: {other}"),
    };
    if let Value::Array(kinds) = wanted { kinds.iter().any(is) } else { is(wanted) }
}
