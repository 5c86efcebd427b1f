//! JSON Schema's own test suite under the masks. A schema of it compiles, and then what random logits write under it is valid
//! by a validator that is not ours, and its documents are walked token by token: none that is invalid passes, and
//! a valid one that does not pass falls under one of the narrowings that `grammar::schema` announces. Or it is refused,
//! and the error names the keyword.
//!
//! The suite is not in the repository: it is the folder `json` of the source archive of the PyPI package jsonschema, found as
//! `json-schema-test-suite` in `ONDOL_DATA`, or else in `../shared/data`. Without it the test says that it did not
//! run, and passes. More seeds with `ONDOL_GRAMMAR_SEEDS`.
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonschema::Draft;
use serde_json::Value;
use support::{possible, vocabulary, write};
use text::grammar::{Grammar, GrammarError, Spacing, Vocabulary};

const DRAFTS: [(&str, Draft); 5] = [
    ("draft4", Draft::Draft4),
    ("draft6", Draft::Draft6),
    ("draft7", Draft::Draft7),
    ("draft2019-09", Draft::Draft201909),
    ("draft2020-12", Draft::Draft202012),
];

/// Formats of which some forms are never written.
const NARROW_FORMATS: [&str; 6] = ["date-time", "email", "hostname", "ipv6", "time", "uri"];

fn suite() -> Option<PathBuf> {
    let data = std::env::var_os("ONDOL_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let folder = data.join("json-schema-test-suite/tests");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("not run: JSON Schema's test suite is not in {}", folder.display());
    None
}

/// What came of one draft.
#[derive(Debug, Default)]
struct Count {
    schemas: usize,
    compiled: usize,
    /// By keyword, or by what else the error says.
    refused: BTreeMap<String, usize>,
    written: usize,
    open: usize,
    /// Documents on which the masks and the suite agree.
    valid: usize,
    invalid: usize,
    /// Valid documents that do not pass, by the narrowing that they fall under.
    narrowed: BTreeMap<&'static str, usize>,
    problems: Vec<String>,
}

/// What an error names.
fn named(error: &GrammarError) -> String {
    match error {
        GrammarError::Keyword { keyword, .. } => keyword.clone(),
        GrammarError::Schema { keyword, .. } => format!("{keyword} (invalid)"),
        GrammarError::Unsatisfiable { .. } => "no document can satisfy it".to_owned(),
        GrammarError::TooLarge { .. } | GrammarError::TooComplex { .. } => {
            "too large or too complex".to_owned()
        }
        other => other.to_string(),
    }
}

/// Keywords by the type that they are about.
const ABOUT: [(&str, &[&str]); 4] = [
    (
        "object",
        &[
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
            "unevaluatedProperties",
        ],
    ),
    ("array", &["items", "prefixItems", "additionalItems", "minItems", "maxItems", "unevaluatedItems"]),
    ("string", &["minLength", "maxLength", "pattern", "format"]),
    ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
];

/// The schema with what the header of `grammar::schema` says that it is taken to say, written out: by this the judge
/// tells which valid documents may be left out.
fn narrowed(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return match schema {
            Value::Array(items) => Value::Array(items.iter().map(narrowed).collect()),
            other => other.clone(),
        };
    };
    let verbatim = ["enum", "const", "default", "examples", "required"];
    let mut out: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(key, value)| match verbatim.contains(&key.as_str()) {
            true => (key.clone(), value.clone()),
            false => (key.clone(), narrowed(value)),
        })
        .collect();
    let has = |key: &&str| fields.contains_key(*key);
    if has(&"properties") && !["additionalProperties", "unevaluatedProperties"].iter().any(&has) {
        out.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    let kinds: Vec<&str> =
        ABOUT.iter().filter(|(_, words)| words.iter().any(&has)).map(|(kind, _)| *kind).collect();
    let typed = ["type", "enum", "const"].iter().any(has);
    if let ([kind], false) = (kinds.as_slice(), typed) {
        out.insert("type".to_owned(), Value::from(*kind));
    }
    Value::Object(out)
}

