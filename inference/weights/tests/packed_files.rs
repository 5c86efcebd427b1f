//! Files of packed weights: what was written is read back, whatever the slices; what was cut, flipped, lengthened or made
//! to lie is an error and never a panic, and never gives a byte outside the file.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::sync::Arc;

use kernels::pack::{Format, Packed};
use kernels::pool::Pool;
use kernels::{BlockType, OwnForm};
use proptest::prelude::*;
use weights::packed::{Image, Part, SourceVersion};
use weights::{FileStamp, PackedError, PackedFile};

const PAGE: usize = 4096;

fn version(seed: u64) -> SourceVersion {
    let stamp = FileStamp { size: 1000 + seed, modified: (-5, 7), changed: (1 << 40, 999_999_999) };
    SourceVersion { stamp, header_sum: seed }
}

fn part(name: &str, kind: BlockType, rows: usize, columns: usize) -> Part {
    let bytes: Vec<u8> = (0..rows * kind.row_bytes(columns).unwrap()).map(|i| (i * 7 + rows) as u8).collect();
    let packed = Packed::new(Format::of(kind).unwrap(), &bytes, columns, &Pool::new(1));
    Part { name: name.to_owned(), kind, rows, columns, form: packed.own_form() }
}

fn parts() -> Vec<Part> {
    vec![
        part("blk.0.가.weight", BlockType::Q4_0, 19, 64),
        part("b", BlockType::Q6_K, 16, 512),
        part("c", BlockType::Q8_0, 70, 96),
    ]
}

/// The file as it is written: in slices, the header last.
fn file_of(parts: &[Part], slice: usize) -> Vec<u8> {
    let mut image = Image::new(version(3), "/models/a.gguf", parts).unwrap();
    let (mut file, mut buffer) = (Vec::new(), vec![0xAA; slice]);
    loop {
        assert_eq!(image.position(), file.len() as u64);
        let len = image.next(parts, &mut buffer).unwrap();
        if len == 0 {
            break;
        }
        assert!(image.position() == image.len() || image.header().is_none(), "a header before the end");
        file.extend_from_slice(&buffer[..len]);
    }
    assert_eq!(file.len() as u64, image.len());
    assert!(PackedFile::from_bytes(file.clone()).is_err(), "a file without its header is none");
    file[..PAGE].copy_from_slice(&image.header().unwrap());
    file
}

#[test]
fn what_was_written_is_read_back() {
    let parts = parts();
    let whole = file_of(&parts, 1 << 20);
    for slice in [1000, PAGE, 5000, 65536] {
        assert!(file_of(&parts, slice) == whole, "slices of {slice}");
    }
    let file = PackedFile::from_bytes(whole).unwrap();
    assert_eq!(file.source_path(), "/models/a.gguf");
    assert_eq!(*file.source(), version(3));
    file.verify().unwrap();
    assert_eq!(file.tensors().len(), 3);
    for part in &parts {
        let tensor = file.tensor(&part.name).unwrap();
        assert_eq!((tensor.kind, tensor.rows, tensor.columns), (part.kind, part.rows, part.columns));
        assert!(tensor.range.start.is_multiple_of(PAGE));
        assert!(file.form(tensor).bytes() == part.form.bytes(), "{}", part.name);
    }
    assert!(file.tensor("nothing").is_none());
    let file = file.of(&version(3)).unwrap();
    assert!(matches!(file.of(&version(4)), Err(PackedError::Source)));
}

#[test]
fn a_file_on_disk_is_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pack");
    assert!(matches!(PackedFile::open(&path), Err(PackedError::Open { .. })));
    assert!(matches!(PackedFile::open(folder.path()), Err(PackedError::Open { .. })));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(PackedFile::open(&path), Err(PackedError::Magic)));
    let parts = parts();
    std::fs::write(&path, file_of(&parts, 1 << 20)).unwrap();
    let file = PackedFile::open(&path).unwrap();
    file.bring_in(&|| true);
    file.verify().unwrap();
    let form = file.form(file.tensor("b").unwrap());
    drop(file);
    assert!(form.bytes() == parts[1].form.bytes(), "a form keeps its file mapped");
}

#[test]
fn nothing_at_all_can_be_kept() {
    let file = PackedFile::from_bytes(file_of(&[], 100)).unwrap();
    assert!(file.tensors().is_empty());
    file.verify().unwrap();
}

#[test]
fn what_is_no_packed_matrix_is_not_written() {
    let refused = |change: &dyn Fn(&mut Part)| {
        let mut part = part("a", BlockType::Q8_0, 16, 32);
        change(&mut part);
        let result = Image::new(version(0), "/m", &[part]);
        assert!(matches!(result, Err(PackedError::NotWritable(_))), "{result:?}");
    };
    refused(&|part| part.rows = 0);
    refused(&|part| part.rows = 17);
    refused(&|part| part.kind = BlockType::F16);
    refused(&|part| part.name = "x".repeat(1 << 17));
    refused(&|part| part.form = OwnForm { storage: Arc::new(vec![0u8; 10]), range: 5..400 });
    // Parts that are others than at first.
    let parts = parts();
    let mut image = Image::new(version(0), "/m", &parts).unwrap();
    assert!(image.next(&parts[..1], &mut vec![0; 1 << 20]).is_err());
}

