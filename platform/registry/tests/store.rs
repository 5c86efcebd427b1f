//! The store on disk: import in place, names, copies, removal and sweeping, and what it does with files that are
//! missing, changed or broken.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod stand_in;

use std::fs;
use std::path::PathBuf;

use registry::{Origin, RegistryError, Store, StoreOptions};
use stand_in::{Home, Reply, StandIn, hex, model, options};

fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = store.list().unwrap().iter().map(|entry| entry.name.to_string()).collect();
    names.sort();
    names
}

/// A home with a model file beside it.
fn with_file(bytes: &[u8]) -> (Home, PathBuf) {
    let home = Home::new();
    let path = home.folder.path().join("my.gguf");
    fs::write(&path, bytes).unwrap();
    (home, path)
}

/// A home with one pulled model, `a:latest`.
async fn with_pulled(bytes: &[u8]) -> Home {
    let home = Home::new();
    let served = bytes.to_vec();
    let server = StandIn::start(move |seen, _| Reply::file(seen, &served, None)).await;
    home.pull(&server.url("/a.gguf"), &options(None)).await.0.unwrap();
    home
}

#[test]
fn a_file_is_imported_where_it_is() {
    let bytes = model(100_000);
    let (home, path) = with_file(&bytes);
    let mut hashed = Vec::new();
    let entry = home.store.import_with(&path, "mine:v1", |seen, total| hashed.push((seen, total))).unwrap();
    assert_eq!(hashed.last(), Some(&(bytes.len() as u64, bytes.len() as u64)));
    assert_eq!(entry.path, path.canonicalize().unwrap());
    assert_eq!(entry.digest, format!("sha256:{}", hex(&bytes)));
    assert_eq!((entry.origin.clone(), entry.size_bytes), (Origin::File, bytes.len() as u64));
    assert_eq!((entry.family.as_deref(), entry.quantization.as_deref()), (Some("llama"), Some("F32")));
    assert_eq!(home.store.resolve("mine:v1").unwrap(), entry);
    assert_eq!(home.files("blobs"), Vec::<String>::new());
    let details = home.store.show("mine:v1").unwrap();
    assert_eq!((details.architecture.as_str(), details.context_length), ("llama", Some(512)));
    assert_eq!(
        (details.capabilities, details.cut),
        (vec!["completion".to_owned()], vec!["filler".to_owned()])
    );
    home.store.remove("mine:v1").unwrap();
    assert!(path.exists());
}

#[test]
fn a_file_that_changed_or_went_asks_to_be_imported_again() {
    let (home, path) = with_file(&model(1000));
    home.store.import(&path, "mine").unwrap();
    fs::write(&path, model(2000)).unwrap();
    let changed = home.store.resolve("mine").unwrap_err();
    assert!(
        matches!(changed, RegistryError::Changed { .. }) && changed.to_string().contains("import it again")
    );
    assert_eq!(names(&home.store), Vec::<String>::new());
    home.store.import(&path, "mine").unwrap();
    assert_eq!(names(&home.store), ["mine:latest"]);
    // The same size, another time.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert!(matches!(home.store.resolve("mine"), Err(RegistryError::Changed { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(home.store.resolve("mine"), Err(RegistryError::Changed { .. })));
    home.store.remove("mine").unwrap();
    assert!(matches!(home.store.resolve("mine"), Err(RegistryError::NotFound { .. })));
}

#[test]
fn what_is_no_model_is_not_imported() {
    let (home, path) = with_file(b"GGUF");
    assert!(matches!(home.store.import(&path, "x"), Err(RegistryError::NotGguf { .. })));
    fs::write(&path, "hello").unwrap();
    assert!(matches!(home.store.import(&path, "x"), Err(RegistryError::NotGguf { .. })));
    assert!(matches!(home.store.import(&path.with_extension("none"), "x"), Err(RegistryError::Io { .. })));
    assert!(matches!(home.store.import(home.folder.path(), "x"), Err(RegistryError::BadFolder { .. })));
    assert!(matches!(home.store.import(&path, "../x"), Err(RegistryError::Name(_))));
    assert!(home.store.list().unwrap().is_empty());
}

#[tokio::test]
async fn names_share_weights_until_the_last_is_removed() {
    let bytes = model(10_000);
    let home = with_pulled(&bytes).await;
    home.store.copy("a", "team/b:v2").unwrap();
    home.store.copy("a", "a").unwrap();
    assert_eq!(names(&home.store), ["a:latest", "team/b:v2"]);
    let (a, b) = (home.store.resolve("a").unwrap(), home.store.resolve("team/b:v2").unwrap());
    assert_eq!((a.path.clone(), a.digest), (b.path, b.digest));
    home.store.remove("a").unwrap();
    assert!(a.path.exists());
    assert_eq!(names(&home.store), ["team/b:v2"]);
    home.store.remove("team/b:v2").unwrap();
    assert!(!a.path.exists());
    assert!(home.files("manifests").is_empty() || home.files("manifests/registry.ollama.ai").is_empty());
    assert!(matches!(home.store.remove("a"), Err(RegistryError::NotFound { .. })));
    assert!(matches!(home.store.copy("a", "c"), Err(RegistryError::NotFound { .. })));
}

