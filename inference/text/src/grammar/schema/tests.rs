//! The rewriting of schemas, row by row: what becomes of a schema, and what is said of one that is refused. What the
//! results allow is tested in `tests/grammars.rs`.

use serde_json::{Value, json};

use super::{Spacing, Work, normalize};

fn rewritten(schema: &Value) -> Value {
    let mut normal = normalize(schema, Spacing::Free, &mut Work::default())
        .unwrap_or_else(|error| panic!("{schema}: {error}"));
    normal.as_object_mut().unwrap().remove("x-guidance");
    normal
}

#[test]
fn schemas_are_rewritten() {
    let check = |schema: Value, wanted: Value| assert_eq!(rewritten(&schema), wanted, "{schema}");
    // What only informs is left out.
    check(
        json!({"type": "string", "title": "t", "description": "d", "x-mine": 1}),
        json!({"type": "string"}),
    );
    // Listed properties are all there are, unless the schema says otherwise; an open object stays open.
    check(
        json!({"properties": {"a": true}}),
        json!({"type": "object", "properties": {"a": true}, "additionalProperties": false}),
    );
    check(
        json!({"properties": {"a": true}, "additionalProperties": true}),
        json!({"type": "object", "properties": {"a": true}, "additionalProperties": true}),
    );
    check(json!({"type": "object"}), json!({"type": "object"}));
    // What is merged is taken exactly.
    check(
        json!({"allOf": [{"properties": {"a": true}}, {"properties": {"b": true}}]}),
        json!({"allOf": [{"properties": {"a": true}}, {"properties": {"b": true}}]}),
    );
    // Older drafts.
    check(
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [true], "additionalItems": false}),
        json!({"type": "array", "prefixItems": [true], "items": false}),
    );
    check(
        json!({"type": "number", "minimum": 1, "exclusiveMinimum": true}),
        json!({"type": "number", "exclusiveMinimum": 1}),
    );
}

#[test]
fn references_and_what_says_the_same() {
    let check = |schema: Value, wanted: Value| assert_eq!(rewritten(&schema), wanted, "{schema}");
    // References, into one list.
    check(
        json!({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"$ref": "#/definitions/c"}, "c": {"type": "null"}}}),
        json!({"$ref": "#/$defs/d1", "$defs": {"d1": {"$ref": "#/$defs/d2"}, "d2": {"type": "null"}}}),
    );
    check(
        json!({"type": "object", "additionalProperties": {"$ref": "#"}}),
        json!({
            "type": "object", "additionalProperties": {"$ref": "#/$defs/d1"},
            "$defs": {"d1": {"type": "object", "additionalProperties": {"$ref": "#/$defs/d1"}}},
        }),
    );
    // Exactly one of what excludes each other is any of them.
    check(
        json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    );
    check(
        json!({"type": "string", "nullable": true}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    );
    // What says the same in other words.
    check(json!({"type": "array", "uniqueItems": false}), json!({"type": "array"}));
    check(
        json!({"type": "object", "unevaluatedProperties": false, "required": ["a", "a"]}),
        json!({"type": "object", "additionalProperties": false, "required": ["a"]}),
    );
    check(
        json!({"type": "object", "propertyNames": {"pattern": "^a"}, "additionalProperties": {"type": "null"}}),
        json!({"type": "object", "patternProperties": {"^a": {"type": "null"}}, "additionalProperties": false}),
    );
    check(
        json!({"type": "object", "propertyNames": {"enum": ["a"]}}),
        json!({"type": "object", "properties": {"a": true}, "additionalProperties": false}),
    );
    check(
        json!({"type": "integer", "format": "uint8", "minimum": 5}),
        json!({"type": "integer", "minimum": 5, "maximum": 255}),
    );
    check(json!({"type": "string", "format": "password"}), json!({"type": "string"}));
    check(json!({"type": "string", "pattern": "^\\d$"}), json!({"type": "string", "pattern": "^[0-9]$"}));
}

#[test]
fn a_clients_options_do_not_reach_the_engine() {
    let schema = json!({"type": "object", "x-guidance": {"lenient": true}});
    let normal = normalize(&schema, Spacing::Free, &mut Work::default()).unwrap();
    assert!(normal["x-guidance"].get("lenient").is_none());
}

