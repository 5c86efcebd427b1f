//! A GGUF version 3 file built in memory, or streamed tensor by tensor: for tests, and for writing quantised models
//! later.
//!
//! The writer trusts its caller, who is us: a tensor whose bytes do not match its shape is a bug and panics. Files
//! that are wrong on purpose are made elsewhere (`seeded::bad`).

use std::io;

use kernels::BlockType;

use super::{
    ALIGNMENT_DEFAULT,
    value::{Array, Value, ValueType},
};

/// Collects pairs and tensors in the order they shall have in the file.
#[derive(Debug, Clone)]
pub struct Writer {
    pairs: Vec<u8>,
    keys: Vec<String>,
    tensors: Vec<Description>,
    alignment: u32,
}

#[derive(Debug, Clone)]
struct Description {
    name: String,
    shape: Vec<usize>,
    block_type: BlockType,
    /// `None`: they come when the file is written.
    bytes: Option<Vec<u8>>,
}

impl Description {
    fn size_bytes(&self) -> usize {
        let rows: usize = self.shape[1..].iter().product();
        let row = self.block_type.row_bytes(self.shape[0]);
        row.and_then(|row| row.checked_mul(rows)).expect("rows are whole blocks")
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self { pairs: Vec::new(), keys: Vec::new(), tensors: Vec::new(), alignment: ALIGNMENT_DEFAULT }
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $one:ident $many:ident $type:ty, $kind:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $one(&mut self, key: &str, value: $type) -> &mut Self {
                self.pair(key, ValueType::$kind).extend(value.to_le_bytes());
                self
            }

            /// An array of the same.
            pub fn $many(&mut self, key: &str, values: &[$type]) -> &mut Self {
                let out = self.array(key, ValueType::$kind, values.len());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
                self
            }
        )*
    };
}

impl Writer {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    numbers! {
        /// A number of 8 bits.
        u8 u8s u8, U8;
        /// A signed number of 8 bits.
        i8 i8s i8, I8;
        /// A number of 16 bits.
        u16 u16s u16, U16;
        /// A signed number of 16 bits.
        i16 i16s i16, I16;
        /// A number of 32 bits.
        u32 u32s u32, U32;
        /// A signed number of 32 bits.
        i32 i32s i32, I32;
        /// A number of 64 bits.
        u64 u64s u64, U64;
        /// A signed number of 64 bits.
        i64 i64s i64, I64;
        /// A floating point number of 32 bits.
        f32 f32s f32, F32;
        /// A floating point number of 64 bits.
        f64 f64s f64, F64;
    }

