//! Whether two schemas exclude each other: no document satisfies both. `oneOf` is then the same as `anyOf`, which a mask
//! can hold an answer to. Looked for as far as is plain to see: by type, by constants, by bounds of numbers, and by a
//! property that one of them requires. `false` means "not seen", never "they overlap".

use serde_json::{Map, Value};

use super::Path;
use super::references::References;

/// How far references and nested schemas are followed.
const STEPS_MAX: usize = 12;
/// Comparisons of one `oneOf`; many branches with many constants each are not a way to keep us busy.
const WORK_MAX: usize = 200_000;

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const NUMBER: u8 = 4;
const STRING: u8 = 8;
const ARRAY: u8 = 16;
const OBJECT: u8 = 32;
const ANY: u8 = 63;

/// Looks whether schemas exclude each other, with a bound on the work.
pub(super) struct Exclusion<'r, 's> {
    references: &'r References<'s>,
    work: usize,
}

impl<'r, 's> Exclusion<'r, 's> {
    pub(super) const fn new(references: &'r References<'s>) -> Self {
        Self { references, work: 0 }
    }

    /// The first two of the schemas that are not seen to exclude each other.
    pub(super) fn first_overlap(&mut self, schemas: &'s [Value]) -> Option<(usize, usize)> {
        let pairs = (0..schemas.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        pairs.into_iter().find(|&(a, b)| !self.exclude(&schemas[a], &schemas[b], 0))
    }

    fn exclude(&mut self, a: &'s Value, b: &'s Value, steps: usize) -> bool {
        self.work += 1;
        if steps > STEPS_MAX || self.work > WORK_MAX {
            return false;
        }
        if a == &Value::Bool(false) || b == &Value::Bool(false) {
            return true;
        }
        let (Some(left), Some(right)) = (a.as_object(), b.as_object()) else { return false };
        let shared = self.kinds(a, 0) & self.kinds(b, 0);
        if shared == 0 || self.constants_differ(left, right) {
            return true;
        }
        // What a schema is made of: of alternatives each must exclude the other, of parts one is enough.
        for (map, other) in [(left, b), (right, a)] {
            if map.get("nullable").is_some_and(|value| value != false) {
                continue;
            }
            for part in self.parts(map) {
                if self.exclude(part, other, steps + 1) {
                    return true;
                }
            }
            for name in ["anyOf", "oneOf"] {
                let Some(branches) = map.get(name).and_then(Value::as_array) else { continue };
                if branches.iter().all(|branch| self.exclude(branch, other, steps + 1)) {
                    return true;
                }
            }
        }
        (shared == NUMBER && bounds_apart(left, right))
            || (shared == OBJECT && self.property_apart(left, right, steps))
    }

    /// Schemas that a document must satisfy besides the keywords of this one.
    fn parts(&self, map: &'s Map<String, Value>) -> Vec<&'s Value> {
        let mut parts: Vec<&Value> =
            map.get("allOf").and_then(Value::as_array).map(|all| all.iter().collect()).unwrap_or_default();
        if let Some(reference) = map.get("$ref").and_then(Value::as_str)
            && let Ok((target, _)) = self.references.target(reference, &Path::default())
        {
            parts.push(target);
        }
        parts
    }

    /// The types that documents of a schema may have: at least these.
    fn kinds(&mut self, schema: &'s Value, steps: usize) -> u8 {
        self.work += 1;
        let Some(map) = schema.as_object() else {
            return if schema == &Value::Bool(false) { 0 } else { ANY };
        };
        if steps > STEPS_MAX || self.work > WORK_MAX {
            return ANY;
        }
        let mut kinds = match map.get("type") {
            Some(Value::String(name)) => kind_named(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).fold(0, |all, name| all | kind_named(name))
            }
            _ => ANY,
        };
        if let Some(values) = constants(map) {
            kinds &= values.into_iter().fold(0, |all, value| all | kind_of(value));
        }
        for part in self.parts(map) {
            kinds &= self.kinds(part, steps + 1);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(branches) = map.get(name).and_then(Value::as_array) {
                kinds &= branches.iter().fold(0, |all, branch| all | self.kinds(branch, steps + 1));
            }
        }
        if map.get("nullable").is_some_and(|value| value != false) { kinds | NULL } else { kinds }
    }

    fn constants_differ(&mut self, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
        let nullable = |map: &Map<String, Value>| map.get("nullable").is_some_and(|value| value != false);
        if nullable(a) || nullable(b) {
            return false;
        }
        let (Some(left), Some(right)) = (constants(a), constants(b)) else { return false };
        self.work += left.len() * right.len();
        self.work <= WORK_MAX && !left.iter().any(|a| right.iter().any(|b| may_be_equal(a, b)))
    }

    /// A property that one of the two requires and of which they want different things.
    fn property_apart(&mut self, a: &'s Map<String, Value>, b: &'s Map<String, Value>, steps: usize) -> bool {
        let required = |map: &'s Map<String, Value>| map.get("required").and_then(Value::as_array);
        let names = required(a).into_iter().chain(required(b)).flatten().filter_map(Value::as_str);
        for name in names {
            if let (Some(left), Some(right)) = (property(a, name), property(b, name))
                && self.exclude(left, right, steps + 1)
            {
                return true;
            }
        }
        false
    }
}

/// What a schema says of a property; `None`: nothing, or nothing that is plain to see.
fn property<'s>(map: &'s Map<String, Value>, name: &str) -> Option<&'s Value> {
    match map.get("properties").and_then(|properties| properties.get(name)) {
        Some(schema) => Some(schema),
        None if map.contains_key("patternProperties") => None,
        None => map.get("additionalProperties"),
    }
}