#[test]
fn every_unsupported_keyword_is_named_with_its_place() {
    let keywords = super::keywords::unsupported();
    assert!(keywords.len() >= 16);
    for keyword in keywords {
        let schema = json!({"type": "object", "properties": {"a/b": {"items": {keyword: {"x": 1}}}}});
        let error = normalize(&schema, Spacing::Free, &mut Work::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("{keyword:?} at #/properties/a~1b/items ")), "{keyword}: {error}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let check = |schema: Value, wanted: &str| {
        let error = normalize(&schema, Spacing::Free, &mut Work::default())
            .expect_err(&schema.to_string())
            .to_string();
        assert!(error.contains(wanted), "{schema}: {error}");
    };
    let at_a = |schema: Value| json!({"properties": {"a": schema}});
    check(at_a(json!({"uniqueItems": true})), "\"uniqueItems\" at #/properties/a ");
    check(at_a(json!({"format": "idn-email"})), "\"format\" at #/properties/a ");
    check(at_a(json!({"pattern": "(?=a)"})), "\"pattern\" at #/properties/a ");
    check(at_a(json!({"minSize": 3})), "\"minSize\" at #/properties/a ");
    check(json!({"oneOf": [{"type": "string"}, {"minLength": 2}]}), "\"oneOf\" at # ");
    check(json!({"$ref": "http://example.com/"}), "\"$ref\" at # ");
    check(json!({"$ref": "#/$defs/none"}), "\"$ref\" at # ");
    check(json!({"$schema": "http://json-schema.org/draft-03/schema#"}), "\"$schema\" at # ");
    check(json!({"minProperties": 2}), "\"minProperties\" at # ");
    check(json!({"multipleOf": 0.001, "items": {"multipleOf": 997}}), "\"multipleOf\" at #");
    check(json!({"const": "\u{1}"}), "\"const\" at # ");
    check(json!({"enum": [9_007_199_254_740_993_i64]}), "\"enum\" at # ");
    check(json!({"propertyNames": {"maxLength": 3}}), "\"propertyNames\" at # ");
    check(json!({"type": "text"}), "\"type\" at # is invalid");
    check(json!({"type": []}), "\"type\" at # is invalid");
    check(json!({"enum": []}), "\"enum\" at # is invalid");
    check(json!({"items": 3}), "\"schema\" at #/items is invalid");
    check(json!({"required": "a"}), "\"required\" at # is invalid");
    check(json!([]), "\"schema\" at # is invalid");
    check(json!(false), "no document");
    // The place is found behind references, too.
    check(
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"not": {}}}}}),
        "\"not\" at #/$defs/a/items ",
    );
}

#[test]
fn size_and_depth_are_bounded() {
    let check = |schema: Value| {
        let error = normalize(&schema, Spacing::Free, &mut Work::default()).unwrap_err().to_string();
        assert!(error.contains("the limit is") && error.len() < 400, "{error}");
    };
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({"items": deep});
    }
    check(deep);
    check(json!({"enum": (0..30_000).collect::<Vec<i32>>()}));
    check(json!({"description": "x".repeat(1 << 20)}));
    let definitions: serde_json::Map<String, Value> =
        (0..2_000).map(|n| (format!("n{n}"), json!({"$ref": format!("#/$defs/n{}", n + 1)}))).collect();
    check(json!({"$ref": "#/$defs/n0", "$defs": definitions}));
    let name = "n".repeat(100_000);
    let error = normalize(&json!({ &name: 1 }), Spacing::Free, &mut Work::default()).unwrap_err().to_string();
    assert!(error.len() < 1_000, "{} bytes of error", error.len());
}

#[test]
fn what_is_costly_to_compile_is_refused_before_it_is_compiled() {
    let named = |count: usize, of: &dyn Fn(usize) -> (String, Value)| -> Value {
        Value::Object((0..count).map(of).collect())
    };
    let properties = |count| json!({"properties": named(count, &|n| (format!("p{n}"), json!({})))});
    let patterns =
        |count| json!({"patternProperties": named(count, &|n| (format!("^x{n}[a-z]+$"), json!({})))});
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        json!({"type": "object", "propertyNames": {"enum": names}})
    };
    let large = |count| {
        let of = |n| (format!("p{n}"), json!({"pattern": format!("^(\\p{{L}}|\\p{{N}}){{1,40}}{n}$")}));
        json!({"properties": named(count, &of)})
    };
    let check = |schema: Value, fits: bool| {
        let outcome = normalize(&schema, Spacing::Free, &mut Work::default());
        let shown: String = schema.to_string().chars().take(80).collect();
        match outcome {
            Ok(_) => assert!(fits, "{shown}: it is compiled"),
            Err(error) => {
                assert!(!fits && error.to_string().contains("too many to compile"), "{shown}: {error}")
            }
        }
    };
    for (fits, more) in [(true, 0), (false, 2_000)] {
        check(properties(2_000 + more), fits);
        check(patterns(150 + more), fits);
        check(names(2_000 + more), fits);
        check(large(4 + more / 5), fits);
    }
    // What several schemas of one grammar cost is added up.
    let mut work = Work::default();
    normalize(&properties(2_000), Spacing::Free, &mut work).unwrap();
    assert!(normalize(&properties(2_000), Spacing::Free, &mut work).is_err());
}
