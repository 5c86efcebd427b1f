//! The table alone: eviction, sharing, and pages that agree only in part.

use super::*;

fn place(parent: Option<u32>) -> Place {
    Place { root: PrefixKey::root(&[b"model"]), parent }
}

fn page_of(first: u32) -> Vec<u32> {
    (first..first + PAGE_TOKENS as u32).collect()
}

#[test]
fn no_page_twice_and_none_beyond_the_limit() {
    let mut table = PageTable::new(3, 3);
    let taken: Vec<u32> = (0..3).map(|_| table.take().expect("there are three")).collect();
    assert_eq!((taken.as_slice(), table.take(), table.available()), ([0, 1, 2].as_slice(), None, 0));
    table.release(1);
    table.check();
    assert_eq!((table.available(), table.take()), (1, Some(1)));
}

/// Fills a chain of pages below a root and gives it back, as a sequence does.
fn chain(table: &mut PageTable, firsts: &[u32]) -> Vec<u32> {
    let mut key = place(None).root;
    let mut pages = Vec::new();
    for first in firsts {
        let tokens = page_of(*first);
        key = key.extend(&tokens);
        let own = table.take().expect("room");
        pages.push(table.register(own, place(pages.last().copied()), key, &tokens));
    }
    for page in pages.iter().rev() {
        table.release(*page);
    }
    table.check();
    pages
}

#[test]
fn the_same_tokens_after_the_same_tokens_are_one_page() {
    let mut table = PageTable::new(10, 10);
    let first = chain(&mut table, &[0, 100, 200]);
    let second = chain(&mut table, &[0, 100, 300]);
    assert_eq!(first[..2], second[..2]);
    assert_eq!((table.idle(), table.used() - table.free().len() as u32), (4, 4));
    // The same tokens after others are another page.
    let third = chain(&mut table, &[100, 200]);
    assert!(!first.contains(&third[1]));
}

#[test]
fn a_key_alone_is_not_believed() {
    let mut table = PageTable::new(4, 4);
    let page = chain(&mut table, &[0])[0];
    let key = place(None).root.extend(&page_of(0));
    assert_eq!(table.find(place(None), key, &page_of(0)), Some(page));
    assert_eq!(table.find(place(None), key, &page_of(1)), None, "other tokens under the same key");
    assert_eq!(table.find(place(Some(page)), key, &page_of(0)), None, "another parent");
    let other = Place { root: PrefixKey::root(&[b"another tenant"]), parent: None };
    assert_eq!(table.find(other, key, &page_of(0)), None, "another root");
}

#[test]
fn the_page_used_longest_ago_goes_first_and_children_before_parents() {
    let mut table = PageTable::new(4, 4);
    let old = chain(&mut table, &[0, 100]);
    let new = chain(&mut table, &[500, 600]);
    // Used again: now it is the newer one.
    chain(&mut table, &[0, 100]);
    let order: Vec<u32> = (0..4).map(|_| table.take().expect("idle pages are there to be taken")).collect();
    assert_eq!(order, [new[1], new[0], old[1], old[0]]);
    table.check();
}

#[test]
fn no_more_idle_pages_than_allowed() {
    for idle_max in 0..4 {
        let mut table = PageTable::new(8, idle_max);
        chain(&mut table, &[0, 100, 200, 300]);
        assert_eq!((table.idle(), table.available()), (idle_max.min(4), 8));
        // What is kept is the beginning: it is what others may share.
        let found = table.find(place(None), place(None).root.extend(&page_of(0)), &page_of(0));
        assert_eq!(found.is_some(), idle_max > 0);
    }
}

#[test]
fn pages_that_agree_in_part() {
    let mut table = PageTable::new(8, 8);
    chain(&mut table, &[0, 100]);
    let partial = table.take().expect("room");
    table.register_partial(partial, place(None), &[7, 8, 9, 10, 11, 12]);
    table.release(partial);
    table.check();
    let find =
        |table: &PageTable, tokens: &[u32]| table.find_partial(place(None), tokens).map(|found| found.1);
    assert_eq!(find(&table, &[0, 1, 2, 3, 4, 9, 9]), Some(5));
    assert_eq!(find(&table, &[7, 8, 9, 10, 11, 12, 13]), Some(6));
    assert_eq!(find(&table, &[7, 8, 9, 1]), None, "too few to be worth a copy");
    // A full page that begins so makes it needless.
    let idle = table.idle();
    chain(&mut table, &[7]);
    assert_eq!((table.idle(), find(&table, &page_of(7)[..20])), (idle, Some(20)));
}
