//! Folders of safetensors in the store: imported where they are, known by the digests of their files, and not used any more
//! when one of them changes; and their packed weights, which belong to one version of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod stand_in;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kernels::BlockType;
use kernels::pack::{Format, Packed};
use kernels::pool::Pool;
use registry::{Kept, Origin, PackedFolder, PackedLimits, RegistryError, Store, WeightsFormat};
use stand_in::{Home, hex};
use weights::packed::{Part, SourceVersion};

const SHARD: &str = "model-00002-of-00003.safetensors";

fn with_folder() -> (Home, PathBuf) {
    let home = Home::new();
    let path = home.folder.path().join("tiny");
    fs::create_dir(&path).unwrap();
    seeded::checkpoint::write_tiny(&path, "F16", 64, 3).unwrap();
    (home, path)
}

/// What `sha256sum` prints of a folder's files.
fn listed(folder: &Path) -> String {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.iter().map(|name| format!("{}  {name}\n", hex(&fs::read(folder.join(name)).unwrap()))).collect()
}

fn touch(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(60);
    fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

#[test]
fn a_folder_is_imported_where_it_is() {
    let (home, folder) = with_folder();
    let total: u64 =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    let mut hashed = Vec::new();
    let entry = home.store.import_with(&folder, "mine:v1", |seen, total| hashed.push((seen, total))).unwrap();
    assert_eq!(hashed.last(), Some(&(total, total)));
    assert!(hashed.is_sorted());
    assert_eq!(entry.path, folder.canonicalize().unwrap());
    assert_eq!(entry.digest, format!("sha256:{}", hex(listed(&folder).as_bytes())));
    assert_eq!((entry.origin.clone(), entry.format), (Origin::File, WeightsFormat::Safetensors));
    assert_eq!(entry.size_bytes, total);
    assert_eq!((entry.family.as_deref(), entry.quantization.as_deref()), (Some("llama"), Some("F16")));
    assert_eq!(entry.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(home.store.resolve("mine:v1").unwrap(), entry);
    let details = home.store.show("mine:v1").unwrap();
    assert_eq!((details.architecture.as_str(), details.context_length), ("llama", Some(512)));
    assert!(details.template.unwrap().contains("assistant:"));
    home.store.copy("mine:v1", "yours").unwrap();
    assert_eq!(home.store.resolve("yours").unwrap().digest, entry.digest);
    // Removing forgets the name and nothing else.
    let before = listed(&folder);
    home.store.remove("mine:v1").unwrap();
    home.store.remove("yours").unwrap();
    assert_eq!(listed(&folder), before);
    assert!(home.store.list().unwrap().is_empty());
}

#[test]
fn a_folder_that_changed_asks_to_be_imported_again() {
    let (home, folder) = with_folder();
    let check = |what: &str, change: &dyn Fn()| {
        home.store.import(&folder, "mine").unwrap();
        assert!(home.store.resolve("mine").is_ok(), "{what}");
        change();
        let changed = home.store.resolve("mine").unwrap_err();
        assert!(matches!(changed, RegistryError::Changed { .. }), "{what}: {changed}");
        assert!(changed.to_string().contains("import it again"));
        assert!(home.store.list().unwrap().is_empty(), "{what}");
    };
    check("a shard of another time", &|| touch(&folder.join(SHARD)));
    check("a template", &|| fs::write(folder.join("chat_template.jinja"), "{{ 1 }}").unwrap());
    check("a file more", &|| fs::write(folder.join("tokenizer_config.json"), "{}").unwrap());
    check("a file less", &|| fs::remove_file(folder.join("tokenizer_config.json")).unwrap());
    let shard = fs::read(folder.join(SHARD)).unwrap();
    check("a shard less", &|| fs::remove_file(folder.join(SHARD)).unwrap());
    fs::write(folder.join(SHARD), shard).unwrap();
    // What is no part of the model may come and go.
    home.store.import(&folder, "mine").unwrap();
    fs::write(folder.join("pytorch_model.bin"), "x").unwrap();
    fs::write(folder.join("notes.pdf"), "x").unwrap();
    home.store.resolve("mine").unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(home.store.resolve("mine"), Err(RegistryError::Changed { .. })));
    home.store.remove("mine").unwrap();
}

#[test]
fn what_is_no_model_is_not_imported_and_leaves_nothing() {
    for case in seeded::bad::folders() {
        let home = Home::new();
        let folder = home.folder.path().join("bad");
        fs::create_dir(&folder).unwrap();
        case.write(&folder).unwrap();
        // Whether the engine can run what can be read is the engine's to say.
        if case.layer == seeded::bad::Layer::Model {
            continue;
        }
        let error = home.store.import(&folder, "bad").unwrap_err();
        assert!(matches!(error, RegistryError::BadFolder { .. }), "{}: {error}", case.name);
        assert!(home.store.list().unwrap().is_empty());
        assert!(!home.folder.path().join("models").exists(), "{}", case.name);
    }
}

#[test]
fn packed_weights_of_a_folder_are_of_one_version_of_it() {
    let (home, folder) = with_folder();
    // What was written a moment ago is not trusted to stay.
    let old = SystemTime::now() - Duration::from_secs(3600);
    for entry in fs::read_dir(&folder).unwrap() {
        fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(old).unwrap();
    }
    let cache = PackedFolder::of_store(
        home.folder.path(),
        PackedLimits { spare_bytes: 0, ..PackedLimits::default() },
    );
    let version = || SourceVersion::of(&weights::open(&folder).unwrap()).unwrap();
    let kind = BlockType::Q8_0;
    let bytes: Vec<u8> = (0..32 * kind.row_bytes(64).unwrap()).map(|i| i as u8).collect();
    let packed = Packed::new(Format::of(kind).unwrap(), &bytes, 64, &Pool::new(1));
    let part = Part { name: "a".to_owned(), kind, rows: 32, columns: 64, form: packed.own_form() };
    let parts: Arc<[Part]> = [part].into();
    let keep =
        |version: &SourceVersion| cache.keep(&folder, version, &Arc::downgrade(&parts), &|| true).unwrap();
    let mut tries = 0;
    // The system's own note of the last change is of now.
    while keep(&version()) == Kept::Unsettled && tries < 50 {
        std::thread::sleep(Duration::from_millis(100));
        tries += 1;
    }
    let first = version();
    assert!(cache.find(&folder, &first).is_ok());
    assert!(cache.find(&folder.join("."), &first).is_ok(), "another way to the folder");
    assert!(cache.list().unwrap()[0].is_current);
    touch(&folder.join(SHARD));
    assert_ne!(version(), first);
    assert!(cache.find(&folder, &version()).is_err(), "weights of another version are used");
    assert!(!cache.list().unwrap()[0].is_current);
    cache.sweep().unwrap();
    assert!(cache.list().unwrap().is_empty());
}

#[test]
fn the_store_forgets_packed_weights_with_the_folder() {
    let (home, folder) = with_folder();
    let store: &Store = &home.store;
    store.import(&folder, "mine").unwrap();
    let cache = PackedFolder::of_store(home.folder.path(), PackedLimits::default());
    let key = home.folder.path().join("cache/packed");
    fs::create_dir_all(&key).unwrap();
    // Whatever lies at its place.
    let digest = registry::Digest::of(folder.canonicalize().unwrap().as_os_str().as_encoded_bytes()).hex();
    let pack = key.join(format!("{}.pack", &digest[..32]));
    fs::write(&pack, "packed").unwrap();
    assert!(cache.list().unwrap()[0].source.as_os_str().is_empty());
    store.remove("mine").unwrap();
    assert!(!pack.exists());
}
