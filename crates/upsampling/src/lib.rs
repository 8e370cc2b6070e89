//! Ways to make a picture larger, for Burn: interpolation and FIR resampling.
