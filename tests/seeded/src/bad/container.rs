//! Files that lie about their structure: the cases of `Layer::Container`, in the order of a file. Numbers of value and
//! tensor types are those of the format.

use super::{
    Case, Layer,
    raw::{Raw, array, string},
    sound,
};
use crate::Family;

// Value types.
const U16: u32 = 2;
const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F64: u32 = 12;
// Tensor types.
const T_F32: u32 = 0;
const T_F16: u32 = 1;
const T_Q8_0: u32 = 8;
const T_Q4_K: u32 = 12;

pub(super) fn cases() -> Vec<Case> {
    [other_files(), headers(), keys(), values(), general(), tensors(), shapes(), data()]
        .concat()
        .into_iter()
        .map(|(name, bytes)| Case { name, bytes, layer: Layer::Container })
        .collect()
}

type Named = (&'static str, Vec<u8>);

pub(super) fn endless_strings(strings: u64) -> Vec<u8> {
    // Followed by zeros: strings of length 0.
    Raw::new().pair(b"tokenizer.ggml.tokens", ARRAY, &array(STRING, strings)).build()
}

fn other_files() -> Vec<Named> {
    let inside_zip = [b"PK\x03\x04\x14\0\0\0\0\0".as_slice(), b"model.gguf", &sound(Family::Llama)].concat();
    let json = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let big_endian = [
        b"GGUF".as_slice(),
        &3u32.to_be_bytes(),
        &0u64.to_be_bytes(),
        &1u64.to_be_bytes(),
        &20u64.to_be_bytes(),
        b"general.architecture",
    ]
    .concat();
    vec![
        ("empty file", Vec::new()),
        ("big-endian file", big_endian),
        ("big-endian magic", b"FUGG\0\0\0\x03".to_vec()),
        ("GGUF inside a zip", inside_zip),
        ("safetensors named .gguf", [&string(json)[..], &[0; 4]].concat()),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()),
        ("GGML of 2023", b"tjgg\x03\0\0\0\0\x7d\0\0".to_vec()),
        ("pickle", b"\x80\x02ccollections\nOrderedDict\n".to_vec()),
        ("Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec()),
        ("web page", b"<!DOCTYPE html><html><title>404</title></html>".to_vec()),
    ]
}

fn headers() -> Vec<Named> {
    let version = |version| Raw { version, ..Raw::new() }.build();
    let tensors = |count| Raw { tensor_count: Some(count), ..Raw::new() }.data(1 << 12).build();
    let pairs = |count| Raw { pair_count: Some(count), ..Raw::new() }.data(1 << 12).build();
    vec![
        // CVE-2024-39720: only the magic.
        ("four bytes GGUF", b"GGUF".to_vec()),
        ("cut in the version", b"GGUF\x03\0".to_vec()),
        ("cut in the counts", version(3)[..20].to_vec()),
        ("bad magic", Raw { magic: *b"GGUX", ..Raw::new() }.build()),
        ("version 0", version(0)),
        ("version 1", version(1)),
        ("version 4", version(4)),
        ("version 2^32 - 1", version(u32::MAX)),
        ("tensor count 2^64 - 1", tensors(u64::MAX)),
        // Advisory 27940: count × size of ggml's tensor structure wraps.
        ("tensor count wraps a multiplication", tensors(u64::MAX / 368 + 1)),
        ("tensor count 2^32", tensors(1 << 32)),
        ("one tensor more than there is", Raw { tensor_count: Some(2), ..one_tensor() }.build()),
        ("pair count 2^64 - 1", pairs(u64::MAX)),
        ("pair count 2^32", pairs(1 << 32)),
        ("pairs claimed in zeros", pairs(100)),
        ("cut in the middle of a sound file", sound(Family::Llama)[..5000].to_vec()),
    ]
}

fn keys() -> Vec<Named> {
    let one = 1u32.to_le_bytes();
    let key = |key: &[u8]| Raw::new().pair(key, U32, &one).data(64).build();
    let claimed = |length: u64| {
        Raw::new()
            .pair_bytes(&[&length.to_le_bytes()[..], b"key", &U32.to_le_bytes(), &one].concat())
            .data(64)
            .build()
    };
    vec![
        ("key length 2^64 - 1", claimed(u64::MAX)),
        ("key length 2^63", claimed(1 << 63)),
        ("key length beyond the file", claimed(1000)),
        ("empty key", key(b"")),
        ("key of 65,536 bytes", key(&[b'k'; 65_536])),
        ("key not UTF-8", key(b"general.\xff\xfe")),
        (
            "duplicate key",
            Raw::new().pair(b"a", U32, &one).pair(b"b", U32, &one).pair(b"a", F32, &one).build(),
        ),
    ]
}

fn values() -> Vec<Named> {
    let value = |type_id, bytes: &[u8]| Raw::new().pair(b"some.key", type_id, bytes).data(64).build();
    let values = |element, len, bytes: &[u8]| value(ARRAY, &[&array(element, len)[..], bytes].concat());
    let mut nested = array(ARRAY, 1).repeat(1000);
    nested.extend(array(U32, 0));
    vec![
        ("value type 13", value(13, &[0; 8])),
        ("value type 2^32 - 1", value(u32::MAX, &[0; 8])),
        ("boolean 2", value(BOOL, &[2])),
        ("array of booleans with a 7", values(BOOL, 3, &[0, 1, 7])),
        // CVE-2024-23496: length + 1 wraps to an allocation of nothing.
        ("string length 2^64 - 1", value(STRING, &u64::MAX.to_le_bytes())),
        ("string length 2^40", value(STRING, &(1u64 << 40).to_le_bytes())),
        // CVE-2025-0315 and Ollama's 17042: memory for a claimed array.
        ("array of 2^32 strings", values(STRING, 1 << 32, &[])),
        ("array of 2^31 tokens", endless_strings(1 << 31)),
        ("array of 2^64 - 1 strings", values(STRING, u64::MAX, &[])),
        ("array whose bytes wrap", values(F64, (1 << 61) + 1, &[0; 8])),
        ("array beyond the file", values(U16, 1000, &[0; 8])),
        ("string of an array beyond the file", values(STRING, 2, &[&string(b"a")[..], &[0xff; 8]].concat())),
        ("array of an unknown type", values(77, 1, &[0; 8])),
        ("array of arrays", values(ARRAY, 1, &[&array(U32, 1)[..], &[0; 4]].concat())),
        ("array of arrays, 1,000 deep", value(ARRAY, &nested)),
        ("value cut off", Raw::new().pair(b"some.key", F64, &[0; 3]).build()),
    ]
}

fn general() -> Vec<Named> {
    let with = |key: &[u8], type_id, bytes: &[u8]| one_tensor().pair(key, type_id, bytes).build();
    let alignment = |value: u32| with(b"general.alignment", U32, &value.to_le_bytes());
    let split = |no: u16, count: u16| {
        one_tensor()
            .pair(b"split.no", U16, &no.to_le_bytes())
            .pair(b"split.count", U16, &count.to_le_bytes())
            .build()
    };
    vec![
        // CVE-2025-0317: division by the alignment.
        ("alignment 0", alignment(0)),
        ("alignment 13", alignment(13)),
        ("alignment 1", alignment(1)),
        ("alignment 2^31", alignment(1 << 31)),
        ("alignment 2^32 - 1", alignment(u32::MAX)),
        ("alignment as text", with(b"general.alignment", STRING, &string(b"32"))),
        ("alignment of 64 bits", with(b"general.alignment", 10, &32u64.to_le_bytes())),
        ("part 1 of 3", split(0, 3)),
        ("part 4 of 3", split(3, 3)),
        ("part 2 of nothing", with(b"split.no", U16, &[1, 0])),
        ("part count as text", with(b"split.count", STRING, &string(b"3"))),
    ]
}

fn tensors() -> Vec<Named> {
    let named = |name: &[u8]| Raw::new().tensor(name, &[8], T_F32, 0).data(64).build();
    let typed = |type_id| Raw::new().tensor(b"t", &[256], type_id, 0).data(4096).build();
    let placed = |offset| Raw::new().tensor(b"t", &[8], T_F32, offset).data(64).build();
    let long = |length: u64| {
        Raw::new().tensor_bytes(&[&length.to_le_bytes()[..], &[b't'; 40]].concat()).data(64).build()
    };
    let two = |a: u64, b: u64| {
        Raw::new().tensor(b"a", &[16], T_F32, a).tensor(b"b", &[16], T_F32, b).data(256).build()
    };
    let inconsistent = Raw::new()
        .pair(b"general.alignment", U32, &64u32.to_le_bytes())
        .tensor(b"a", &[8], T_F32, 0)
        .tensor(b"b", &[8], T_F32, 32)
        .data(256);
    vec![
        ("tensor name length 2^64 - 1", long(u64::MAX)),
        ("tensor name length beyond the file", long(500)),
        ("tensor name of 64 bytes", named(&[b't'; 64])),
        ("tensor name empty", named(b"")),
        ("tensor name not UTF-8", named(b"blk.\xff")),
        ("tensor type 4, removed", typed(4)),
        ("tensor type 21, not supported", typed(21)),
        ("tensor type 255", typed(255)),
        ("tensor type 2^32 - 1", typed(u32::MAX)),
        ("tensor offset not aligned", placed(4)),
        ("tensor offset beyond the file", placed(1 << 20)),
        ("tensor offset 2^64 - 32", placed(u64::MAX - 31)),
        ("tensors laid out by another alignment", inconsistent.build()),
        (
            "duplicate tensor",
            Raw::new().tensor(b"t", &[8], T_F32, 0).tensor(b"t", &[8], T_F32, 32).data(64).build(),
        ),
        // Advisory 7482: tensors over one another.
        ("tensors at the same place", two(0, 0)),
        ("tensors that overlap by half", two(0, 32)),
        ("tensors that overlap, out of order", two(32, 0)),
    ]
}

fn shapes() -> Vec<Named> {
    let shaped = |shape: &[u64], type_id| Raw::new().tensor(b"t", shape, type_id, 0).data(256).build();
    let dims = |dims, shape: &[u64]| Raw::new().tensor_of(b"t", dims, shape, T_F32, 0).data(256).build();
    vec![
        ("no dimensions", dims(0, &[])),
        ("5 dimensions", dims(5, &[1; 5])),
        ("2^32 - 1 dimensions", dims(u32::MAX, &[1])),
        ("extent 0", shaped(&[8, 0], T_F32)),
        ("row length 0", shaped(&[0, 8], T_F32)),
        ("extent negative", shaped(&[8, u64::MAX], T_F32)),
        ("extent 2^63", shaped(&[1 << 63], T_F32)),
        ("product of extents wraps to 0", shaped(&[1 << 32, 1 << 32], T_F32)),
        ("product of extents wraps to 1", shaped(&[1 << 32, 1 << 32, 1, 1], T_F16)),
        ("product of extents 2^63", shaped(&[1 << 21, 1 << 21, 1 << 21], T_F32)),
        ("bytes of the tensor wrap", shaped(&[1 << 62], T_F32)),
        ("bytes wrap when padded", shaped(&[(1 << 63) - 1], T_F16)),
        ("row not whole blocks of 32", shaped(&[33], T_Q8_0)),
        ("row not whole blocks of 256", shaped(&[128, 2], T_Q4_K)),
    ]
}

fn data() -> Vec<Named> {
    let whole = one_tensor().build();
    let huge =
        Raw::new().tensor(b"a", &[1 << 60], T_F32, 0).tensor(b"b", &[1 << 60], T_F32, 1 << 62).data(64);
    let sound = sound(Family::Gemma3);
    vec![
        ("data one byte short", whole[..whole.len() - 1].to_vec()),
        ("no data", Raw { data: 0, ..one_tensor() }.build()),
        ("data of another alignment", Raw { alignment: 8, ..one_tensor() }.pair(b"pad", BOOL, &[1]).build()),
        ("sizes of tensors sum over 2^63", huge.build()),
        // Cut in the last tensor, behind the padding of the file's end.
        ("a download cut off", sound[..sound.len() - 300].to_vec()),
    ]
}

/// A sound file with one tensor that fills the data section.
fn one_tensor() -> Raw {
    Raw::new().tensor(b"t", &[16], T_F32, 0).data(64)
}
