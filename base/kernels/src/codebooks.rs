//! Codebooks of block types: IQ, MXFP4, NF4.
//!
//! Source: `ggml-common.h` of llama.cpp (`iq2xxs_grid`, `kvalues_iq4nl`), where each grid entry is eight bytes out of
//! {8, 25, 43}; here an entry is sixteen bits, two for each number.

/// The 256 codewords of IQ2_XXS: number `j` of a codeword is `IQ2_LEVELS[(word >> 2j) & 3]`.
const IQ2_XXS_WORDS: [u16; 256] = [
    0x0000, 0x0002, 0x0005, 0x0008, 0x000a, 0x0011, 0x0014, 0x0020, 0x0022, 0x0028, 0x002a, 0x0041, 0x0044,
    0x0050, 0x0058, 0x0061, 0x0064, 0x0080, 0x0082, 0x008a, 0x00a2, 0x0101, 0x0104, 0x0110, 0x0115, 0x0140,
    0x0184, 0x0198, 0x0200, 0x0202, 0x0222, 0x0282, 0x0401, 0x0404, 0x0410, 0x0421, 0x0424, 0x0440, 0x0442,
    0x0448, 0x0460, 0x0481, 0x0484, 0x0490, 0x04a4, 0x0500, 0x0502, 0x0508, 0x0520, 0x0546, 0x0569, 0x0580,
    0x0591, 0x0609, 0x0610, 0x0640, 0x0684, 0x06a4, 0x0800, 0x0805, 0x0808, 0x0814, 0x0828, 0x0841, 0x0844,
    0x0850, 0x0852, 0x0888, 0x0904, 0x0940, 0x0a02, 0x0a14, 0x1001, 0x1004, 0x1010, 0x1021, 0x1040, 0x1060,
    0x1084, 0x1090, 0x1095, 0x1100, 0x1108, 0x1120, 0x1150, 0x115a, 0x1180, 0x1224, 0x1245, 0x1400, 0x1408,
    0x1420, 0x1425, 0x1449, 0x1480, 0x1518, 0x1562, 0x1600, 0x1616, 0x1801, 0x1804, 0x1810, 0x1840, 0x1881,
    0x1900, 0x1905, 0x19a0, 0x1a51, 0x2000, 0x2002, 0x200a, 0x2044, 0x2061, 0x2080, 0x2082, 0x2129, 0x2148,
    0x2200, 0x2202, 0x2401, 0x2404, 0x2410, 0x2440, 0x2456, 0x2500, 0x2541, 0x2564, 0x2690, 0x2808, 0x2820,
    0x2894, 0x2a44, 0x4001, 0x4004, 0x4010, 0x4018, 0x4021, 0x4024, 0x4040, 0x4048, 0x4056, 0x4060, 0x4081,
    0x4084, 0x4090, 0x4100, 0x4120, 0x4161, 0x4180, 0x4185, 0x4201, 0x4210, 0x4248, 0x4256, 0x4268, 0x4400,
    0x4408, 0x4420, 0x4480, 0x4499, 0x4512, 0x4524, 0x4600, 0x4801, 0x4804, 0x4810, 0x4840, 0x4845, 0x4900,
    0x4958, 0x4961, 0x4982, 0x4a45, 0x4a90, 0x5000, 0x5008, 0x5011, 0x5019, 0x5020, 0x5080, 0x5088, 0x5104,
    0x5142, 0x51a4, 0x5291, 0x5490, 0x5492, 0x550a, 0x5601, 0x5654, 0x5800, 0x5811, 0x5819, 0x5864, 0x5940,
    0x5a08, 0x6004, 0x6010, 0x6040, 0x6068, 0x6100, 0x6155, 0x6218, 0x6260, 0x6400, 0x6405, 0x6510, 0x6512,
    0x6584, 0x6842, 0x8000, 0x8002, 0x800a, 0x8041, 0x8082, 0x8104, 0x8118, 0x8140, 0x8211, 0x8401, 0x8404,
    0x8410, 0x8415, 0x8440, 0x8460, 0x8500, 0x8546, 0x8594, 0x8609, 0x8640, 0x8660, 0x8802, 0x8904, 0x8a11,
    0x9004, 0x9010, 0x9024, 0x9040, 0x90a1, 0x9116, 0x9180, 0x9245, 0x9400, 0x9422, 0x9444, 0x9551, 0x9881,
    0x9920, 0xa002, 0xa050, 0xa085, 0xa109, 0xa200, 0xa418, 0xa850, 0xa904,
];

const IQ2_LEVELS: [f32; 4] = [8.0, 25.0, 43.0, 0.0];

/// The codewords of IQ2_XXS as numbers, 8 KiB.
pub(crate) static IQ2_XXS_GRID: [[f32; 8]; 256] = grid();

const fn grid() -> [[f32; 8]; 256] {
    let mut out = [[0.0; 8]; 256];
    let mut word = 0;
    while word < 256 {
        let mut j = 0;
        while j < 8 {
            out[word][j] = IQ2_LEVELS[((IQ2_XXS_WORDS[word] >> (2 * j)) & 3) as usize];
            j += 1;
        }
        word += 1;
    }
    out
}