/// A sound file with one thing changed in its table, and all sums right: as somebody would write it who means harm.
fn with_table(change: &dyn Fn(&mut Vec<u8>)) -> Result<PackedFile, PackedError> {
    let mut file = file_of(&parts(), 1 << 20);
    let number = |file: &[u8], at: usize| u64::from_le_bytes(*file[at..].first_chunk().unwrap());
    let table_at = number(&file, 24) as usize;
    let mut table = file.split_off(table_at);
    change(&mut table);
    let put =
        |file: &mut Vec<u8>, at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(&mut file, 32, table.len() as u64);
    put(&mut file, 48, sum(&table));
    file.extend_from_slice(&table);
    let len = file.len() as u64;
    put(&mut file, 16, len);
    let header_sum = sum(&file[..112]);
    put(&mut file, 112, header_sum);
    PackedFile::from_bytes(file)
}

/// XXH64 of whole stripes and less, written down once more so that a table can be forged here. Source: the xxHash
/// specification.
fn sum(bytes: &[u8]) -> u64 {
    let p: [u64; 5] = [
        11_400_714_785_074_694_791,
        14_029_467_366_897_019_727,
        1_609_587_929_392_839_161,
        9_650_029_242_287_828_579,
        2_870_177_450_012_600_261,
    ];
    let round =
        |lane: u64, word: u64| lane.wrapping_add(word.wrapping_mul(p[1])).rotate_left(31).wrapping_mul(p[0]);
    let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().unwrap());
    let mut lanes = [p[0].wrapping_add(p[1]), p[1], 0, 0u64.wrapping_sub(p[0])];
    let stripes = bytes.chunks_exact(32);
    let mut rest = stripes.remainder();
    for stripe in stripes {
        for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, word(bytes));
        }
    }
    let mut value = p[4];
    if bytes.len() >= 32 {
        let [a, b, c, d] = lanes;
        value = a.rotate_left(1).wrapping_add(b.rotate_left(7));
        value = value.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18));
        for lane in lanes {
            value = (value ^ round(0, lane)).wrapping_mul(p[0]).wrapping_add(p[3]);
        }
    }
    value = value.wrapping_add(bytes.len() as u64);
    while rest.len() >= 8 {
        value = (value ^ round(0, word(rest))).rotate_left(27).wrapping_mul(p[0]).wrapping_add(p[3]);
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        let four = u64::from(u32::from_le_bytes(*rest.first_chunk().unwrap()));
        value = (value ^ four.wrapping_mul(p[0])).rotate_left(23).wrapping_mul(p[1]).wrapping_add(p[2]);
        rest = &rest[4..];
    }
    for byte in rest {
        value = (value ^ u64::from(*byte).wrapping_mul(p[4])).rotate_left(11).wrapping_mul(p[0]);
    }
    value = (value ^ (value >> 33)).wrapping_mul(p[1]);
    value = (value ^ (value >> 29)).wrapping_mul(p[2]);
    value ^ (value >> 32)
}

#[test]
fn a_table_that_lies_is_refused() {
    with_table(&|_| ()).unwrap().verify().unwrap();
    // The path takes 4 + 14 bytes; the first entry's name 2 + 16, then type, rows, columns, place, length, sum.
    const ENTRY: usize = 4 + 14;
    const NAME: usize = 2 + "blk.0.가.weight".len();
    let field = |index: usize| ENTRY + NAME + 4 + index * 8;
    let check = |what: &str, problem: &str, change: &dyn Fn(&mut Vec<u8>)| match with_table(change) {
        Err(error) => assert!(error.to_string().contains(problem), "{what}: {error}"),
        Ok(_) => panic!("{what} was taken"),
    };
    let put = |at: usize, value: u64| {
        move |table: &mut Vec<u8>| table[at..at + 8].copy_from_slice(&value.to_le_bytes())
    };
    for huge in [u64::MAX, u64::MAX / 2, 1 << 62, 1 << 33] {
        check("rows", "another length", &put(field(0), huge));
        check("columns", "another length", &put(field(1), huge));
        check("length", "another length", &put(field(3), huge));
        check("place", "", &put(field(2), huge & !4095));
    }
    check("no rows", "another length", &put(field(0), 0));
    check("no columns", "another length", &put(field(1), 0));
    check("a place within a page", "does not begin at a page", &put(field(2), 4096 + 64));
    check("in the header", "lies over", &put(field(2), 0));
    check("behind the end", "outside the file", &put(field(2), 1 << 30));
    check("a type without a packed form", "type", &|table| table[ENTRY + NAME] = 1);
    check("a type of nobody", "type", &|table| table[ENTRY + NAME..][..4].fill(0xFF));
    check("a name that is no text", "not text", &|table| table[ENTRY + 3] = 0xFF);
    check("a long name", "too long", &|table| table[ENTRY..ENTRY + 2].fill(0xFF));
    check("a long path", "cut off", &|table| table[..4].fill(0xFF));
    check("an end too soon", "", &|table| table.truncate(table.len() - 1));
    check("something behind", "followed by", &|table| table.push(0));
    check("nothing", "", &|table| table.clear());
    // The second and third entries: one name for both, one place for both.
    let second = ENTRY + NAME + 4 + 5 * 8;
    let third = second + 2 + 1 + 4 + 5 * 8;
    check("two of a name", "name of another", &move |table| table[third + 2] = b'b');
    check("two at a place", "lies over", &move |table| {
        let at = second + 2 + 1 + 4 + 2 * 8;
        let place: Vec<u8> = table[at..at + 8].to_vec();
        let at = third + 2 + 1 + 4 + 2 * 8;
        table[at..at + 8].copy_from_slice(&place);
    });
}

