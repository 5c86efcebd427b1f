//! Grammars under random logits: whatever a model wants, what it writes satisfies what was promised.
//!
//! Each schema of `schemas.json` (written for this test) is sampled with seeds over a small vocabulary, and each document
//! is judged by `jsonschema`, a validator that is not ours. Documents that must be possible, and documents that must not,
//! are walked through the masks token by token. JSON Schema's own test suite: `json_schema_suite.rs`.
#![expect(clippy::unwrap_used, reason = "in a test a failed unwrap is the failure")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Random, possible, vocabulary, write};
use text::grammar::{
    Constraint, Grammar, GrammarError, Guide, Mark, Piece, Spacing, Start, TokenMask, Vocabulary,
};

/// Samples of each schema; more with `ONDOL_GRAMMAR_SEEDS`.
fn seeds() -> u64 {
    std::env::var("ONDOL_GRAMMAR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4)
}

fn judge(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

/// The document, unless a number in it is too large for the parser: that is JSON, and a number, all the same.
fn parsed(name: &str, text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(error) => panic!("{name}: {error} in {text}"),
    }
}

#[test]
fn no_document_leaves_its_schema() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(cases.len() >= 300, "{} schemas", cases.len());
    let vocabulary = vocabulary();
    let (mut written, mut open, mut endless) = (0, 0, 0);
    for case in &cases {
        let (name, schema) = (case["name"].as_str().unwrap(), &case["schema"]);
        let judge = judge(case.get("judge").unwrap_or(schema));
        let grammar = Grammar::json_schema(schema, Spacing::Free);
        let grammar = grammar.unwrap_or_else(|error| panic!("{name}: {error}"));
        for (list, wanted) in [("yes", true), ("no", false)] {
            for text in case[list].as_array().unwrap() {
                let text = text.as_str().unwrap();
                assert_eq!(possible(&vocabulary, &grammar, text), Ok(wanted), "{name}: {text}");
                if let Ok(document) = serde_json::from_str(text) {
                    assert_eq!(judge.is_valid(&document), wanted, "{name}: {text}, says the judge");
                }
            }
        }
        let mut ended = false;
        for seed in 0..seeds() {
            let text = write(&vocabulary, &grammar, seed, 40);
            let Some(text) = text.unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}")) else {
                open += 1;
                continue;
            };
            (ended, written) = (true, written + 1);
            let Some(document) = parsed(name, &text) else { continue };
            assert!(judge.is_valid(&document), "{name}, seed {seed}: {text}");
        }
        endless += usize::from(!ended);
    }
    // What must end in one certain letter seldom does at random; that it can is what the lists of documents show.
    assert!(endless * 20 < cases.len(), "under {endless} of {} schemas no answer ends", cases.len());
    eprintln!("{} schemas, {written} documents, all valid; {open} answers did not end in time", cases.len());
}

#[test]
fn any_object_is_an_object() {
    let (vocabulary, grammar) = (vocabulary(), Grammar::of(&contract::Format::Json).unwrap());
    for seed in 0..seeds() * 10 {
        let Some(text) = write(&vocabulary, &grammar, seed, 60).unwrap() else { continue };
        assert!(parsed("object", &text).is_none_or(|value| value.is_object()), "{text}");
    }
}

