//! Instruction sets: which one this machine has, and each loop compiled for it.
//!
//! The loops are written once, over [`lanes::Lanes`], and inlined into one entry for each instruction set whose
//! features the compiler may then use. A [`Level`] exists only if the machine has it, so calling its entries is sound.
//! This folder is one of the crate's two places with `unsafe`. Tests: every level against the plain reference, in
//! `tests/forms.rs`; their single operations, with extreme values, in `check`.

#![expect(unsafe_code, reason = "vector intrinsics and calls into functions with target features")]

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(test)]
mod check;
pub(crate) mod lanes;
pub(crate) mod loops;
pub(crate) mod packed;
pub(crate) mod pairs;
pub(crate) mod panels;
pub(crate) mod requantised;
pub(crate) mod rows;
pub(crate) mod unpacked;
pub(crate) mod within;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::ops::Range;

use attention::{AttentionTask, Part};
use lanes::Portable;
use loops::MatmulTask;
use packed::{Block, PackedTask};
use panels::PanelTask;
use requantised::{Line, Panel, RequantisedTask};
use unpacked::Unpacked;
use within::WithinTask;

use crate::blocks::BlockType;
use crate::compute::Gate;
use crate::encode::{Input, encode_inline};
use crate::pages::KvType;
use crate::pool::Tile;

/// An instruction set that this machine has. Made only by [`Level::detect`] and [`Level::available`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

impl Level {
    /// The best level of this machine.
    #[must_use]
    pub fn detect() -> Self {
        *Self::available().last().expect("the portable level is always there")
    }

    /// Every level of this machine, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "aarch64", target_arch = "x86_64")),
            expect(unused_mut, reason = "other architectures add no levels")
        )]
        let mut levels = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if x86_64::has_avx2() {
                levels.push(Self(Kind::Avx2));
            }
            if x86_64::has_avx_vnni() {
                levels.push(Self(Kind::AvxVnni));
            }
            if x86_64::has_avx2() && x86_64::has_avx512() {
                levels.push(Self(Kind::Avx512));
                if bf16::has_bf16() {
                    levels.push(Self(Kind::Avx512Bf16));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if aarch64::has_neon() {
                levels.push(Self(Kind::Neon));
            }
            if aarch64::has_dotprod() {
                levels.push(Self(Kind::NeonDotprod));
            }
            if aarch64::has_i8mm() {
                levels.push(Self(Kind::NeonI8mm));
            }
        }
        levels
    }

    /// The same with products of f32 in f32.
    pub(crate) const fn exact(self) -> Self {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => Self(Kind::Avx512),
            _ => self,
        }
    }

    /// Columns of a step of `panels`: 2 where products of bfloat16 are faster than those of f32.
    pub(crate) const fn step_columns(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => 2,
            _ => 1,
        }
    }

    /// Whether `requantised` is faster than `packed`: where one instruction multiplies bytes of all sizes and adds them up.
    pub(crate) const fn requantises(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni | Kind::Avx512 | Kind::Avx512Bf16 => true,
            _ => false,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => "avx512-bf16",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonI8mm => "neon-i8mm",
        }
    }
}

/// The list of loops, passed to a macro that makes something of each.
macro_rules! with_loops {
    ($callback:ident $($extra:tt)*) => {
        $callback! {
            [$($extra)*]
            fn loops::matmul(task: &MatmulTask<'_>, scratch: &mut Vec<f32>, tile: &mut Tile<'_>);
            fn attention::attention(task: &AttentionTask<'_>, scratch: &mut Vec<f32>, part: Part<'_, '_>);
            fn within::within(task: &WithinTask<'_>, rows: Range<usize>, scratch: &mut Vec<f32>, tile: &mut Tile<'_>);
            fn panels::panels(task: &PanelTask<'_>, tile: &mut Tile<'_>);
            fn panels::panel_of(weights: &[f32], columns: usize, panel: &mut [f32]);
            fn panels::words(x: &[f32], words: &mut [f32]);
            fn loops::rms_norm(x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32]);
            fn loops::layer_norm(x: &[f32], gain: &[f32], bias: Option<&[f32]>, epsilon: f32, out: &mut [f32]);
            fn loops::activate(kind: Gate, x: &mut [f32]);
            fn loops::gate(kind: Gate, gate: &mut [f32], up: &[f32]);
            fn loops::unpack(kind: BlockType, bytes: &[u8], out: &mut [f32]);
            fn loops::to_f16(from: &[f32], to: &mut [u16]);
            fn loops::to_quants(kind: KvType, from: &[f32], quants: &mut [u8], scales: &mut [u16]);
            fn packed::packed(task: &PackedTask<'_>, memory: &mut Unpacked, tile: &mut Tile<'_>);
            fn packed::quantise(x: &[f32], shift: u32, tile: usize, out: &mut [Block]);
            fn requantised::quantise_spans(x: &[f32], t: usize, len: usize, lines: &mut [Line]);
        }
    };
}
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
use with_loops;

/// A safe front for each loop, which picks the entry of the level.
macro_rules! dispatch {
    ([] $(fn $home:ident::$name:ident($($argument:ident: $kind:ty),* $(,)?);)*) => {
        $(
            /// Runs the loop of this name at the given level.
            pub(crate) fn $name(level: Level, $($argument: $kind),*) {
                match level.0 {
                    Kind::Portable => $home::$name::<Portable>($($argument),*),
                    // SAFETY: a level is only made after its features were detected on this machine.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx2 => unsafe { x86_64::avx2::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Kind::AvxVnni => unsafe { x86_64::avx_vnni::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx512 => unsafe { x86_64::avx512::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx512Bf16 => unsafe { x86_64::avx512_bf16::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "aarch64")]
                    Kind::Neon => unsafe { aarch64::neon::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "aarch64")]
                    Kind::NeonDotprod => unsafe { aarch64::dotprod::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "aarch64")]
                    Kind::NeonI8mm => unsafe { aarch64::i8mm::$name($($argument),*) },
                }
            }
        )*
    };
}

with_loops!(dispatch);

/// Weights to blocks at the given level. Wider vectors are all that it takes from one, and AVX2's are wide enough: two
/// copies of this much code, not one for each level.
pub(crate) fn encode(level: Level, kind: BlockType, input: &Input<'_>, out: &mut [u8]) {
    match level.0 {
        // SAFETY: a level is only made after its features were detected; all of these have AVX2.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni | Kind::Avx512 | Kind::Avx512Bf16 => unsafe {
            x86_64::encode(kind, input, out);
        },
        _ => encode_inline(kind, input, out),
    }
}

/// [`requantised::requantised`] at the given level: of vectors only those that [`Level::requantises`] names.
pub(crate) fn requantised(level: Level, task: &RequantisedTask<'_>, panel: &mut Panel, tile: &mut Tile<'_>) {
    match level.0 {
        // SAFETY: a level is only made after its features were detected on this machine.
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { x86_64::requantised256(task, panel, tile) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 | Kind::Avx512Bf16 => unsafe { x86_64::requantised512(task, panel, tile) },
        _ => requantised::requantised::<Portable>(task, panel, tile),
    }
}
