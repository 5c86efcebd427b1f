//! Each keyword of a schema: kept, rewritten, or refused by its name. What the values of keywords may be is in `values`,
//! and whether branches of `oneOf` exclude each other in `disjoint`.

use serde_json::{Map, Value, json};

use super::disjoint::Exclusion;
use super::formats::{self, Format};
use super::{Path, Reading, Walk, pattern, values};
use crate::grammar::error::GrammarError;

/// Keywords that say something to readers and rule nothing out. Those that begin with `x-` are such, too.
const ANNOTATIONS: [&str; 27] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "enumDescriptions",
    "enumNames",
    "errorMessage",
    "example",
    "examples",
    "externalDocs",
    "id",
    "markdownDescription",
    "propertyOrdering",
    "readOnly",
    "title",
    "tsType",
    "writeOnly",
    "xml",
];

/// Keywords that say what an answer must be and that no mask can hold it to.
const UNSUPPORTED: [(&str, &str); 16] = [
    ("$dynamicAnchor", "references that depend on the reader are not followed"),
    ("$dynamicRef", "references that depend on the reader are not followed"),
    ("$recursiveAnchor", "references that depend on the reader are not followed"),
    ("$recursiveRef", "references that depend on the reader are not followed"),
    ("contains", "it counts items by what they are"),
    ("dependencies", "it ties properties to each other; use anyOf"),
    ("dependentRequired", "it ties properties to each other; use anyOf"),
    ("dependentSchemas", "it ties properties to each other; use anyOf"),
    ("else", "conditions are not followed; use anyOf"),
    ("if", "conditions are not followed; use anyOf"),
    ("maxContains", "it counts items by what they are"),
    ("minContains", "it counts items by what they are"),
    ("not", "what an answer must not be is not followed; say what it must be"),
    ("then", "conditions are not followed; use anyOf"),
    ("unevaluatedItems", "it depends on other schemas; use items: false"),
    ("unevaluatedProperties", "it depends on other schemas; use additionalProperties: false"),
];

/// The drafts that are read.
const DRAFTS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

const OBJECT: [&str; 8] = [
    "additionalProperties",
    "maxProperties",
    "minProperties",
    "patternProperties",
    "properties",
    "propertyNames",
    "required",
    "unevaluatedProperties",
];
const ARRAY: [&str; 7] =
    ["additionalItems", "items", "maxItems", "minItems", "prefixItems", "unevaluatedItems", "uniqueItems"];
const STRING: [&str; 3] = ["maxLength", "minLength", "pattern"];
const NUMBER: [&str; 5] = ["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"];
/// Keywords that bring whole schemas, or values, to the place where they stand.
const APPLICATORS: [&str; 6] = ["$ref", "allOf", "anyOf", "const", "enum", "oneOf"];

type Result<T> = std::result::Result<T, GrammarError>;