fn kind_named(name: &str) -> u8 {
    match name {
        "null" => NULL,
        "boolean" => BOOLEAN,
        "integer" | "number" => NUMBER,
        "string" => STRING,
        "array" => ARRAY,
        "object" => OBJECT,
        _ => ANY,
    }
}

const fn kind_of(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Number(_) => NUMBER,
        Value::String(_) => STRING,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}

/// The values that a schema lists, if it does.
fn constants(map: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (map.get("const"), map.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// Equal as JSON values: 1 is 1.0. What is not plain may be.
fn may_be_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(_) | Value::Object(_), Value::Array(_) | Value::Object(_)) => true,
        (a, b) => a == b,
    }
}

/// The numbers of one end before those of the other begin.
fn bounds_apart(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let number = |map: &Map<String, Value>, name| map.get(name).and_then(Value::as_f64);
    let before = |a: &Map<String, Value>, b: &Map<String, Value>| {
        let most =
            [number(a, "maximum"), number(a, "exclusiveMaximum")].into_iter().flatten().reduce(f64::min);
        let least =
            [number(b, "minimum"), number(b, "exclusiveMinimum")].into_iter().flatten().reduce(f64::max);
        matches!((most, least), (Some(most), Some(least)) if most < least)
    };
    let flat =
        |map: &Map<String, Value>| !["anyOf", "oneOf", "nullable"].iter().any(|name| map.contains_key(*name));
    flat(a) && flat(b) && (before(a, b) || before(b, a))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_that_exclude_each_other() {
        let check = |a: Value, b: Value, wanted: bool| {
            let root = json!({"oneOf": [a, b], "$defs": {
                "cat": {"properties": {"kind": {"const": "cat"}}, "required": ["kind"], "type": "object"},
                "dog": {"properties": {"kind": {"enum": ["dog", "wolf"]}}, "required": ["kind"], "type": "object"},
                "loop": {"$ref": "#/$defs/loop"},
            }});
            let references = References::new(&root).unwrap();
            let branches = root["oneOf"].as_array().unwrap();
            let overlap = Exclusion::new(&references).first_overlap(branches);
            assert_eq!(overlap.is_none(), wanted, "{}", root["oneOf"]);
        };
        check(json!({"type": "string"}), json!({"type": "null"}), true);
        check(json!({"type": "integer"}), json!({"type": "number"}), false);
        check(json!({"type": ["string", "null"]}), json!({"type": ["null", "array"]}), false);
        check(json!({"const": 1}), json!({"const": 2}), true);
        check(json!({"const": 1}), json!({"const": 1.0}), false);
        check(json!({"enum": ["a", "b"]}), json!({"enum": ["b", "c"]}), false);
        check(json!({"const": [1]}), json!({"const": [2]}), false);
        check(json!({"$ref": "#/$defs/cat"}), json!({"$ref": "#/$defs/dog"}), true);
        check(json!({"$ref": "#/$defs/cat"}), json!({"type": "null"}), true);
        check(json!({"$ref": "#/$defs/loop"}), json!({"type": "null"}), false);
        check(json!({"type": "string", "nullable": true}), json!({"type": "null"}), false);
        check(json!({"const": "a", "nullable": true}), json!({"const": "b", "nullable": true}), false);
        check(json!({"anyOf": [{"const": "a"}, {"type": "null"}]}), json!({"const": "b"}), true);
        check(json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!({"type": "null"}), false);
        check(json!({"allOf": [{"type": "string"}, {"minLength": 1}]}), json!({"type": "array"}), true);
        check(json!({"type": "number", "maximum": 1}), json!({"type": "number", "minimum": 2}), true);
        check(json!({"type": "number", "maximum": 1}), json!({"type": "number", "minimum": 1}), false);
        check(json!({"maximum": 1}), json!({"minimum": 2}), false);
        check(json!(false), json!(true), true);
        check(json!({}), json!({"type": "null"}), false);
        // Nobody requires the property: {} satisfies both.
        let typed = |value: &str| json!({"type": "object", "properties": {"t": {"const": value}}});
        check(typed("a"), typed("b"), false);
        // One requires what the other does not have; it may still have it unlisted.
        let has = |name: &str| json!({"type": "object", "properties": {name: {}}, "required": [name]});
        check(has("a"), has("b"), false);
        let mut closed = has("b");
        closed["additionalProperties"] = json!(false);
        check(has("a"), closed, true);
    }
}
