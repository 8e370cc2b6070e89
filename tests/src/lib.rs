//! What crosses crates: crates joined as a program joins them (`tests/`), and here the code in the pages that people
//! read first, which is compiled and run as doc tests; and [`judge`], which reads what was drawn, with [`frechet`].

pub mod frechet;
pub mod judge;

/// A page whose code is a doc test.
#[cfg(doctest)]
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(#[doc = include_str!($path)] pub struct $name;)*
    };
}

#[cfg(doctest)]
pages! {
    Readme: "../../README.md",
    Attention: "../../docs/src/attention.md",
    Autoencoder: "../../docs/src/autoencoder.md",
    Backends: "../../docs/src/backends.md",
    Checkpoints: "../../docs/src/checkpoints.md",
    Conditioning: "../../docs/src/conditioning.md",
    Denoisers: "../../docs/src/denoisers.md",
    Detection: "../../docs/src/detection.md",
    Diffusion: "../../docs/src/diffusion.md",
    Mmdit: "../../docs/src/mmdit.md",
    Optim: "../../docs/src/optim.md",
    Text: "../../docs/src/text.md",
    Training: "../../docs/src/training.md",
    Upsampling: "../../docs/src/upsampling.md",
}
