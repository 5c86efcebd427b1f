//! Pages on a disk: kept and found again, bounded, private, and never wrong.

use std::time::Duration;

use super::*;

const BYTES: usize = 100;
const FILE: u64 = (BYTES + weights::page_file::HEADER_BYTES) as u64;

fn folder(root: &Path, pages: u64) -> PagesFolder {
    let limits = PagesLimits { total_bytes_max: pages * FILE, spare_bytes: 0 };
    PagesFolder::of_store(root, limits).unwrap().expect("nobody else is there")
}

fn shelf(folder: &PagesFolder, form: &str) -> PagesShelf {
    let stamp = weights::FileStamp { size: 5, modified: (1000, 1), changed: (1000, 1) };
    let version = SourceVersion { stamp, header_sum: 9 };
    folder.shelf(Path::new("model"), &version, form, BYTES).expect("an old file")
}

fn page(first: u8) -> Vec<u8> {
    (0..BYTES as u8).map(|at| first.wrapping_add(at)).collect()
}

#[test]
fn pages_are_found_again_by_the_same_model_alone() {
    let root = tempfile::tempdir().unwrap();
    {
        let folder = folder(root.path(), 10);
        let ours = shelf(&folder, "f16");
        assert_eq!(ours.keep(1, 11, &page(1)).unwrap(), []);
        ours.keep(2, 22, &page(2)).unwrap();
        assert!(PagesFolder::of_store(root.path(), PagesLimits::of(1)).unwrap().is_none(), "two at once");
    }
    let folder = folder(root.path(), 10);
    let ours = shelf(&folder, "f16");
    let mut keys = ours.keys();
    keys.sort_unstable();
    assert_eq!((keys, folder.bytes()), (vec![1, 2], 2 * FILE));
    assert_eq!((ours.read(1, 11), ours.read(2, 22)), (Some(page(1)), Some(page(2))));
    assert_eq!(ours.read(3, 33), None);
    let other = shelf(&folder, "q8_0");
    assert_eq!((other.keys(), other.read(1, 11)), (vec![], None));
    assert_eq!(ours.read(1, 12), None, "the same key with another seal");
    assert_eq!(ours.keys(), [2], "and it is gone");
}

#[test]
fn what_is_damaged_cut_or_foreign_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path(), 100);
    let (ours, other) = (shelf(&folder, "f16"), shelf(&folder, "f32"));
    let path = |key: u128| folder.path(&(Arc::clone(&ours.model), key));
    let check = |key: u128, change: &dyn Fn(&Path)| {
        ours.keep(key, 5, &page(7)).unwrap();
        change(&path(key));
        assert_eq!(ours.read(key, 5), None);
        assert!(!path(key).exists() && !ours.keys().contains(&key));
        // Its place is free for a good one.
        ours.keep(key, 5, &page(8)).unwrap();
        assert_eq!(ours.read(key, 5), Some(page(8)));
    };
    check(1, &|path| fs::write(path, []).unwrap());
    check(2, &|path| File::options().write(true).open(path).unwrap().set_len(FILE - 1).unwrap());
    check(3, &|path| fs::write(path, vec![0; 1 << 20]).unwrap());
    check(4, &|path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    });
    check(5, &|path| fs::remove_file(path).unwrap());
    other.keep(6, 5, &page(9)).unwrap();
    check(6, &|path| {
        fs::copy(folder.path(&(Arc::clone(&other.model), 6)), path).unwrap();
    });
    ours.keep(100, 5, &page(9)).unwrap();
    check(7, &|to| {
        fs::copy(path(100), to).unwrap();
    });
}

#[test]
fn no_more_than_is_allowed_and_the_longest_unused_leave_first() {
    let root = tempfile::tempdir().unwrap();
    {
        let folder = folder(root.path(), 3);
        let ours = shelf(&folder, "f16");
        for key in 1..4 {
            assert_eq!(ours.keep(key, 0, &page(0)).unwrap(), []);
        }
        assert!(ours.read(1, 0).is_some());
        assert_eq!(ours.keep(4, 0, &page(0)).unwrap(), [2]);
        let other = shelf(&folder, "f32");
        assert_eq!(other.keep(1, 0, &page(0)).unwrap(), [], "what left was another's");
        assert_eq!(folder.bytes(), 3 * FILE);
        let old = SystemTime::now() - Duration::from_secs(100);
        for (at, (model, key)) in [(&ours.model, 1), (&other.model, 1), (&ours.model, 4)].iter().enumerate() {
            let file = File::options().write(true).open(folder.path(&(Arc::clone(model), *key))).unwrap();
            file.set_modified(old + Duration::from_secs(at as u64)).unwrap();
        }
        fs::write(root.path().join("cache/kv").join(&*ours.model).join("x.kv-part"), "half").unwrap();
    }
    // What may stay is less by now.
    let folder = folder(root.path(), 1);
    assert_eq!((shelf(&folder, "f16").keys(), shelf(&folder, "f32").keys()), (vec![4], vec![]));
    let inside = root.path().join("cache/kv").join(&*shelf(&folder, "f16").model);
    assert_eq!(fs::read_dir(inside).unwrap().count(), 1);
    let ours = shelf(&folder, "f16");
    assert!(ours.keep(9, 0, &page(0)).is_ok());
    drop((ours, folder));
    let none = PagesLimits { total_bytes_max: FILE - 1, spare_bytes: 0 };
    let folder = PagesFolder::of_store(root.path(), none).unwrap().unwrap();
    assert!(shelf(&folder, "f16").keep(9, 0, &page(0)).is_err() && folder.bytes() == 0);
}

#[cfg(unix)]
#[test]
fn they_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("cache/kv")).unwrap();
    let folder = folder(root.path(), 3);
    let ours = shelf(&folder, "f16");
    ours.keep(1, 0, &page(0)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = folder.path(&(Arc::clone(&ours.model), 1));
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&root.path().join("cache/kv")), 0o700);
}
