//! A GGUF file whose every field can lie: the builder under `container`. Nothing is checked and nothing is kept
//! consistent, on purpose.

/// A header, pairs and tensors that say what they are told.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
    /// `None`: the true number.
    pub(super) tensor_count: Option<u64>,
    /// `None`: the true number.
    pub(super) pair_count: Option<u64>,
    pub(super) pairs: Vec<Vec<u8>>,
    pub(super) tensors: Vec<Vec<u8>>,
    /// What the data section's start is rounded up to.
    pub(super) alignment: usize,
    /// Bytes of the data section.
    pub(super) data: usize,
}

impl Raw {
    pub(super) const fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            pair_count: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: 0,
        }
    }

    /// A pair whose value is the bytes given, whatever the type says.
    pub(super) fn pair(mut self, key: &[u8], type_id: u32, value: &[u8]) -> Self {
        self.pairs.push([&string(key)[..], &type_id.to_le_bytes(), value].concat());
        self
    }

    /// Bytes where a pair should be.
    pub(super) fn pair_bytes(mut self, bytes: &[u8]) -> Self {
        self.pairs.push(bytes.to_vec());
        self
    }

    pub(super) fn tensor(self, name: &[u8], shape: &[u64], type_id: u32, offset: u64) -> Self {
        self.tensor_of(name, shape.len() as u32, shape, type_id, offset)
    }

    /// A tensor that may claim another number of dimensions than it has.
    pub(super) fn tensor_of(
        mut self,
        name: &[u8],
        dims: u32,
        shape: &[u64],
        type_id: u32,
        offset: u64,
    ) -> Self {
        let shape: Vec<u8> = shape.iter().flat_map(|extent| extent.to_le_bytes()).collect();
        let parts =
            [&string(name)[..], &dims.to_le_bytes(), &shape, &type_id.to_le_bytes(), &offset.to_le_bytes()];
        self.tensors.push(parts.concat());
        self
    }

    /// Bytes where a tensor description should be.
    pub(super) fn tensor_bytes(mut self, bytes: &[u8]) -> Self {
        self.tensors.push(bytes.to_vec());
        self
    }

    pub(super) fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        file.extend(self.pairs.concat());
        file.extend(self.tensors.concat());
        if self.data > 0 {
            file.resize(file.len().next_multiple_of(self.alignment) + self.data, 0);
        }
        file
    }
}

/// A string as GGUF has them: length, bytes.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// The beginning of an array: element type, claimed length.
pub(super) fn array(element: u32, len: u64) -> Vec<u8> {
    [&element.to_le_bytes()[..], &len.to_le_bytes()].concat()
}