impl<'s> Walk<'s, '_> {
    /// A schema that is an object.
    pub(super) fn object(
        &mut self,
        map: &'s Map<String, Value>,
        path: &mut Path,
        reading: Reading,
    ) -> Result<Value> {
        self.refuse(map, path)?;
        // Keywords that meet here are merged, and what is merged must be exact.
        let applied = APPLICATORS.iter().filter(|name| map.contains_key(**name)).count();
        let own = |name: &str| OBJECT.contains(&name) || ARRAY.contains(&name);
        let merged = applied > 1 || applied == 1 && map.keys().any(|name| own(name) || name == "type");
        let inner = if merged { Reading::Exact } else { reading };
        let mut out = Map::new();
        if let Some(types) = map.get("type") {
            out.insert("type".to_owned(), types_of(types, path)?);
        } else if inner == Reading::Narrow
            && applied == 0
            && let Some(only) = only_type(map)
        {
            out.insert("type".to_owned(), json!(only));
        }
        self.objects(map, path, inner, &mut out)?;
        self.arrays(map, path, inner, &mut out)?;
        self.strings_and_numbers(map, path, &mut out)?;
        self.applicators(map, path, inner, &mut out)?;
        if map.get("nullable").and_then(Value::as_bool) == Some(true) {
            return Ok(json!({"anyOf": [Value::Object(out), {"type": "null"}]}));
        }
        Ok(Value::Object(out))
    }

    /// What is not supported, not known, or not a schema, by name.
    fn refuse(&self, map: &Map<String, Value>, path: &Path) -> Result<()> {
        for (name, value) in map {
            let name = name.as_str();
            if let Some((_, why)) = UNSUPPORTED.iter().find(|(keyword, _)| *keyword == name) {
                // Equal to `additionalProperties: false` and `items: false` where nothing else is applied.
                let alone = !APPLICATORS.iter().any(|keyword| map.contains_key(*keyword));
                let closes = name.starts_with("unevaluated") && value == &json!(false) && alone;
                let empty = value.as_object().is_some_and(Map::is_empty) && name.starts_with("depend");
                if !closes && !empty {
                    return Err(path.unsupported(name, *why));
                }
                continue;
            }
            let known = ANNOTATIONS.contains(&name)
                || [&OBJECT[..], &ARRAY, &STRING, &NUMBER, &APPLICATORS]
                    .iter()
                    .any(|known| known.contains(&name))
                || ["format", "nullable", "type"].contains(&name)
                || name.starts_with("x-");
            if !known {
                let why = "no draft has this keyword; begin a remark of your own with \"x-\"";
                return Err(path.unsupported(name, why));
            }
        }
        if let Some(draft) = map.get("$schema") {
            let known = draft.as_str().is_some_and(|draft| {
                let draft = draft
                    .trim_end_matches('#')
                    .replace("https://json-schema.org/draft-", "http://json-schema.org/draft-");
                DRAFTS.contains(&draft.as_str())
            });
            if !known {
                return Err(path.unsupported("$schema", "only drafts 4, 6, 7, 2019-09 and 2020-12 are read"));
            }
        }
        Ok(())
    }

    fn objects(
        &mut self,
        map: &'s Map<String, Value>,
        path: &mut Path,
        reading: Reading,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        let required = required(map, path)?;
        for name in ["properties", "patternProperties"] {
            let Some(value) = map.get(name) else { continue };
            let properties = value.as_object().ok_or_else(|| path.invalid(name, "it must be an object"))?;
            // The engine tells names apart pairwise, and patterns from each other and from all names.
            let count = properties.len() as u64;
            self.work.spend(count.saturating_pow(if name == "properties" { 2 } else { 3 }))?;
            let normal = path.with(name, |path| {
                let mut normal = Map::new();
                for (key, schema) in properties {
                    let schema = path.with(key, |path| self.schema(schema, path, reading))?;
                    let key = match name {
                        "properties" => key.clone(),
                        _ => self.translated(key, "patternProperties", path)?,
                    };
                    normal.insert(key, schema);
                }
                Ok(normal)
            })?;
            out.insert(name.to_owned(), Value::Object(normal));
        }
        let closed = map.get("unevaluatedProperties") == Some(&json!(false));
        match map.get("additionalProperties") {
            // What it looks at is evaluated: nothing is left over.
            Some(schema) => {
                let schema = path.with("additionalProperties", |path| self.schema(schema, path, reading))?;
                out.insert("additionalProperties".to_owned(), schema);
            }
            None if closed || reading == Reading::Narrow && out.contains_key("properties") => {
                out.insert("additionalProperties".to_owned(), json!(false));
            }
            None => {}
        }
        if let Some(names) = map.get("propertyNames") {
            self.property_names(names, map, path, out)?;
        }
        for name in ["minProperties", "maxProperties"] {
            let Some(value) = map.get(name) else { continue };
            let count = values::count(value, name, path)?;
            // A mask cannot see whether a free name was given before, so it can only be sure of one of them.
            if name == "minProperties" && count > required.len() as u64 + 1 {
                return Err(path.unsupported(name, "more than one property whose name is not required"));
            }
            out.insert(name.to_owned(), json!(count));
        }
        if !required.is_empty() {
            out.insert("required".to_owned(), json!(required));
        }
        Ok(())
    }

    /// Names that follow a pattern, or are of a list, where nothing else is said of properties.
    fn property_names(
        &mut self,
        names: &'s Value,
        map: &'s Map<String, Value>,
        path: &mut Path,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        let refuse = |path: &Path, why: &str| Err(path.unsupported("propertyNames", why));
        let Some(names) = names.as_object() else {
            return match names {
                Value::Bool(true) => Ok(()),
                _ => refuse(path, "only a pattern or a list of names is followed"),
            };
        };
        let said = names.keys().filter(|name| !ANNOTATIONS.contains(&name.as_str()) && *name != "type");
        let said: Vec<&str> = said.map(String::as_str).collect();
        if names.get("type").is_some_and(|name| name != "string") {
            return refuse(path, "names are strings");
        }
        if said.is_empty() {
            return Ok(());
        }
        if map.contains_key("properties")
            || map.contains_key("patternProperties")
            || map.contains_key("required")
        {
            return refuse(path, "it is not followed beside properties, patternProperties or required");
        }
        let value = out.remove("additionalProperties").unwrap_or(json!(true));
        match (said.as_slice(), names.get("pattern"), names.get("enum")) {
            (["pattern"], Some(Value::String(text)), _) => {
                let text = self.translated(text, "propertyNames", path)?;
                out.insert("patternProperties".to_owned(), json!({ text: value }));
            }
            (["enum"], _, Some(Value::Array(items))) => {
                self.count(items.len())?;
                self.work.spend((items.len() as u64).saturating_pow(2))?;
                let mut properties = Map::new();
                for item in items.iter().filter_map(Value::as_str) {
                    properties.insert(item.to_owned(), value.clone());
                }
                out.insert("properties".to_owned(), Value::Object(properties));
            }
            _ => return refuse(path, "only a pattern or a list of names is followed"),
        }
        out.insert("additionalProperties".to_owned(), json!(false));
        Ok(())
    }

    fn arrays(
        &mut self,
        map: &'s Map<String, Value>,
        path: &mut Path,
        reading: Reading,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        // Until 2019-09 a list in `items` was what `prefixItems` is now, and `additionalItems` what `items` is.
        let (prefix, prefix_name, rest, rest_name) = match map.get("items") {
            Some(items @ Value::Array(_)) => {
                (Some(items), "items", map.get("additionalItems"), "additionalItems")
            }
            items => (map.get("prefixItems"), "prefixItems", items, "items"),
        };
        if let Some(prefix) = prefix {
            let items = prefix.as_array().ok_or_else(|| path.invalid(prefix_name, "it must be an array"))?;
            let normal = path.with(prefix_name, |path| {
                let schemas = items.iter().enumerate();
                schemas
                    .map(|(index, schema)| {
                        path.with(&index.to_string(), |path| self.schema(schema, path, reading))
                    })
                    .collect::<Result<Vec<_>>>()
            })?;
            out.insert("prefixItems".to_owned(), Value::Array(normal));
        }
        if let Some(rest) = rest {
            let schema = path.with(rest_name, |path| self.schema(rest, path, reading))?;
            out.insert("items".to_owned(), schema);
        } else if map.get("unevaluatedItems") == Some(&json!(false)) {
            out.insert("items".to_owned(), json!(false));
        }
        for name in ["minItems", "maxItems"] {
            if let Some(value) = map.get(name) {
                out.insert(name.to_owned(), json!(values::count(value, name, path)?));
            }
        }
        match map.get("uniqueItems") {
            None | Some(Value::Bool(false)) => Ok(()),
            // One item is always unique.
            Some(Value::Bool(true)) if out.get("maxItems").is_some_and(|most| most.as_u64() <= Some(1)) => {
                Ok(())
            }
            Some(Value::Bool(true)) => {
                Err(path.unsupported("uniqueItems", "a mask cannot compare an item with those before it"))
            }
            Some(_) => Err(path.invalid("uniqueItems", "it must be true or false")),
        }
    }

    fn strings_and_numbers(
        &mut self,
        map: &Map<String, Value>,
        path: &Path,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        for name in ["minLength", "maxLength"] {
            if let Some(value) = map.get(name) {
                out.insert(name.to_owned(), json!(values::count(value, name, path)?));
            }
        }
        if let Some(value) = map.get("pattern") {
            let text = value.as_str().ok_or_else(|| path.invalid("pattern", "it must be a string"))?;
            let text = self.translated(text, "pattern", path)?;
            self.pattern(path)?;
            out.insert("pattern".to_owned(), json!(text));
        }
        for (name, exclusive, upper) in
            [("minimum", "exclusiveMinimum", false), ("maximum", "exclusiveMaximum", true)]
        {
            let bound = map.get(name).map(|value| values::bound(value, name, path, upper)).transpose()?;
            match (map.get(exclusive), bound) {
                // Draft 4: the other bound is exclusive.
                (Some(Value::Bool(true)), Some(bound)) => {
                    out.insert(exclusive.to_owned(), bound);
                }
                (None | Some(Value::Bool(_)), Some(bound)) => {
                    out.insert(name.to_owned(), bound);
                }
                (None | Some(Value::Bool(_)), None) => {}
                (Some(value), bound) => {
                    out.insert(exclusive.to_owned(), values::bound(value, exclusive, path, upper)?);
                    out.extend(bound.map(|bound| (name.to_owned(), bound)));
                }
            }
        }
        if let Some(value) = map.get("multipleOf") {
            self.multiple_of(value, path)?;
            out.insert("multipleOf".to_owned(), value.clone());
            // A multiple of more digits than a double holds is none any more for whoever reads it as a double.
            for (name, exclusive, most) in [
                ("minimum", "exclusiveMinimum", -values::WIDE),
                ("maximum", "exclusiveMaximum", values::WIDE),
            ] {
                if !out.contains_key(name) && !out.contains_key(exclusive) {
                    out.insert(name.to_owned(), values::as_json(most));
                }
            }
        }
        match map.get("format") {
            Some(format) => format_of(format, map, path, out),
            None => Ok(()),
        }
    }

    /// A pattern in the engine's syntax.
    fn translated(&mut self, text: &str, keyword: &str, path: &Path) -> Result<String> {
        let (text, work) = pattern::translate(text).map_err(|why| path.unsupported(keyword, why))?;
        self.work.spend(work)?;
        Ok(text)
    }

    /// Patterns that are merged multiply each other's states before the engine counts any, so they are counted here.
    fn pattern(&mut self, path: &Path) -> Result<()> {
        const MERGED_MAX: usize = 8;
        self.merged_patterns += usize::from(self.merging > 0);
        if self.merged_patterns > MERGED_MAX {
            return Err(path.unsupported(
                "pattern",
                format!("more than {MERGED_MAX} patterns in schemas that are merged"),
            ));
        }
        Ok(())
    }

    /// The engine reckons with 32 bits when two of them meet, so any two that may meet must stay below.
    fn multiple_of(&mut self, value: &Value, path: &Path) -> Result<()> {
        let multiple = values::multiple(value, path)?;
        if !self.multiples.contains(&multiple) {
            self.multiples.push(multiple);
        }
        let places = self.multiples.iter().map(|(_, places)| *places).max().unwrap_or(0);
        let mut common = 1;
        for (digits, own) in &self.multiples {
            let scaled = digits * 10u64.pow(places - own);
            common = common / gcd(common, scaled) * scaled;
            if self.multiples.len() > 1 && common > 65_535 {
                return Err(
                    path.unsupported("multipleOf", "together with the schema's others it is too large")
                );
            }
        }
        Ok(())
    }

    fn applicators(
        &mut self,
        map: &'s Map<String, Value>,
        path: &mut Path,
        reading: Reading,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        if let Some(value) = map.get("const") {
            values::constant(value, "const", path)?;
            out.insert("const".to_owned(), value.clone());
        }
        if let Some(value) = map.get("enum") {
            let items = value.as_array().filter(|items| !items.is_empty());
            let items =
                items.ok_or_else(|| path.invalid("enum", "it must be an array with something in it"))?;
            self.count(items.len())?;
            items.iter().try_for_each(|item| values::constant(item, "enum", path))?;
            out.insert("enum".to_owned(), value.clone());
        }
        for (name, inner) in [("anyOf", reading), ("allOf", Reading::Exact)] {
            let Some(value) = map.get(name) else { continue };
            let merges = usize::from(name == "allOf");
            self.merging += merges;
            let branches = self.branches(value, name, path, inner);
            self.merging -= merges;
            let mut branches = branches?;
            // A format beside a pattern stands there already.
            if let Some(Value::Array(before)) = out.remove(name) {
                branches.extend(before);
            }
            out.insert(name.to_owned(), Value::Array(branches));
        }
        if let Some(value) = map.get("oneOf") {
            self.one_of(value, path, reading, out)?;
        }
        if let Some(value) = map.get("$ref") {
            let reference = value.as_str().ok_or_else(|| path.invalid("$ref", "it must be a string"))?;
            let (target, pointer) = self.references.target(reference, path)?;
            let name = self.references.name(target, pointer, reading)?;
            out.insert("$ref".to_owned(), json!(format!("#/$defs/{name}")));
        }
        Ok(())
    }

    fn branches(
        &mut self,
        value: &'s Value,
        name: &str,
        path: &mut Path,
        reading: Reading,
    ) -> Result<Vec<Value>> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| path.invalid(name, "it must be an array with something in it"))?;
        path.with(name, |path| {
            let schemas = items.iter().enumerate();
            schemas
                .map(|(index, schema)| {
                    path.with(&index.to_string(), |path| self.schema(schema, path, reading))
                })
                .collect()
        })
    }

    /// Exactly one branch: any of them, where they are seen to exclude each other.
    fn one_of(
        &mut self,
        value: &'s Value,
        path: &mut Path,
        reading: Reading,
        out: &mut Map<String, Value>,
    ) -> Result<()> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some((a, b)) = Exclusion::new(&self.references).first_overlap(items) {
            let why = format!("branches {a} and {b} are not seen to exclude each other; use anyOf");
            return Err(path.unsupported("oneOf", why));
        }
        let branches = self.branches(value, "oneOf", path, reading)?;
        if out.contains_key("anyOf") {
            merge_all_of(out, json!({ "anyOf": branches }));
        } else {
            out.insert("anyOf".to_owned(), Value::Array(branches));
        }
        Ok(())
    }
}