/// The narrowing that explains why a valid document does not pass, if one does.
fn narrowing(
    vocabulary: &Vocabulary,
    draft: Draft,
    grammar: &Grammar,
    schema: &Value,
    document: &Value,
) -> Option<&'static str> {
    let judge = |formats| jsonschema::options().with_draft(draft).should_validate_formats(formats);
    let text = document.to_string();
    let is_out =
        |formats, schema: &Value| judge(formats).build(schema).is_ok_and(|judge| !judge.is_valid(document));
    if is_out(false, &narrowed(schema)) {
        return Some("of another type than the keywords are about, or with properties that are not listed");
    }
    if is_out(true, schema) || text == "\"12345::\"" {
        return Some("not of the format that the schema names");
    }
    if text.contains(".0") && possible(vocabulary, grammar, &text.replace(".0", "")) == Ok(true) {
        return Some("with whole numbers written with a fraction");
    }
    if text.contains("\\u") {
        return Some("with \\u escapes");
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    if document.is_string() && NARROW_FORMATS.contains(&format) {
        return Some(
            "in a rarer form of its format: leap seconds, IPv4 inside IPv6, quoted or literal parts of addresses",
        );
    }
    let newest = Draft::Draft202012;
    let judge =
        jsonschema::options().with_draft(newest).should_validate_formats(false).build(&narrowed(schema));
    if draft != newest
        && schema.to_string().contains("\"$ref\":")
        && judge.is_ok_and(|judge| !judge.is_valid(document))
    {
        return Some("by keywords beside $ref, which count since draft 2019-09");
    }
    let reordered = orders(document).into_iter().any(|text| possible(vocabulary, grammar, &text) == Ok(true));
    reordered.then_some("with properties in another order")
}

/// The document with its properties in every order, if there are few.
fn orders(document: &Value) -> Vec<String> {
    let Some(fields) = document.as_object().filter(|fields| fields.len() <= 6) else { return Vec::new() };
    let mut orders: Vec<Vec<String>> = vec![Vec::new()];
    for (key, value) in fields {
        let field = format!("{}:{value}", Value::from(key.as_str()));
        let with = |order: &Vec<String>| -> Vec<Vec<String>> {
            (0..=order.len())
                .map(|at| [&order[..at], std::slice::from_ref(&field), &order[at..]].concat())
                .collect()
        };
        orders = orders.iter().flat_map(with).collect();
    }
    orders.iter().map(|fields| format!("{{{}}}", fields.join(","))).collect()
}

fn check_group(
    vocabulary: &Vocabulary,
    (draft, formats): (Draft, bool),
    place: &str,
    group: &Value,
    seeds: u64,
    count: &mut Count,
) {
    let schema = &group["schema"];
    count.schemas += 1;
    let grammar = Grammar::json_schema(schema, Spacing::Free);
    let compiled = grammar.and_then(|grammar| vocabulary.matcher(&grammar).map(|_| grammar));
    let grammar = match compiled {
        Ok(grammar) => grammar,
        Err(error) => {
            *count.refused.entry(named(&error)).or_default() += 1;
            return;
        }
    };
    count.compiled += 1;
    let judge = jsonschema::options().with_draft(draft).should_validate_formats(formats).build(schema);
    for seed in 0..seeds {
        match (write(vocabulary, &grammar, seed, 30), &judge) {
            (Ok(Some(text)), Ok(judge)) => {
                count.written += 1;
                let document = serde_json::from_str::<Value>(&text);
                if document.is_ok_and(|document| !judge.is_valid(&document)) {
                    count.problems.push(format!("{place}: {text} was written"));
                }
            }
            (Ok(_), _) => count.open += 1,
            (Err(error), _) => count.problems.push(format!("{place}: {error}")),
        }
    }
    for test in group["tests"].as_array().unwrap() {
        let passes = possible(vocabulary, &grammar, &test["data"].to_string()) == Ok(true);
        match (test["valid"] == true, passes) {
            (false, true) => count.problems.push(format!("{place}: {test} must not pass")),
            (false, false) => count.invalid += 1,
            (true, true) => count.valid += 1,
            (true, false) => match narrowing(vocabulary, draft, &grammar, schema, &test["data"]) {
                Some(why) => *count.narrowed.entry(why).or_default() += 1,
                None => count.problems.push(format!("{place}: {test} must pass under {schema}")),
            },
        }
    }
}

#[test]
fn the_suite_of_json_schema() {
    let Some(folder) = suite() else { return };
    let vocabulary = vocabulary();
    let seeds = std::env::var("ONDOL_GRAMMAR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    let mut problems = Vec::new();
    for (name, draft) in DRAFTS {
        let mut count = Count::default();
        // Formats are asserted in a folder of their own, which the oldest draft has too.
        let folders = [folder.join(name), folder.join(name).join("optional/format")];
        let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let files = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
        files.sort();
        for path in files {
            let formats = path.parent().is_some_and(|folder| folder.ends_with("optional/format"));
            let groups: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            for group in groups {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let place = format!("{name}/{file}: {}", group["description"]);
                check_group(&vocabulary, (draft, formats), &place, &group, seeds, &mut count);
            }
        }
        eprintln!(
            "{name}: {} schemas, {} compiled; {} documents written at random, all valid, {} not ended; \
             {} valid and {} invalid documents judged as the suite does",
            count.schemas, count.compiled, count.written, count.open, count.valid, count.invalid
        );
        eprintln!("  refused: {:?}", count.refused);
        eprintln!("  valid, but narrowed away: {:?}", count.narrowed);
        assert!(count.compiled > 80 && count.valid > 200, "{count:?}");
        problems.append(&mut count.problems);
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}
