//! Pulls models by hand and tells what happens: `cargo run -p registry --example pull -- HOME NAME…`.
//!
//! For checking the real package clients and hubs, which tests do not reach. It reads no settings; proxies come from
//! the environment.

use std::error::Error;
use std::time::Instant;

use registry::{Progress, PullOptions, Store, StoreOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("usage: pull HOME NAME…")?.into();
    let store = Store::open(StoreOptions { root, ..StoreOptions::default() })?;
    let mut options = PullOptions::default();
    options.network.proxies = net::Proxies::from_variables(|name| std::env::var(name).ok());
    for name in arguments {
        let begun = Instant::now();
        let mut last = String::new();
        let mut tell = |progress: Progress| {
            let line = match &progress {
                Progress::Pulling { total, completed, .. } => {
                    format!("{} {:3} %", progress.status(), completed * 100 / (*total).max(1))
                }
                _ => progress.status(),
            };
            if line != last {
                println!("{:7.2} s  {line}", begun.elapsed().as_secs_f32());
                last = line;
            }
        };
        let entry = store.pull(&name, &options, &mut tell).await?;
        let details = store.show(&name)?;
        println!("{entry:#?}\ncapabilities {:?}, {} tensors", details.capabilities, details.tensors.len());
    }
    for entry in store.list()? {
        println!("{}  {}  {}", entry.name, &entry.digest[7..19], entry.size_bytes);
    }
    Ok(())
}
