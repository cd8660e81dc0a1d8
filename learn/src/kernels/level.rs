//! Instruction sets at run time: one generic body, compiled once per level, chosen by the caller.
//! A level changes speed, never bits.

mod vector;

pub use vector::Vector;
pub(crate) use vector::prefetch;

use crate::algorithm::LearnError;

/// An instruction set that this machine has. Only this module makes one, so that holding a level is
/// the proof that its instructions may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A computation compiled once per level. `run` and all that it calls must be `#[inline(always)]`,
/// or its inner loops keep the baseline's instructions.
pub trait Kernel {
    /// What is left at the end.
    type Output;
    /// The body; `V` is the level's register, for the loops that are blocked by hand.
    fn run<V: Vector>(self) -> Self::Output;
}

impl Level {
    /// The widest level of this machine.
    pub fn detect() -> Level {
        *Level::available().last().expect("the baseline is always there")
    }

    /// All levels of this machine, narrowest first.
    pub fn available() -> Vec<Level> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only x86-64 has more than one level"))]
        let mut levels = vec![Level(Kind::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                levels.push(Level(Kind::Avx2));
            }
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512bw")
            {
                levels.push(Level(Kind::Avx512));
            }
        }
        levels
    }

    /// The level of this name, if the machine has it.
    pub fn named(name: &str) -> Result<Level, LearnError> {
        let levels = Level::available();
        levels.iter().find(|l| l.name() == name).copied().ok_or_else(|| {
            let names: Vec<&str> = levels.iter().map(|l| l.name()).collect();
            LearnError::Param {
                name: "level".into(),
                message: format!("this machine has no instruction set `{name}`; it has {}", names.join(", ")),
            }
        })
    }

    /// `sse2` (elsewhere `portable`), `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Baseline if cfg!(target_arch = "x86_64") => "sse2",
            Kind::Baseline => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Runs the body compiled for this level.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Baseline => baseline::<vector::Sse2, K>(kernel),
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Baseline => baseline::<vector::Portable, K>(kernel),
            // SAFETY: a level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::<vector::Avx2, K>(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::<vector::Avx512, K>(kernel) },
        }
    }
}

#[inline(never)]
fn baseline<V: Vector, K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V>()
}

// No level enables FMA: a fused product has other bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline(never)]
unsafe fn avx2<V: Vector, K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
#[inline(never)]
unsafe fn avx512<V: Vector, K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V>()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn levels_have_names_and_unknown_ones_are_refused() {
        for level in Level::available() {
            assert_eq!(Level::named(level.name()).unwrap(), level);
        }
        let error = Level::named("mmx").unwrap_err().to_string();
        assert!(error.contains("no instruction set `mmx`"), "{error}");
    }
}
