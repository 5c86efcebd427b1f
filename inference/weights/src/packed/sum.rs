//! XXH64 with seed 0: the sums of packed files, as the xxHash specification (Y. Collet, 2016) describes them. Fast, and
//! against accidents only: who may write the file may write the sum.

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];
const STRIPE: usize = 32;

/// A sum over bytes that come in pieces.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    lanes: [u64; 4],
    /// The beginning of a stripe that is not whole yet.
    rest: [u8; STRIPE],
    rest_len: usize,
    len: u64,
}

/// The sum of these bytes, as header, table and matrices of a packed file carry it.
pub fn sum(bytes: &[u8]) -> u64 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.value()
}

impl Sum {
    pub(super) const fn new() -> Self {
        let [p1, p2, ..] = PRIMES;
        Self {
            lanes: [p1.wrapping_add(p2), p2, 0, 0u64.wrapping_sub(p1)],
            rest: [0; STRIPE],
            rest_len: 0,
            len: 0,
        }
    }

    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        self.len = self.len.wrapping_add(bytes.len() as u64);
        if self.rest_len > 0 {
            let (head, after) = bytes.split_at(bytes.len().min(STRIPE - self.rest_len));
            self.rest[self.rest_len..][..head.len()].copy_from_slice(head);
            self.rest_len += head.len();
            bytes = after;
            if self.rest_len < STRIPE {
                return;
            }
            let rest = self.rest;
            stripe(&mut self.lanes, &rest);
            self.rest_len = 0;
        }
        let (stripes, tail) = bytes.as_chunks::<STRIPE>();
        let mut lanes = self.lanes;
        for bytes in stripes {
            stripe(&mut lanes, bytes);
        }
        self.lanes = lanes;
        self.rest[..tail.len()].copy_from_slice(tail);
        self.rest_len = tail.len();
    }

    pub(super) fn value(&self) -> u64 {
        let [p1, p2, p3, p4, p5] = PRIMES;
        let mut value = if self.len < STRIPE as u64 {
            p5
        } else {
            let rotated = self.lanes.into_iter().zip([1, 7, 12, 18]);
            let mut value = rotated.fold(0u64, |all, (lane, by)| all.wrapping_add(lane.rotate_left(by)));
            for lane in self.lanes {
                value = (value ^ round(0, lane)).wrapping_mul(p1).wrapping_add(p4);
            }
            value
        };
        value = value.wrapping_add(self.len);
        let (words, tail) = self.rest[..self.rest_len].as_chunks::<8>();
        for word in words {
            value ^= round(0, u64::from_le_bytes(*word));
            value = value.rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
        }
        let (words, tail) = tail.as_chunks::<4>();
        for word in words {
            value ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(p1);
            value = value.rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
        }
        for byte in tail {
            value ^= u64::from(*byte).wrapping_mul(p5);
            value = value.rotate_left(11).wrapping_mul(p1);
        }
        value = (value ^ (value >> 33)).wrapping_mul(p2);
        value = (value ^ (value >> 29)).wrapping_mul(p3);
        value ^ (value >> 32)
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

#[inline(always)]
fn stripe(lanes: &mut [u64; 4], bytes: &[u8; STRIPE]) {
    let (words, _) = bytes.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = round(*lane, u64::from_le_bytes(*word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: [(usize, u64); 14] = [
        (0, 0xEF46_DB37_51D8_E999),
        (1, 0xE934_A84A_DB05_2768),
        (3, 0xE5C7_BB45_33BC_65DD),
        (4, 0xFFCE_D860_4453_CC1E),
        (7, 0x14CC_643F_630C_72D2),
        (8, 0x884A_1736_14B8_1B8D),
        (15, 0xA948_F5F0_F6AB_AC2D),
        (31, 0xC346_D2B5_9B4D_8EE1),
        (32, 0xCBF5_9C51_16FF_32B4),
        (33, 0x0C53_5D1A_CAFB_8EAD),
        (63, 0xE26A_A9E2_A95F_8E4F),
        (64, 0xF7C6_7301_DB67_13F0),
        (100, 0x6AC1_E580_3216_6597),
        (1000, 0xF306_F04A_A88B_54D3),
    ];

    /// Bytes 0, 1, 2 … and the sums that the reference implementation (the Python package xxhash) prints for them.
    #[test]
    fn sums_are_those_of_the_reference() {
        let bytes: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        for (len, expected) in SUMS {
            assert_eq!(sum(&bytes[..len]), expected, "{len}");
        }
    }

    #[test]
    fn pieces_make_the_same_sum() {
        let bytes: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        for piece in [1, 3, 7, 31, 32, 33, 64, 999] {
            let mut parts = Sum::new();
            bytes.chunks(piece).for_each(|piece| parts.add(piece));
            assert_eq!(parts.value(), sum(&bytes), "{piece}");
        }
    }
}
