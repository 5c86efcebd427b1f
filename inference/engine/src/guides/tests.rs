//! Whose grammar is next, and that each is compiled once. The engine's part is tested with the engine (`step`).

use super::*;

fn wanted(text: &str) -> Wanted {
    Wanted::new("format", Asked::Format(Format::Choice(vec![text.to_owned()])), Start::AtOnce)
}

/// Queues each text for a tenant, then has so many threads take turns: `order` is what they take, and a thread that is
/// done with a grammar takes the next.
#[track_caller]
fn check(asked: &[(&str, u64)], threads: usize, order: &[&str]) {
    let mut state = State::default();
    let mut names = HashMap::new();
    for (text, tenant) in asked {
        let wanted = wanted(text);
        names.insert(wanted.key, *text);
        state.join(&wanted, *tenant, Wake::default());
    }
    let (mut under_way, mut taken) = (Vec::new(), Vec::new());
    loop {
        while under_way.len() < threads
            && let Some(task) = state.next()
        {
            taken.push(names[&task.key]);
            under_way.push(task.key);
            let tenants: Vec<u64> = state.running.iter().map(|(_, tenant)| *tenant).collect();
            let distinct: std::collections::HashSet<&u64> = tenants.iter().collect();
            assert_eq!(tenants.len(), distinct.len(), "two at once for one tenant");
        }
        if under_way.is_empty() {
            break;
        }
        let done = under_way.remove(0);
        state.running.retain(|(key, _)| *key != done);
    }
    assert_eq!(taken, order);
    assert!(state.queue.is_empty() && state.served.is_empty() && state.next().is_none());
}

#[test]
fn one_tenant_does_not_hold_the_threads() {
    check(&[], 2, &[]);
    check(&[("a", 1), ("b", 1), ("c", 1)], 1, &["a", "b", "c"]);
    check(&[("a", 1), ("b", 1), ("c", 1), ("d", 2)], 1, &["a", "d", "b", "c"]);
    check(&[("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 2), ("f", 3)], 2, &["a", "d", "f", "b", "e", "c"]);
    // What two tenants wait for goes by the one with the better claim.
    check(&[("a", 1), ("b", 1), ("c", 1), ("c", 2)], 1, &["a", "c", "b"]);
}

#[test]
fn a_shape_is_told_from_others_by_all_of_it() {
    let piece = |piece| Wanted::new("tools", Asked::Piece(piece), Start::AtOnce);
    let format = |format| Wanted::new("format", Asked::Format(format), Start::AtOnce);
    let json = |text: &str| format(Format::JsonSchema(serde_json::from_str(text).unwrap()));
    let all = [
        wanted("a"),
        wanted("b"),
        format(Format::Regex("a".to_owned())),
        format(Format::Lark("a".to_owned())),
        format(Format::Gbnf("a".to_owned())),
        format(Format::Choice(vec!["a".to_owned(), "b".to_owned()])),
        format(Format::Choice(vec!["a\", \"b".to_owned()])),
        format(Format::Json),
        json("{}"),
        json(r#"{"enum": [1]}"#),
        json(r#"{"enum": [1.0]}"#),
        json(r#"{"enum": ["1"]}"#),
        json(r#"{"a": {}, "b": {}}"#),
        piece(Piece::Text("a".to_owned())),
        piece(Piece::Choice(vec![Piece::Text("a".to_owned())])),
    ];
    for (index, one) in all.iter().enumerate() {
        assert_eq!(one.key, one.clone().key);
        assert!(all[..index].iter().all(|other| other.key != one.key), "{one:?}");
    }
}

#[test]
fn what_is_known_is_bounded() {
    let mut known = Known::default();
    let grammar = |text: String| Grammar::choice(&[text]).unwrap();
    for n in 0..200 {
        known.keep(wanted(&n.to_string()).key, grammar(n.to_string()));
        assert!(known.find(&wanted("0").key).is_some(), "what is used stays");
    }
    assert_eq!(known.grammars.len(), KNOWN_MAX);
    let large = grammar("x".repeat(60_000));
    let holds = KNOWN_BYTES_MAX / large.bytes();
    for n in 0..holds + 20 {
        known.keep(wanted(&format!("large {n}")).key, large.clone());
    }
    assert!(known.bytes() <= KNOWN_BYTES_MAX && known.grammars.len() >= holds.min(KNOWN_MAX) - 1);
}
