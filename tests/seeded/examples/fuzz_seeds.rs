//! Writes the first inputs of the fuzz targets that take whole files: the known-bad models, and small sound ones.
//!
//! `cargo run -p seeded --example fuzz_seeds -- fuzz/corpus`

use std::{env, fs, io, path::Path, process::ExitCode};

use kernels::pack::{Format, Packed};
use kernels::pool::Pool;
use seeded::{BlockType, Family, Shape, bad};
use weights::FileStamp;
use weights::packed::{Image, Part, SourceVersion};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: fuzz_seeds FOLDER");
        return ExitCode::FAILURE;
    };
    match write(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} files");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(corpus: &Path) -> io::Result<usize> {
    let mut count = 0;
    let mut put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        count += 1;
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    for case in bad::cases_of(bad::Layer::Container) {
        // Larger ones are whole models with a byte missing: slow to change and soon found from the small ones.
        if case.bytes.len() < 10_000 {
            put("gguf_header", case.name, &case.bytes)?;
        }
    }
    for family in Family::ALL {
        let shape =
            Shape { layers: 1, width: 32, ff: 32, head_dim: 8, ..Shape::tiny(family, BlockType::Q4_0) };
        let file = shape.gguf();
        put("gguf_header", family.name(), &file)?;
        put("gguf_load", family.name(), &file)?;
    }
    put("packed_file", "three", &packed_file())?;
    for (number_type, files) in [("F16", 1), ("F32", 2)] {
        put("folder", &format!("{number_type} {files}"), &folder(number_type, files)?)?;
    }
    for case in bad::cases_of(bad::Layer::Template) {
        let source = weights::Gguf::from_bytes(case.bytes)
            .ok()
            .and_then(|file| file.metadata().string("tokenizer.chat_template").ok()?.map(str::to_owned));
        if let Some(source) = source {
            put("chat_template", case.name, source.as_bytes())?;
        }
    }
    Ok(count)
}

/// A sound folder in the parts that the target `folder` reads.
fn folder(number_type: &str, files: usize) -> io::Result<Vec<u8>> {
    let place = env::temp_dir().join(format!("ondol-seed-{}", std::process::id()));
    fs::create_dir_all(&place)?;
    seeded::checkpoint::write_tiny(&place, number_type, 16, files)?;
    let read = |name: &str| fs::read(place.join(name)).unwrap_or_default();
    let (first, second) = match files {
        1 => ("model.safetensors", ""),
        _ => ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    };
    // Where there are two, the first is called as the only one would be.
    let index =
        String::from_utf8_lossy(&read("model.safetensors.index.json")).replace(first, "model.safetensors");
    let parts = [
        read("config.json"),
        read("tokenizer.json"),
        b"{}".to_vec(),
        read("generation_config.json"),
        index.into_bytes(),
        read(first),
        if second.is_empty() { Vec::new() } else { read(second) },
    ];
    fs::remove_dir_all(&place)?;
    Ok(parts.join(&b"\n%%%%\n"[..]))
}

/// A sound file of three small packed matrices.
fn packed_file() -> Vec<u8> {
    let part = |name: &str, kind: BlockType, rows: usize, columns: usize| {
        let blocks = vec![0x35; rows * kind.row_bytes(columns).expect("whole blocks")];
        let format = Format::of(kind).expect("it has a packed form");
        let form = Packed::new(format, &blocks, columns, &Pool::new(1)).own_form();
        Part { name: name.to_owned(), kind, rows, columns, form }
    };
    let parts = [
        part("a", BlockType::Q8_0, 16, 32),
        part("b", BlockType::Q4_K, 3, 256),
        part("c", BlockType::IQ4_NL, 17, 64),
    ];
    let stamp = FileStamp { size: 1, modified: (2, 3), changed: (4, 5) };
    let mut image =
        Image::new(SourceVersion { stamp, header_sum: 6 }, "/m.gguf", &parts).expect("it can be kept");
    let mut file = vec![0; image.len() as usize];
    let written = image.next(&parts, &mut file).expect("the parts are the same");
    assert_eq!(written, file.len(), "one slice holds it all");
    let header = image.header().expect("all of it was made");
    file[..header.len()].copy_from_slice(&header);
    file
}