    /// A boolean.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.pair(key, ValueType::Bool).push(value.into());
        self
    }

    /// An array of booleans.
    pub fn bools(&mut self, key: &str, values: &[bool]) -> &mut Self {
        let out = self.array(key, ValueType::Bool, values.len());
        out.extend(values.iter().map(|value| u8::from(*value)));
        self
    }

    /// Text.
    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        put_string(self.pair(key, ValueType::String), value.as_bytes());
        self
    }

    /// An array of text; bytes that are not UTF-8 are possible, as they are in files.
    pub fn strings<S: AsRef<[u8]>>(&mut self, key: &str, values: &[S]) -> &mut Self {
        let out = self.array(key, ValueType::String, values.len());
        values.iter().for_each(|value| put_string(out, value.as_ref()));
        self
    }

    /// A value as another file holds it: for copying metadata.
    pub fn value(&mut self, key: &str, value: &Value<'_>) -> &mut Self {
        match *value {
            Value::String(text) => return self.string(key, text),
            Value::Array(Array::Strings(strings)) => {
                let strings: Vec<&[u8]> = strings.iter_bytes().collect();
                return self.strings(key, &strings);
            }
            Value::Array(Array::Numbers(numbers)) => {
                self.array(key, numbers.element(), numbers.len()).extend(numbers.bytes());
            }
            Value::Bytes(bytes) => put_string(self.pair(key, ValueType::String), bytes),
            Value::Bool(value) => return self.bool(key, value),
            Value::U8(value) => return self.u8(key, value),
            Value::I8(value) => return self.i8(key, value),
            Value::U16(value) => return self.u16(key, value),
            Value::I16(value) => return self.i16(key, value),
            Value::U32(value) => return self.u32(key, value),
            Value::I32(value) => return self.i32(key, value),
            Value::U64(value) => return self.u64(key, value),
            Value::I64(value) => return self.i64(key, value),
            Value::F32(value) => return self.f32(key, value),
            Value::F64(value) => return self.f64(key, value),
        }
        self
    }

    /// Another alignment than 32; also writes the key.
    pub fn alignment(&mut self, alignment: u32) -> &mut Self {
        assert!(alignment >= 8 && alignment.is_power_of_two(), "alignment {alignment}");
        self.alignment = alignment;
        self.u32("general.alignment", alignment)
    }

    /// A tensor; `shape[0]` is the row length.
    ///
    /// # Panics
    /// When the bytes do not match shape and type: our own mistake.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        block_type: BlockType,
        bytes: Vec<u8>,
    ) -> &mut Self {
        let tensor = Description { name: name.to_owned(), shape: shape.to_owned(), block_type, bytes: None };
        assert_eq!(tensor.size_bytes(), bytes.len(), "{name} {shape:?}");
        self.tensors.push(Description { bytes: Some(bytes), ..tensor });
        self
    }

    /// A tensor whose bytes come when the file is written, see [`Writer::stream`].
    ///
    /// # Panics
    /// When a row is not whole blocks: our own mistake.
    pub fn declare(&mut self, name: &str, shape: &[usize], block_type: BlockType) -> &mut Self {
        let tensor = Description { name: name.to_owned(), shape: shape.to_owned(), block_type, bytes: None };
        let _ = tensor.size_bytes();
        self.tensors.push(tensor);
        self
    }

    /// Whether a pair of this key was written.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let padded = |bytes: u64| bytes.next_multiple_of(u64::from(self.alignment));
        self.tensors
            .iter()
            .fold(padded(self.header_bytes()), |sum, tensor| sum + padded(tensor.size_bytes() as u64))
    }

    /// Bytes before the tensors, without padding.
    #[must_use]
    pub fn header_bytes(&self) -> u64 {
        self.header().len() as u64
    }

    /// The file.
    ///
    /// # Panics
    /// When a tensor was only declared: our own mistake.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let written = self.stream(&mut file, &mut |name, _, _| unreachable!("{name} was declared only"));
        written.expect("memory takes what is written to it");
        file
    }

    /// Writes the file; `fill` writes the bytes of each tensor that was declared, given its name and their number.
    ///
    /// # Errors
    /// When writing fails, or `fill` writes another number of bytes than it was told.
    pub fn stream(
        &self,
        out: &mut dyn io::Write,
        fill: &mut dyn FnMut(&str, usize, &mut dyn io::Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let alignment = self.alignment as usize;
        let mut out = Counted { out, bytes: 0 };
        io::Write::write_all(&mut out, &self.header())?;
        for tensor in &self.tensors {
            out.pad(alignment)?;
            let end = out.bytes + tensor.size_bytes();
            match &tensor.bytes {
                Some(bytes) => io::Write::write_all(&mut out, bytes)?,
                None => fill(&tensor.name, tensor.size_bytes(), &mut out)?,
            }
            if out.bytes != end {
                let message = format!("{} ends at {}, should at {end}", tensor.name, out.bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        out.pad(alignment)
    }

    /// Everything before the tensors' bytes.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(b"GGUF");
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.keys.len() as u64).to_le_bytes());
        header.extend(&self.pairs);
        let mut offset = 0;
        for tensor in &self.tensors {
            put_string(&mut header, tensor.name.as_bytes());
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|extent| header.extend((*extent as u64).to_le_bytes()));
            header.extend(tensor.block_type.gguf_id().to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.size_bytes()).next_multiple_of(self.alignment as usize);
        }
        header
    }

    fn pair(&mut self, key: &str, kind: ValueType) -> &mut Vec<u8> {
        self.keys.push(key.to_owned());
        put_string(&mut self.pairs, key.as_bytes());
        self.pairs.extend(kind.gguf_id().to_le_bytes());
        &mut self.pairs
    }

    fn array(&mut self, key: &str, kind: ValueType, len: usize) -> &mut Vec<u8> {
        let out = self.pair(key, ValueType::Array);
        out.extend(kind.gguf_id().to_le_bytes());
        out.extend((len as u64).to_le_bytes());
        out
    }
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// Knows how much was written, for the padding.
struct Counted<'a> {
    out: &'a mut dyn io::Write,
    bytes: usize,
}

impl Counted<'_> {
    fn pad(&mut self, alignment: usize) -> io::Result<()> {
        let missing = self.bytes.next_multiple_of(alignment) - self.bytes;
        io::Write::write_all(self, &vec![0; missing])
    }
}

impl io::Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buffer)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
