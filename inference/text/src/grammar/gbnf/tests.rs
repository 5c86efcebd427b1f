//! GBNF as it is read and rewritten. What the result allows is tested in `tests/grammars.rs`.

use super::{read, to_lark};

#[test]
fn grammars_without_recursion_are_one_expression() {
    let check = |source: &str, wanted: &str| {
        let lark = to_lark(source).unwrap();
        let expression = lark.lines().nth(1).unwrap().trim_start_matches("WHOLE: /").trim_end_matches('/');
        let expression = regex_automata::meta::Regex::new(&format!("^(?:{expression})$")).unwrap();
        for text in wanted.split(' ') {
            let (fine, text) = text.strip_prefix('!').map_or((true, text), |text| (false, text));
            assert_eq!(expression.is_match(text), fine, "{source} as {lark}: {text}");
        }
    };
    check(r#"root ::= "a" | "b" c+"#.replace("c+", "[c-e]+").as_str(), "a bc bcde !b !ab");
    check("root ::= x{2,3} # twice\nx ::= [0-9]", "12 123 !1 !1234");
    check("root ::= (\n  \"a\"\n  | \"b\"\n)* \"!\"?", "ab aabb! a! !c");
    check(r#"root ::= "\x41\u0042\"\\" [^\n\]a-c-]"#, "AB\"\\x !AB\"\\a !AB\"\\] !AB\"\\-");
    check("root ::= y-z\ny-z ::= .{3}", "abc 가나다 !ab");
    check("root ::= \"a\"\n  | \"b\"\nother ::= root", "a b !c");
}

#[test]
fn mistakes_are_shown_with_their_line() {
    let check = |source: &str, wanted: &str| {
        let error = to_lark(source).expect_err(source).to_string();
        assert!(error.contains(wanted), "{source:?}: {error}");
    };
    check("", "no rule \"root\"");
    check("x ::= \"a\"", "no rule \"root\"");
    check("root ::= missing", "\"missing\" is used and not defined");
    check("root ::= \"a\"\nroot ::= \"b\"", "line 2: the rule \"root\" is defined twice");
    check("root ::= (\"a\"", "a group is not closed");
    check("root ::= \"a", "a text is not closed");
    check("root ::= [a", "a class is not closed");
    check("root ::= []", "a class has nothing in it");
    check("root ::= [b-a]", "runs backwards");
    check("root ::= \"\\q\"", "an escape is not known");
    check("root ::= \"a\"{3,2}", "the bounds of a repetition are wrong");
    check("root ::= \"a\"{99999}", "the bounds of a repetition are wrong");
    check("root = \"a\"", "line 1: \"::=\" is missing");
    check("root ::= <think>", "a token must be named by its number");
    check("root ::= \"a\" &", "no part of a rule");
    check("root ::= \"a\"******", "too many repetition signs");
    check(&format!("root ::= {}", "(".repeat(1_000)), "the depth of groups");
    check(&"#".repeat(100_000), "the limit is");
}

#[test]
fn a_rule_that_doubles_is_bounded() {
    let mut source = "root ::= a0\n".to_owned();
    for n in 0..40 {
        source += &format!("a{n} ::= a{} a{}\n", n + 1, n + 1);
    }
    source += "a40 ::= \"x\"\n";
    assert!(to_lark(&source).unwrap_err().to_string().contains("the limit is"));
}

#[test]
fn rules_are_numbered_as_they_come() {
    let rules = read("x ::= root\nroot ::= \"a\" x | \"b\"").unwrap();
    assert_eq!((rules.start, rules.bodies.len()), (1, 2));
}
