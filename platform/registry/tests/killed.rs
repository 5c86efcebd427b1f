//! A pull that is killed with no chance to tidy up, and one whose disk is full. Both run in a process of their own:
//! this test binary starts itself again, with the test `child` alone and its orders in the environment.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![cfg(unix)]

mod stand_in;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use registry::{PullOptions, Store, StoreOptions};
use stand_in::{Body, Home, Reply, StandIn, hex, model, options};
use tokio::process::{Child, Command};

const SIZE: usize = 4 << 20;

/// Starts `child` under `before` (a wrapper and its arguments, or nothing).
fn spawn(before: &[&str], root: &Path, url: &str) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut line = before.to_vec();
    line.push(own.to_str().unwrap());
    line.extend(["--exact", "child", "--nocapture"]);
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).env("ONDOL_TEST_ROOT", root).env("ONDOL_TEST_URL", url);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

/// The other process. Without orders it is no test of anything, and says so by doing nothing.
#[tokio::test]
async fn child() {
    let (Some(root), Ok(url)) = (std::env::var_os("ONDOL_TEST_ROOT"), std::env::var("ONDOL_TEST_URL")) else {
        return;
    };
    let store = Store::open(StoreOptions { root: root.into(), ..StoreOptions::default() }).unwrap();
    let options: PullOptions = options(None);
    match store.pull(&url, &options, &mut |_| ()).await {
        Ok(entry) => println!("outcome: {}", entry.digest),
        Err(error) => println!("outcome: {error}"),
    }
}

async fn outcome(child: Child) -> String {
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .find_map(|line| line.split_once("outcome: "))
        .map(|(_, rest)| rest.to_owned())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_killed_pull_resumes_and_verifies() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server =
        StandIn::start(move |seen, before| match (Reply::file(seen, &served, Some("\"a\"")), before) {
            (Reply { body: Body::Whole(bytes), headers, status }, nth) if nth % 3 < 2 => {
                Reply { status, headers, body: Body::Stalled(bytes, 512 << 10) }
            }
            (reply, _) => reply,
        })
        .await;
    for fragment in ["".to_owned(), format!("#sha256={}", hex(&bytes))] {
        let home = Home::new();
        let url = server.url("/m.gguf") + &fragment;
        let requests = server.seen().len();
        let partial = home.folder.path().join("models/partial");
        let mut last = 0;
        for _ in 0..2 {
            let mut child = spawn(&[], home.folder.path(), &url);
            // Until this process has added something of its own.
            let grown = last + (256 << 10);
            while last < grown {
                assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
                tokio::time::sleep(Duration::from_millis(5)).await;
                let sizes = std::fs::read_dir(&partial).into_iter().flatten().flatten();
                last = sizes
                    .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
                    .max()
                    .unwrap_or(0);
            }
            // SIGKILL: nothing of it runs any more.
            child.kill().await.unwrap();
            assert_eq!(home.files("blobs"), Vec::<String>::new());
            assert!(home.store.list().unwrap().is_empty());
        }
        assert_eq!(outcome(spawn(&[], home.folder.path(), &url)).await, format!("sha256:{}", hex(&bytes)));
        let ranges = server.ranges().split_off(requests);
        let [None, Some(second), Some(third)] = ranges[..] else { panic!("{ranges:?}") };
        assert!(second >= 256 << 10 && third >= second + (256 << 10), "{ranges:?}");
        assert_eq!(std::fs::read(home.store.resolve("m").unwrap().path).unwrap(), bytes);
        assert_eq!(home.files("partial"), Vec::<String>::new());
    }
}

/// A disk of eight megabytes: a small file system in memory, mounted where only the child sees it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_said_and_corrupts_nothing() {
    let can = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output().await;
    if !can.is_ok_and(|output| output.status.success()) {
        println!("did not run: the full disk, which needs unshare and user namespaces");
        return;
    }
    let bytes = model(SIZE);
    let served = bytes.clone();
    // Without a length, so that it cannot be refused beforehand.
    let server = StandIn::start(move |_, _| Reply::new(200, Body::Chunked(served.clone()))).await;
    let root = tempfile::tempdir().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m none '{0}' && \"$@\"; find '{0}' -type f -size +0 > '{1}/left'",
        root.path().display(),
        kept.path().display()
    );
    let before = ["unshare", "-rm", "sh", "-c", &script, "sh"];
    let url = server.url("/m.gguf");
    let said = outcome(spawn(&before, root.path(), &url)).await;
    assert!(said.contains("not enough disk space"), "{said}");
    let left = std::fs::read_to_string(kept.path().join("left")).unwrap();
    assert!(!left.contains("/blobs/") && !left.contains("/manifests/"), "{left}");
    // Announced: refused before the first byte.
    let served = bytes.clone();
    let honest = StandIn::start(move |seen, _| Reply::file(seen, &served, None)).await;
    let said = outcome(spawn(&before, root.path(), &honest.url("/m.gguf"))).await;
    assert!(said.contains("bytes are free, "), "{said}");
    let left = std::fs::read_to_string(kept.path().join("left")).unwrap();
    assert_eq!(left, "");
}