/// Signs of eight numbers from seven bits, as the sign bits of eight f32: bit `j` set means number `j` is negative, and
/// the eighth sign makes their count even. 4 KiB.
pub(crate) static IQ2_SIGNS: [[u32; 8]; 128] = signs();

const fn signs() -> [[u32; 8]; 128] {
    let mut out = [[0; 8]; 128];
    let mut word = 0u32;
    while word < 128 {
        let eight = word | ((word.count_ones() & 1) << 7);
        let mut j = 0;
        while j < 8 {
            out[word as usize][j] = ((eight >> j) & 1) << 31;
            j += 1;
        }
        word += 1;
    }
    out
}

/// The sixteen levels of IQ4_NL and IQ4_XS.
pub(crate) const IQ4_LEVELS: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// The codewords of IQ2_XXS as eight bytes of level numbers, the first in the lowest. 2 KiB.
pub(crate) static IQ2_XXS_LEVELS: [u64; 256] = levels();

const fn levels() -> [u64; 256] {
    let mut out = [0; 256];
    let mut word = 0;
    while word < 256 {
        let mut j = 0;
        while j < 8 {
            out[word] |= (((IQ2_XXS_WORDS[word] >> (2 * j)) & 3) as u64) << (8 * j);
            j += 1;
        }
        word += 1;
    }
    out
}

/// The levels of IQ2_XXS as bytes, 64 added, for lookups of sixteen.
pub(crate) const IQ2_BYTES: [u8; 16] = [64 + 8, 64 + 25, 64 + 43, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The sixteen numbers of MXFP4 (a sign, two bits of exponent, one of mantissa), doubled.
pub(crate) const MXFP4_LEVELS: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// [`MXFP4_LEVELS`] as bytes, 16 added.
pub(crate) const MXFP4_BYTES: [u8; 16] = bytes(&MXFP4_LEVELS, 16);

/// The sixteen levels of NF4, which is NormalFloat4 (Dettmers et al., QLoRA, 2023): quantiles of the normal distribution from −1
/// to 1 with an exact zero, here in whole 127ths, for the kernels multiply whole numbers. That moves a level by 0.2 % of the range
/// at most, and is what the format says, not an approximation of it.
pub(crate) const NF4_LEVELS: [f32; 16] =
    [-127.0, -88.0, -67.0, -50.0, -36.0, -23.0, -12.0, 0.0, 10.0, 20.0, 31.0, 43.0, 56.0, 71.0, 92.0, 127.0];

/// [`NF4_LEVELS`] as bytes, 128 added.
pub(crate) const NF4_BYTES: [u8; 16] = bytes(&NF4_LEVELS, 128);

/// [`IQ4_LEVELS`] as bytes, 128 added.
pub(crate) const IQ4_BYTES: [u8; 16] = bytes(&IQ4_LEVELS, 128);

const fn bytes(levels: &[f32; 16], plus: i32) -> [u8; 16] {
    let mut out = [0; 16];
    let mut j = 0;
    while j < 16 {
        out[j] = (levels[j] as i32 + plus) as u8;
        j += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of the normal distribution up to `x`: 1/√(2π) · Σ (−1)ⁿ x^(2n+1) / (2ⁿ·n!·(2n+1)).
    fn normal(x: f64) -> f64 {
        let (mut power, mut sum) = (x, x);
        for n in 1..60 {
            power *= -x * x / f64::from(2 * n);
            sum += power / f64::from(2 * n + 1);
        }
        0.5 + sum / (2.0 * std::f64::consts::PI).sqrt()
    }

    /// Where the normal distribution has this much below it, by halving.
    fn quantile(p: f64) -> f64 {
        let (mut low, mut high) = (-4.0, 4.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if normal(middle) < p { low = middle } else { high = middle }
        }
        low
    }

    #[test]
    fn levels_of_nf4_are_quantiles_of_the_normal_distribution() {
        // Section 3 of the paper and its program: evenly spaced probabilities, eight above the middle and seven below, the
        // outermost at the mean of 1 − 1/32 and 1 − 1/30; zero between; all over the largest.
        let outermost = (1.0 - 1.0 / 32.0 + 1.0 - 1.0 / 30.0) / 2.0;
        let side = |count: u32| {
            (0..count).map(move |i| {
                let share = f64::from(i) / f64::from(count);
                quantile(outermost + (0.5 - outermost) * share) / quantile(outermost)
            })
        };
        let mut levels: Vec<f64> = side(7).map(|level| -level).chain([0.0]).chain(side(8)).collect();
        levels.sort_by(f64::total_cmp);
        assert_eq!(levels.len(), 16);
        for (ours, exact) in NF4_LEVELS.into_iter().zip(levels) {
            assert_eq!(f64::from(ours), (127.0 * exact).round(), "{exact}");
        }
    }
}