/// Found by the fuzz target `packed_file`: a table that begins behind the end panicked.
#[test]
fn a_table_that_is_elsewhere_is_refused() {
    let file = file_of(&parts(), 1 << 20);
    let len = file.len() as u64;
    for (at, bytes) in [(len + 4096, 152), (len - 8, 16), (0, len), (len, 0), (u64::MAX, 2), (len, u64::MAX)]
    {
        let mut forged = file.clone();
        forged[24..32].copy_from_slice(&at.to_le_bytes());
        forged[32..40].copy_from_slice(&bytes.to_le_bytes());
        let header_sum = sum(&forged[..112]);
        forged[112..120].copy_from_slice(&header_sum.to_le_bytes());
        assert!(PackedFile::from_bytes(forged).is_err(), "{at} and {bytes}");
    }
}

#[test]
fn other_versions_and_files_that_are_something_else() {
    let file = file_of(&parts(), 1 << 20);
    let check = |at: usize, expected: &dyn Fn(PackedError) -> bool| {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let error = PackedFile::from_bytes(changed).err().unwrap();
        let text = error.to_string();
        assert!(expected(error), "{at}: {text}");
    };
    check(0, &|error| matches!(error, PackedError::Magic));
    check(8, &|error| matches!(error, PackedError::Version { .. }));
    check(12, &|error| matches!(error, PackedError::Version { .. }));
    for at in 16..120 {
        check(at, &|error| matches!(error, PackedError::Sum { .. }));
    }
    for len in [0, 7, PAGE - 1] {
        assert!(matches!(PackedFile::from_bytes(file[..len].to_vec()), Err(PackedError::Magic)));
    }
    let longer = [file.as_slice(), &[0]].concat();
    assert!(matches!(PackedFile::from_bytes(longer), Err(PackedError::Length { .. })));
    assert!(PackedFile::from_bytes(b"GGUF and something more".repeat(1000)).is_err());
}

#[test]
fn weights_that_rot_are_found_when_looked_for() {
    let mut file = file_of(&parts(), 1 << 20);
    file[3 * PAGE] ^= 4;
    let file = PackedFile::from_bytes(file).unwrap();
    let error = file.verify().unwrap_err().to_string();
    assert!(error.contains("the sum of b is another"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Whatever is cut or flipped: an error, or a file that says the same as before.
    #[test]
    fn damage_is_found_or_does_no_harm(place in 0.0f64..1.0, bit in 0u32..8, cut in any::<bool>()) {
        let mut file = file_of(&parts(), 1 << 20);
        let sound = PackedFile::from_bytes(file.clone()).unwrap();
        let at = (place * file.len() as f64) as usize;
        if cut {
            file.truncate(at);
            prop_assert!(PackedFile::from_bytes(file).is_err());
        } else {
            file[at] ^= 1 << bit;
            if let Ok(file) = PackedFile::from_bytes(file) {
                prop_assert_eq!(file.tensors(), sound.tensors());
                prop_assert_eq!(file.source(), sound.source());
                prop_assert_eq!(file.source_path(), sound.source_path());
            }
        }
    }

    /// Any bytes behind a sound beginning.
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(PackedFile::from_bytes(noise.clone()).is_err());
        let mut file = file_of(&parts(), 1 << 20);
        file.truncate(120);
        file.extend(noise);
        prop_assert!(PackedFile::from_bytes(file).is_err());
    }
}

#[test]
fn versions_of_a_model_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let write = |path: &Path, text: &str| {
        let mut writer = weights::gguf::write::Writer::new();
        writer.value("general.name", &weights::Value::String(text));
        std::fs::write(path, writer.finish()).unwrap();
        SourceVersion::of(&weights::Gguf::open(path).unwrap()).unwrap()
    };
    let (one, two) = (write(&path, "one"), write(&path, "two"));
    assert_eq!(one.stamp.size, two.stamp.size);
    assert_ne!(one.header_sum, two.header_sum);
    assert_eq!(two.stamp, FileStamp::of(&path).unwrap());
    assert!(SourceVersion::of(&weights::Gguf::from_bytes(std::fs::read(&path).unwrap()).unwrap()).is_none());
}
