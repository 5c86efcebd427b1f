//! Writes every tiny model into a folder: for looking at them with other programs.
//!
//! `cargo run -p seeded --example write -- FOLDER`

use std::{env, fs, path::PathBuf, process::ExitCode};

use seeded::{BlockType, Family};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: write FOLDER");
        return ExitCode::FAILURE;
    };
    let written = fs::create_dir_all(&folder).and_then(|()| {
        for family in Family::ALL {
            for block_type in BlockType::ALL {
                println!("{}", seeded::write_tiny(&folder, family, block_type)?.display());
            }
        }
        Ok(())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
