//! The cache of packed weights from outside: filled, used, damaged, emptied, and gone with its model. Whatever happens to
//! it, answers are the same.

mod support;

use std::path::PathBuf;

use support::Home;

/// The files of the cache.
fn kept(home: &Home) -> Vec<PathBuf> {
    let folder = home.path().join(".ondol/cache/packed");
    std::fs::read_dir(folder)
        .map_or_else(|_| Vec::new(), |files| files.map(|file| file.expect("a file").path()).collect())
}

fn loads_packed(home: &Home, model: &str, more: &[&str]) -> bool {
    let arguments = ["bench", model, "--prefill", "4", "--decode", "0", "--repeat", "1", "--json"];
    let figures = home.succeeds(&[arguments.as_slice(), more].concat());
    figures.contains("\"was_packed\":true")
}

#[test]
fn a_cache_through_its_life() {
    let home = Home::with_model("tiny");
    let ask = ["run", "tiny", "hi", "-n", "8", "--seed", "1"];
    let answer = home.succeeds(&ask);
    assert_eq!(kept(&home), Vec::<PathBuf>::new(), "so little is not worth keeping");
    assert!(!loads_packed(&home, "tiny", &[]));

    let said = home.succeeds(&["cache", "--fill", "tiny"]);
    assert!(said.starts_with("kept the packed weights of 'tiny': "), "{said}");
    assert_eq!(home.succeeds(&["cache", "--fill", "tiny"]), "nothing to do for 'tiny'\n");
    let [file] = kept(&home).try_into().expect("one file");
    assert!(loads_packed(&home, "tiny", &[]));
    assert!(!loads_packed(&home, "tiny", &["--packed-cache", "off"]));
    assert_eq!(home.succeeds(&ask), answer);
    let list = home.succeeds(&["cache"]);
    let source = home.tiny();
    assert!(list.contains(source.to_str().expect("UTF-8")) && list.contains("current"), "{list}");
    assert!(home.succeeds(&["cache", "--verify"]).ends_with(": sound\n"));

    // The same file by its path is the same model.
    assert!(loads_packed(&home, source.to_str().expect("UTF-8"), &[]));

    // A header that is damaged is not used, and costs nothing but time.
    let sound = std::fs::read(&file).expect("the file reads");
    let damage = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).expect("the file is written");
    };
    for at in [0, 8, 12, 20, 60, sound.len() - 1] {
        damage(at);
        assert!(!loads_packed(&home, "tiny", &[]), "byte {at}");
        assert_eq!(home.succeeds(&ask), answer, "byte {at}");
    }
    std::fs::write(&file, &sound[..sound.len() / 2]).expect("the file is written");
    assert_eq!(home.succeeds(&ask), answer);

    // Weights that are damaged are found by who looks, and removed.
    damage(5000);
    let ended = home.run(&["cache", "--verify"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.out.ends_with(": damaged, removed\n"), "{}", ended.out);
    assert_eq!(kept(&home), Vec::<PathBuf>::new());

    home.succeeds(&["cache", "--fill", "tiny", source.to_str().expect("UTF-8")]);
    home.succeeds(&["rm", "tiny"]);
    assert_eq!(kept(&home), Vec::<PathBuf>::new(), "it goes with its model");
    home.succeeds(&["cache", "--fill", source.to_str().expect("UTF-8")]);
    home.succeeds(&["cache", "--clear"]);
    assert_eq!(kept(&home), Vec::<PathBuf>::new());
}

#[test]
fn a_cache_that_is_off() {
    let home = Home::with_model("tiny");
    let line = home.fails(&["cache", "--packed-cache", "off"]);
    assert!(line.contains("ONDOL_PACKED_CACHE=on"), "{line}");
    let line = home.fails(&["list", "--packed-cache", "much"]);
    assert_eq!(line, "error: --packed-cache: 'much' is not on, off or a size (say 20G)");
    let line = home.fails(&["cache", "--fill", "tiny", "--packed-cache", "1K"]);
    assert!(line.contains("no room"), "{line}");
}
