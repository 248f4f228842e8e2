//! The number types a CPU twin runs in.

/// f32 (the fallback device) or f64 (the oracle).
pub trait Real:
    num_traits::Float
    + std::iter::Sum
    + std::ops::AddAssign
    + std::ops::MulAssign
    + Default
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// From an f32 parameter, exactly.
    fn of(value: f32) -> Self;
    /// From an f64 constant, rounded.
    fn of64(value: f64) -> Self;
    /// To f64, exactly.
    fn f64(self) -> f64;
    /// The complementary error function.
    fn erfc(self) -> Self;
}

impl Real for f32 {
    #[inline]
    fn of(value: f32) -> Self {
        value
    }
    #[inline]
    fn of64(value: f64) -> Self {
        value as f32
    }
    #[inline]
    fn f64(self) -> f64 {
        f64::from(self)
    }
    fn erfc(self) -> Self {
        libm::erfcf(self)
    }
}

impl Real for f64 {
    #[inline]
    fn of(value: f32) -> Self {
        f64::from(value)
    }
    #[inline]
    fn of64(value: f64) -> Self {
        value
    }
    #[inline]
    fn f64(self) -> f64 {
        self
    }
    fn erfc(self) -> Self {
        libm::erfc(self)
    }
}