fn required<'m>(map: &'m Map<String, Value>, path: &Path) -> Result<Vec<&'m str>> {
    let mut names: Vec<&str> = Vec::new();
    match map.get("required") {
        None => {}
        Some(Value::Array(items)) => {
            for item in items {
                let name = item.as_str().ok_or_else(|| path.invalid("required", "it must list names"))?;
                names.push(name);
            }
            names.sort_unstable();
            names.dedup();
        }
        Some(_) => return Err(path.invalid("required", "it must be an array of names")),
    }
    Ok(names)
}

fn types_of(value: &Value, path: &Path) -> Result<Value> {
    const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let fine = match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(known),
        other => known(other),
    };
    if fine {
        Ok(value.clone())
    } else {
        Err(path.invalid("type", "it must be one of JSON's types, or several"))
    }
}

/// The one type that all keywords of a schema are about.
fn only_type(map: &Map<String, Value>) -> Option<&'static str> {
    let said = |names: &[&str]| map.keys().any(|name| names.contains(&name.as_str()));
    match (said(&OBJECT), said(&ARRAY), said(&STRING), said(&NUMBER)) {
        (true, false, false, false) => Some("object"),
        (false, true, false, false) => Some("array"),
        (false, false, true, false) => Some("string"),
        (false, false, false, true) => Some("number"),
        _ => None,
    }
}