#[test]
fn spacing() {
    let vocabulary = vocabulary();
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]});
    let check = |spacing, text: &str, wanted: bool| {
        let grammar = Grammar::json_schema(&schema, spacing).unwrap();
        assert_eq!(possible(&vocabulary, &grammar, text), Ok(wanted), "{spacing:?}: {text:?}");
    };
    for spacing in [Spacing::Free, Spacing::None] {
        check(spacing, r#"{"a":[1,2]}"#, true);
    }
    check(Spacing::Free, "{\n    \"a\": [\n        1,\n        2\n    ]\n}", true);
    check(Spacing::Free, "{ \"a\" : [ 1 , 2 ] }", true);
    check(Spacing::Free, "{   \"a\":[]}", false);
    check(Spacing::None, r#"{"a": [1]}"#, false);
    check(Spacing::Python, r#"{"a": [1, 2]}"#, true);
    check(Spacing::Python, r#"{"a":[1,2]}"#, false);
}

#[test]
fn one_way_is_taken_without_asking() {
    let vocabulary = vocabulary();
    let schema = json!({"type": "object", "properties": {"longer_name": {"const": true}}, "required": ["longer_name"]});
    let grammar = Grammar::json_schema(&schema, Spacing::None).unwrap();
    let mut matcher = vocabulary.matcher(&grammar).unwrap();
    let tokens = matcher.forced().unwrap();
    assert!(!tokens.is_empty() && !matcher.is_over());
    for &token in &tokens {
        matcher.commit(token).unwrap();
    }
    assert!(matcher.is_over());
    assert_eq!(vocabulary.tokenizer().decode(&tokens), r#"{"longer_name":true}"#);
    assert!(matcher.forced().unwrap().is_empty(), "nothing follows the end");
}

#[test]
fn grammars_of_other_kinds() {
    let vocabulary = vocabulary();
    let check = |grammar: Result<Grammar, GrammarError>, yes: &[&str], no: &[&str]| {
        let grammar = grammar.unwrap();
        for text in yes {
            assert_eq!(possible(&vocabulary, &grammar, text), Ok(true), "{grammar:?}: {text:?}");
        }
        for text in no {
            assert_eq!(possible(&vocabulary, &grammar, text), Ok(false), "{grammar:?}: {text:?}");
        }
        for seed in 0..seeds() {
            write(&vocabulary, &grammar, seed, 30).unwrap();
        }
    };
    check(Grammar::regex("^[a-c]{2}(d|e)$"), &["abd", "cce"], &["ab", "abdd", "xyd"]);
    check(Grammar::regex(r"\d+|a/b"), &["123", "a/b"], &["", "1a"]);
    let choices = ["yes", "yes, but", "no", "\"quoted\"", "한국"].map(str::to_owned);
    check(Grammar::choice(&choices), &["yes", "yes, but", "\"quoted\"", "한국"], &["", "y", "yes,", "yesno"]);
    let lark = "start: greeting \" \" NAME \"!\"\ngreeting: \"hello\" | \"hi\"\nNAME: /[A-Z][a-z]*/";
    check(Grammar::lark(lark), &["hello Kim!", "hi K!"], &["hello kim!", "hey K!"]);

    // GBNF without and with recursion; the latter with parts that run into each other.
    let gbnf = Grammar::gbnf("root ::= answer (\",\" answer)*\nanswer ::= \"yes\" | \"no\" | [0-9]{1,3}");
    check(gbnf, &["yes", "no,12,yes"], &["", "yes,", "1234"]);
    let json = r##"
        root   ::= object
        value  ::= object | array | string | number | ("true" | "false" | "null") ws
        object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
        array  ::= "[" ws ( value ("," ws value)* )? "]" ws
        string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
        number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
        ws ::= | " " | "\n" [ \t]{0,20}
    "##;
    check(
        Grammar::gbnf(json),
        &["{}", r#"{"a": [1, "x\u00e9", true, {"b": null}]}"#, "{\"a\":\n  []}"],
        &["[]", "{\"a\"}", "{'a':1}", "{\"a\":01}"],
    );
    let swallowed = "root ::= \"(\" root \")\" | word \"end\"\nword ::= [a-z]*";
    check(Grammar::gbnf(swallowed), &["end", "abcend", "((enend))", "endend"], &["abc", "(end", "en"]);
    let twice = "root ::= x | \"[\" root \"]\"\nx ::= \"a\" | \"ab\" \"c\" | \"a\" \"b\" \"d\"";
    check(Grammar::gbnf(twice), &["a", "abc", "abd", "[[abd]]"], &["ab", "[a", "abcd"]);
    let sums = "root ::= e\ne ::= t (\"+\" t)*\nt ::= [0-9]+ | \"(\" e \")\"";
    check(Grammar::gbnf(sums), &["1", "1+22", "(1+(2+3))+4"], &["", "1+", "(1", "1++2"]);
}

#[test]
fn pieces_put_together() {
    let vocabulary = vocabulary();
    let tool = |name: &str, schema: Value| {
        let schema = json!({"type": "object", "properties": {"name": {"const": name}, "arguments": schema}, "required": ["name", "arguments"]});
        Piece::Json { schema, spacing: Spacing::Python }
    };
    let text = |text: &str| Piece::Text(text.to_owned());
    let weather = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let call = Piece::Sequence(vec![
        text("<call>\n"),
        Piece::Choice(vec![
            tool("weather", weather),
            tool("time", json!({"type": "object", "properties": {}})),
        ]),
        text("\n</call>"),
    ]);
    let calls = Piece::List { item: Box::new(call), separator: Box::new(text("\n")), most: Some(2) };
    let grammar = Grammar::from_piece(&calls).unwrap();
    let time = r#"{"name": "time", "arguments": {}}"#;
    let weather = r#"{"name": "weather", "arguments": {"city": "서울"}}"#;
    let check =
        |text: String, wanted| assert_eq!(possible(&vocabulary, &grammar, &text), Ok(wanted), "{text}");
    check(format!("<call>\n{time}\n</call>"), true);
    check(format!("<call>\n{weather}\n</call>\n<call>\n{time}\n</call>"), true);
    check(format!("<call>\n{time}\n</call>\n<call>\n{time}\n</call>\n<call>\n{time}\n</call>"), false);
    check(time.to_owned(), false);
    check(
        r#"<call>
{"name": "time", "arguments": {"city": "x"}}
</call>"#
            .to_owned(),
        false,
    );

    // A control token that no text can write.
    let id = vocabulary.tokenizer().token_id("<tool>").unwrap();
    let marked = Piece::Sequence(vec![Piece::Token(id), Piece::Optional(Box::new(text("a"))), text("b")]);
    let mut matcher = vocabulary.matcher(&Grammar::from_piece(&marked).unwrap()).unwrap();
    let mut mask = TokenMask::default();
    matcher.mask(&mut mask).unwrap();
    assert_eq!(mask.iter().collect::<Vec<_>>(), [id]);
    matcher.commit(id).unwrap();
    matcher.mask(&mut mask).unwrap();
    let allowed: Vec<String> = mask.iter().map(|id| vocabulary.tokenizer().decode(&[id])).collect();
    assert!(allowed.iter().all(|text| ["a", "b", "ab"].contains(&text.as_str())), "{allowed:?}");
    assert!(allowed.len() >= 3);
}

#[test]
fn grammars_count_from_where_they_should() {
    let vocabulary = vocabulary();
    let tokenizer = vocabulary.tokenizer();
    let grammar = Grammar::choice(&["yes".to_owned(), "no".to_owned()]).unwrap();
    let end = tokenizer.eos().unwrap();
    let begin = |start| Guide::new(&vocabulary, &grammar, start).unwrap();
    let say = |guide: &mut Guide, text: &str| {
        for id in tokenizer.encode_continuation(text).unwrap() {
            assert!(guide.mask().unwrap().is_none_or(|mask| mask.allows(id)), "{text:?} may be said");
            guide.commit(id).unwrap();
        }
    };
    let allows = |guide: &mut Guide, text: &str| {
        let id = tokenizer.encode_continuation(text).unwrap()[0];
        guide.mask().unwrap().is_none_or(|mask| mask.allows(id))
    };
    let may_end = |guide: &mut Guide| guide.mask().unwrap().is_none_or(|mask| mask.allows(end));

    // Behind thoughts; they cannot be the end.
    let mut guide = begin(Start::After(b"</think>".to_vec()));
    say(&mut guide, "hm </think no </thi");
    assert!(!may_end(&mut guide) && allows(&mut guide, "x"));
    say(&mut guide, "nk>");
    assert!(!allows(&mut guide, "x") && allows(&mut guide, "y"));
    say(&mut guide, "yes");
    assert!(guide.is_over() && may_end(&mut guide));

    // Thoughts or none.
    let thoughts = || Start::AfterIf { opens: b"<think>".to_vec(), closes: b"</think>".to_vec() };
    let mut guide = begin(thoughts());
    assert!(allows(&mut guide, "<") && allows(&mut guide, "n") && !allows(&mut guide, "x"));
    say(&mut guide, "no");
    assert!(guide.is_over());
    let mut guide = begin(thoughts());
    say(&mut guide, "<think>anything at all</think>");
    assert!(!allows(&mut guide, "x"));
    say(&mut guide, "no");
    assert!(guide.is_over());

    // Whenever a call begins, again and again.
    let mark = Mark { text: "<call>".to_owned(), spelt: Vec::new(), first: false };
    let mut guide = begin(Start::On { marks: [mark].into(), thoughts: None });
    assert!(may_end(&mut guide));
    for _ in 0..2 {
        say(&mut guide, "free text, then <call>");
        assert!(!allows(&mut guide, "x") && !may_end(&mut guide));
        say(&mut guide, "yes");
        assert!(may_end(&mut guide) && allows(&mut guide, "x") && !guide.is_over());
    }
}

#[test]
fn what_is_compiled_is_kept_within_bounds() {
    let vocabulary = vocabulary();
    for n in 0..200 {
        let grammar = Grammar::choice(&[format!("choice {n}")]).unwrap();
        vocabulary.matcher(&grammar).unwrap();
        vocabulary.matcher(&grammar).unwrap();
        assert!(vocabulary.kept() <= 64);
    }
    assert_eq!(vocabulary.kept(), 64);
}

#[test]
fn hostile_grammars_are_refused_or_bounded() {
    let vocabulary = vocabulary();
    let nest = |schema: Value, times: usize| {
        (0..times)
            .fold(schema, |inner, _| json!({"anyOf": [inner.clone(), {"type": "array", "items": inner}]}))
    };
    let optional: serde_json::Map<String, Value> = (0..2_000).map(|n| (format!("p{n}"), json!({}))).collect();
    let chain: serde_json::Map<String, Value> =
        (0..900).map(|n| (format!("n{n}"), json!({"$ref": format!("#/$defs/n{}", (n + 1) % 900)}))).collect();
    let schemas = [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"$ref": "#/$defs/n0", "$defs": chain}),
        json!({"type": "string", "pattern": "^(a|aa|aaa)*(b|bb)*((a*)*)*$", "maxLength": 100_000}),
        json!({"type": "string", "pattern": "^(.*a){20}.*$", "minLength": 500}),
        json!({"type": "string", "minLength": 100_000}),
        json!({"type": "array", "minItems": 10_000, "items": {"type": "array", "minItems": 10_000}}),
        json!({"type": "object", "properties": optional}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"allOf": (0..200).map(|n| json!({"pattern": format!("a{{{n}}}")})).collect::<Vec<_>>()}),
        json!({"type": "integer", "multipleOf": 9973, "minimum": 1, "maximum": 999_999_999_999_999_i64}),
        nest(json!({"type": "integer"}), 12),
    ];
    for schema in &schemas {
        let shown: String = schema.to_string().chars().take(100).collect();
        let outcome = Grammar::json_schema(schema, Spacing::Free)
            .and_then(|grammar| write(&vocabulary, &grammar, 1, 20));
        if let Err(error) = outcome {
            assert!(error.to_string().len() < 600, "{shown}: {error}");
        }
    }
    let long = "(".repeat(90) + "\"a\"" + &")".repeat(90);
    let rules: String = (0..3_000).map(|n| format!("a{n}: a{}\n", n + 1)).collect();
    for source in [
        format!("start: {long}"),
        format!("start: a0\n{rules}a3000: \"x\""),
        "start: start".to_owned(),
        "start: start \"a\" | \"a\"".to_owned(),
        "start: x x x x\nx: y y y y\ny: z z z z\nz: \"a\"?".to_owned(),
        "start: \"a\"{1000000}".to_owned(),
        "start: /(a|b)*c(a|b){200}/".to_owned(),
        "start: <[999999]>".to_owned(),
        "start: <nonsense>".to_owned(),
        "%json {}".to_owned(),
        String::new(),
    ] {
        let outcome = Grammar::lark(&source).and_then(|grammar| write(&vocabulary, &grammar, 1, 20));
        if let Err(error) = outcome {
            assert!(error.to_string().len() < 600, "{error}");
        }
    }
}

#[test]
fn random_bytes_are_no_way_out() {
    // A model that hammers one token after another gets nowhere that its grammar does not go.
    let vocabulary = vocabulary();
    let grammar = Grammar::json_schema(&json!({"enum": ["ab", "abc"]}), Spacing::Free).unwrap();
    let mut random = Random(7);
    let forbidden = |vocabulary: &Vocabulary, token: u32| {
        let mut matcher = vocabulary.matcher(&grammar).unwrap();
        let mut mask = TokenMask::default();
        matcher.mask(&mut mask).unwrap();
        (!mask.allows(token)).then(|| matcher.commit(token))
    };
    for _ in 0..300 {
        let token = random.below(vocabulary.tokenizer().vocab_len()) as u32;
        // A mask may leave out another spelling of what comes in any case; taking that breaks nothing.
        let bytes = vocabulary.tokenizer().token_bytes(token).into_owned();
        let spells = !bytes.is_empty() && b"\"abc\"".starts_with(&bytes);
        if let Some(outcome) = forbidden(&vocabulary, token).filter(|_| !spells) {
            assert_eq!(outcome, Err(GrammarError::NotAllowed { token }));
        }
    }
}