#[tokio::test]
async fn names_are_found_without_their_case_and_never_outside() {
    let home = with_pulled(&model(1000)).await;
    home.store.copy("a", "hf.co/Org/Repo:Q4_K_M").unwrap();
    for name in ["hf.co/org/repo:q4_k_m", "HF.co/Org/Repo:Q4_K_M", "A", "a:Latest"] {
        home.store.resolve(name).unwrap();
    }
    for name in ["../../../etc/passwd", "a/../../b", "..", "a:../x", ""] {
        assert!(matches!(home.store.resolve(name), Err(RegistryError::Name(_))), "{name}");
        assert!(matches!(home.store.remove(name), Err(RegistryError::Name(_))), "{name}");
        assert!(matches!(home.store.copy("a", name), Err(RegistryError::Name(_))), "{name}");
    }
    home.store.remove("HF.CO/ORG/REPO:q4_k_m").unwrap();
    assert_eq!(names(&home.store), ["a:latest"]);
}

#[tokio::test]
async fn a_broken_manifest_is_passed_over_and_nothing_is_swept() {
    let home = with_pulled(&model(1000)).await;
    home.store.copy("a", "b").unwrap();
    let folder = home.folder.path().join("models/manifests/registry.ollama.ai/library");
    fs::write(folder.join("b/latest"), "{ not json").unwrap();
    fs::create_dir_all(folder.join("newer")).unwrap();
    let good = fs::read_to_string(folder.join("a/latest")).unwrap();
    fs::write(folder.join("newer/latest"), good.replace("\"schema\": 1", "\"schema\": 99")).unwrap();
    // What is not ours at all is not looked at.
    fs::write(home.folder.path().join("models/manifests/.DS_Store"), "x").unwrap();
    fs::create_dir_all(folder.join("with space/x")).unwrap();
    assert_eq!(names(&home.store), ["a:latest"]);
    assert!(matches!(home.store.resolve("b"), Err(RegistryError::Corrupt { .. })));
    let newer = home.store.resolve("newer").unwrap_err().to_string();
    assert!(newer.contains("newer version"), "{newer}");
    home.store.remove("a").unwrap();
    assert_eq!(home.files("blobs").len(), 1);
    home.store.remove("newer").unwrap();
    home.store.remove("b").unwrap();
    assert_eq!(home.files("blobs").len(), 0);
}

#[tokio::test]
async fn weights_that_went_are_said_and_a_pull_brings_them_back() {
    let bytes = model(1000);
    let served = bytes.clone();
    let server = StandIn::start(move |seen, _| Reply::file(seen, &served, None)).await;
    let home = Home::new();
    let url = server.url(&format!("/a.gguf#sha256={}", hex(&bytes)));
    let entry = home.pull(&url, &options(None)).await.0.unwrap();
    fs::write(&entry.path, &bytes[..500]).unwrap();
    assert!(matches!(home.store.resolve("a"), Err(RegistryError::Corrupt { .. })));
    fs::remove_file(&entry.path).unwrap();
    assert!(home.store.resolve("a").unwrap_err().to_string().contains("pull the model again"));
    home.pull(&url, &options(None)).await.0.unwrap();
    assert_eq!(home.store.resolve("a").unwrap().digest, entry.digest);
}

#[tokio::test]
async fn blobs_of_nobody_are_swept_but_not_one_that_is_being_brought() {
    let home = with_pulled(&model(1000)).await;
    let blobs = home.folder.path().join("models/blobs");
    let (orphan, held) = (format!("sha256-{}", hex(b"orphan")), format!("sha256-{}", hex(b"held")));
    for name in [orphan.as_str(), held.as_str(), "not-a-blob"] {
        fs::write(blobs.join(name), "x").unwrap();
    }
    let lock = fs::File::create(home.folder.path().join("models/locks").join(&held)).unwrap();
    lock.lock().unwrap();
    home.store.copy("a", "b").unwrap();
    home.store.remove("b").unwrap();
    assert!(!blobs.join(&orphan).exists() && blobs.join(&held).exists() && blobs.join("not-a-blob").exists());
    drop(lock);
    home.store.remove("a").unwrap();
    assert_eq!(home.files("blobs"), ["not-a-blob"]);
}

#[test]
fn a_store_can_lie_elsewhere_and_needs_no_folder_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (root, models) = (folder.path().join("none"), folder.path().join("elsewhere"));
    let open = |models: Option<PathBuf>| {
        Store::open(StoreOptions { root: root.clone(), models, ollama: None }).unwrap()
    };
    let store = open(Some(models.clone()));
    assert!(store.list().unwrap().is_empty() && !models.exists());
    let path = folder.path().join("x.gguf");
    fs::write(&path, model(100)).unwrap();
    store.import(&path, "x").unwrap();
    assert!(models.join("manifests").is_dir() && !root.exists());
    assert!(open(None).list().unwrap().is_empty());
    fs::write(&root, "a file").unwrap();
    assert!(
        Store::open(StoreOptions { root: folder.path().into(), models: Some(root), ollama: None }).is_err()
    );
}