fn format_of(
    format: &Value,
    map: &Map<String, Value>,
    path: &Path,
    out: &mut Map<String, Value>,
) -> Result<()> {
    let name = format.as_str().ok_or_else(|| path.invalid("format", "it must be a string"))?;
    let found = formats::lookup(name);
    let found = found.ok_or_else(|| {
        path.unsupported("format", format!("the format {:?} is not known", super::shown(name)))
    })?;
    match found {
        Format::Hint => {}
        Format::Text { pattern, chars_max } => {
            let whole = format!("^({pattern})$");
            if out.contains_key("pattern") {
                merge_all_of(out, json!({ "pattern": whole }));
            } else {
                out.insert("pattern".to_owned(), json!(whole));
            }
            if let Some(most) = chars_max {
                let said = out.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
                out.insert("maxLength".to_owned(), json!(said.min(most as u64)));
            }
        }
        Format::Integer { minimum, maximum } => {
            // Formats of numbers are OpenAPI's; a draft's `format` concerns strings alone.
            if map.get("type").is_some_and(|name| name == "integer" || name == "number") {
                let said = |name: &str| out.get(name).and_then(Value::as_f64);
                let least = said("minimum").unwrap_or(minimum).max(minimum).max(-values::WIDE);
                let most = said("maximum").unwrap_or(maximum).min(maximum).min(values::WIDE);
                out.insert("minimum".to_owned(), values::as_json(least));
                out.insert("maximum".to_owned(), values::as_json(most));
            }
        }
    }
    Ok(())
}

fn merge_all_of(out: &mut Map<String, Value>, schema: Value) {
    match out.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(all) => all.push(schema),
        None => {
            out.insert("allOf".to_owned(), json!([schema]));
        }
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The keywords that are refused by their names, for tests.
#[cfg(test)]
pub(super) fn unsupported() -> Vec<&'static str> {
    UNSUPPORTED.iter().map(|(keyword, _)| *keyword).collect()
}
