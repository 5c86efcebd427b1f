//! An existing Ollama models folder: read in place, never written, and usable even when parts of it are not.
//! The folders are built by the test, as that program lays them out.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod stand_in;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use registry::{Origin, RegistryError, Store, StoreOptions, TemplateDialect};
use serde_json::{Value, json};
use stand_in::{hex, model};

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("ollama/models")
    }

    fn store(&self) -> Store {
        let root = self.folder.path().join("ondol");
        Store::open(StoreOptions { root, ollama: Some(self.root()), models: None }).unwrap()
    }

    fn layer(&self, kind: &str, bytes: &[u8]) -> Value {
        let path = self.root().join("blobs").join(format!("sha256-{}", hex(bytes)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        let digest = format!("sha256:{}", hex(bytes));
        json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": bytes.len()})
    }

    fn manifest(&self, path: &str, layers: &[Value]) {
        let config =
            self.layer("config", br#"{"model_family":"llama","model_type":"1.1B","file_type":"Q4_0"}"#);
        let text = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        self.write(path, &text);
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join("manifests").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Every file with its bytes and time.
    fn picture(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let time = fs::metadata(&path).unwrap().modified().unwrap();
                    files.insert(path.clone(), (fs::read(&path).unwrap(), time));
                }
            }
        }
        files
    }
}

#[test]
fn a_model_is_used_where_it_is_and_the_folder_is_not_touched() {
    let folder = Folder::new();
    let weights = model(10_000);
    let layers = [
        folder.layer("model", &weights),
        folder.layer("template", b"{{ .Prompt }}"),
        folder.layer("params", br#"{"stop":["<|end|>"],"num_ctx":4096}"#),
        folder.layer("system", b"Be kind."),
        folder.layer("license", b"MIT"),
    ];
    folder.manifest("registry.ollama.ai/library/mini/1b", &layers);
    folder.manifest("hf.co/Org/Repo/Q4_0", &layers[..1]);
    let before = folder.picture();
    let store = folder.store();
    let names: Vec<String> = store.list().unwrap().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(
        (names.len(), names.contains(&"mini:1b".into()), names.contains(&"hf.co/Org/Repo:Q4_0".into())),
        (2, true, true)
    );
    let entry = store.resolve("mini:1b").unwrap();
    assert_eq!(fs::read(&entry.path).unwrap(), weights);
    assert!(entry.path.starts_with(folder.root()));
    assert_eq!((entry.origin.clone(), entry.template_dialect), (Origin::OllamaFolder, TemplateDialect::Go));
    assert_eq!(entry.system.as_deref(), Some("Be kind."));
    let expected = [("stop".to_owned(), json!("<|end|>")), ("num_ctx".to_owned(), json!(4096))];
    assert_eq!(entry.parameters, expected);
    let facts = [entry.family.as_deref(), entry.parameter_size.as_deref(), entry.quantization.as_deref()];
    assert_eq!(facts, [Some("llama"), Some("1.1B"), Some("Q4_0")]);
    assert_eq!(store.show("mini:1b").unwrap().context_length, Some(512));
    assert!(matches!(store.remove("mini:1b"), Err(RegistryError::ReadOnly { .. })));
    // A name of ours for it: the weights stay in Ollama's folder, also when that name goes again.
    store.copy("mini:1b", "mine").unwrap();
    let copy = store.resolve("mine").unwrap();
    assert_eq!((&copy.path, &copy.system, &copy.parameters), (&entry.path, &entry.system, &entry.parameters));
    store.remove("mine").unwrap();
    assert_eq!(folder.picture(), before);
}

#[test]
fn ours_hide_ollamas_of_the_same_name() {
    let folder = Folder::new();
    folder.manifest("registry.ollama.ai/library/mini/latest", &[folder.layer("model", &model(1000))]);
    let store = folder.store();
    let path = folder.folder.path().join("mine.gguf");
    fs::write(&path, model(2000)).unwrap();
    store.import(&path, "mini").unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.resolve("mini").unwrap().origin, Origin::File);
    store.remove("mini").unwrap();
    assert_eq!(store.resolve("mini").unwrap().origin, Origin::OllamaFolder);
}

#[test]
fn what_cannot_be_used_is_passed_over_and_said_when_asked_for() {
    let folder = Folder::new();
    let good = folder.layer("model", &model(1000));
    let mut absent = good.clone();
    absent["digest"] = json!(format!("sha256:{}", hex(b"absent")));
    let mut evil = good.clone();
    evil["digest"] = json!("sha256:../../../../../../etc/passwd");
    let mut short = good.clone();
    short["size"] = json!(5);
    let library = |name: &str| format!("registry.ollama.ai/library/{name}/latest");
    folder.manifest(&library("good"), std::slice::from_ref(&good));
    folder.manifest(&library("absent"), &[absent]);
    folder.manifest(&library("evil"), &[evil]);
    folder.manifest(&library("short"), &[short]);
    folder.manifest(&library("cloud"), &[]);
    folder.manifest(&library("adapted"), &[good.clone(), folder.layer("adapter", b"x")]);
    folder.manifest(&library("two"), &[good.clone(), good]);
    folder.write(&library("broken"), "{");
    folder.write(".DS_Store", "x");
    let store = folder.store();
    let names: Vec<String> = store.list().unwrap().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["good:latest"]);
    for (name, expected) in [
        ("absent", "cannot read"),
        ("evil", "not a digest"),
        ("short", "should have 5"),
        ("cloud", "no weights of its own"),
        ("adapted", "adapter"),
        ("two", "several files"),
        ("broken", "cannot read"),
    ] {
        let text = store.resolve(name).unwrap_err().to_string();
        assert!(text.contains(expected), "{name}: {text}");
    }
    assert!(matches!(store.resolve("none"), Err(RegistryError::NotFound { .. })));
}

#[test]
fn a_folder_that_is_not_there_is_empty() {
    let folder = Folder::new();
    assert!(folder.store().list().unwrap().is_empty());
    assert!(!Path::new(&folder.root()).exists());
}
