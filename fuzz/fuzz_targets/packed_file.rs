//! Any bytes as a file of packed weights, as they are and with their sums and length put right: an error, or a file whose
//! every matrix lies inside it, apart from the others, and can be multiplied with. Never a panic, never a byte outside.
#![no_main]

use std::sync::Arc;

use kernels::{Compute, Cpu, MatrixSource};
use libfuzzer_sys::fuzz_target;
use weights::PackedFile;
use weights::packed::sum;

const PAGE: usize = 4096;

fuzz_target!(|data: &[u8]| {
    walk(data.to_vec());
    if data.len() >= PAGE {
        walk(repaired(data.to_vec()));
    }
});

/// The same with the fields that no chance would get right: length of the file, sums of table and header.
fn repaired(mut file: Vec<u8>) -> Vec<u8> {
    let number =
        |file: &[u8], at: usize| u64::from_le_bytes(*file[at..].first_chunk().expect("a whole page"));
    let put = |file: &mut [u8], at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let len = file.len();
    put(&mut file, 16, len as u64);
    let table_at = (number(&file, 24) as usize).clamp(PAGE, len);
    put(&mut file, 32, (len - table_at) as u64);
    let table_sum = sum(&file[table_at..]);
    put(&mut file, 48, table_sum);
    let header_sum = sum(&file[..112]);
    put(&mut file, 112, header_sum);
    file
}

fn walk(bytes: Vec<u8>) {
    let len = bytes.len();
    let file = match PackedFile::from_bytes(bytes) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().len() < 2000, "an error message does not repeat the file");
            return;
        }
    };
    let mut end = PAGE;
    for tensor in file.tensors() {
        assert!(tensor.range.start >= end && tensor.range.end <= len, "{tensor:?}");
        assert!(tensor.range.start.is_multiple_of(PAGE) && !tensor.range.is_empty());
        end = tensor.range.end;
        let form = file.form(tensor);
        assert_eq!(form.bytes().len(), tensor.range.len());
        let Some(row_bytes) = tensor.kind.row_bytes(tensor.columns) else { panic!("rows of {tensor:?}") };
        if row_bytes * tensor.rows > 1 << 20 {
            continue;
        }
        let mut cpu = Cpu::new(1);
        let source = MatrixSource {
            storage: Arc::new(vec![0; row_bytes * tensor.rows]),
            range: 0..row_bytes * tensor.rows,
            kind: tensor.kind,
            rows: tensor.rows,
            columns: tensor.columns,
            use_for_products: true,
        };
        // Refused when the memory happens not to begin at a cache line.
        if let Ok(matrix) = cpu.stored_matrix(source, form) {
            let (mut x, mut out) = (cpu.activation(tensor.columns), cpu.activation(tensor.rows));
            cpu.embed(&matrix, &[0], 1.0, &mut x);
            cpu.matmul(&matrix, &mut x, &mut out);
        }
    }
    let _ = file.verify();
}
