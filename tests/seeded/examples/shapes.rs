//! Writes random weights in the shapes of real models into a folder, and prints the path of each file.
//!
//! `cargo xtask shapes FOLDER [NAME…]` runs this in release.

use std::{env, path::PathBuf, process::ExitCode};

use seeded::shapes;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: shapes FOLDER [NAME…]");
        return ExitCode::FAILURE;
    };
    let names: Vec<String> = arguments.map(|name| name.to_string_lossy().into_owned()).collect();
    let known: Vec<String> = shapes::all().iter().map(shapes::ShapeFile::name).collect();
    // What nobody names is written for speed alone, and F16 is four times as large as what people run.
    let usual: Vec<String> = known.iter().filter(|name| !name.ends_with("-F16")).cloned().collect();
    for name in if names.is_empty() { &usual } else { &names } {
        let Some(file) = shapes::find(name) else {
            eprintln!("there is no shape \"{name}\": choose among {}", known.join(", "));
            return ExitCode::FAILURE;
        };
        match file.write(&folder) {
            Ok(path) => println!("{}", path.display()),
            Err(error) => {
                eprintln!("{name} in {}: {error}", folder.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
